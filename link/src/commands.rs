//! Commands are delivered at least once and applied once: which were begun and what came of them is on disk before the
//! console can hear of it.

use std::collections::VecDeque;

use protocol::link::{Body, Command, CommandResult, Outcome};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::failure::Failure;
use crate::spool::Spool;
use crate::store::{Store, load};

/// How many are remembered. The console sends a command again only until it has the result, which is long before so many
/// others were given.
const REMEMBERED: usize = 256;
const FILE: &str = "commands.json";

/// A command that is to be applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// It.
    pub command: Command,
    /// Whether it was begun before, and this machine went down in the midst of it.
    pub resumed: bool,
}

/// What came of an [`Order`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Applied {
    /// Whether it was done.
    pub outcome: Outcome,
    /// A sentence.
    pub message: String,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Known {
    command: Uuid,
    /// None: it was begun.
    result: Option<CommandResult>,
    /// Where the spool has the result: its id, and at which number at most.
    reported: Option<(Uuid, u64)>,
}

/// The commands that this machine knows.
#[derive(Debug)]
pub(crate) struct Commands {
    store: Store,
    known: VecDeque<Known>,
}

impl Commands {
    pub(crate) fn open(store: &Store) -> Result<Commands, Failure> {
        let known = load(&store.path(FILE))?.unwrap_or_default();
        let mut commands = Commands { store: store.clone(), known };
        // Done, and then the machine went down.
        let unreported: Vec<Uuid> = commands
            .known
            .iter()
            .filter(|known| known.result.is_some() && known.reported.is_none())
            .map(|known| known.command)
            .collect();
        for command in unreported {
            commands.report(command)?;
        }
        Ok(commands)
    }

    /// What is to be done about a command that came. One that was done before is reported again, if its result is no
    /// longer on its way.
    pub(crate) fn begin(&mut self, command: Command) -> Result<Option<Order>, Failure> {
        let id = command.id;
        let Some(known) = self.known.iter().find(|known| known.command == id) else {
            self.known.push_back(Known { command: id, result: None, reported: None });
            // The oldest that are over; one that is not is never forgotten.
            while self.known.len() > REMEMBERED {
                let Some(over) = self.known.iter().position(|known| known.reported.is_some()) else { break };
                self.known.remove(over);
            }
            self.store.save(FILE, &self.known)?;
            return Ok(Some(Order { command, resumed: false }));
        };
        if known.result.is_none() {
            return Ok(Some(Order { command, resumed: true }));
        }
        let waits = known.reported.is_some_and(|place| self.store.spool().waits(place));
        if !waits {
            self.report(id)?;
        }
        Ok(None)
    }

    /// Keeps what came of a command, and then has the console told.
    pub(crate) fn finish(&mut self, command: Uuid, applied: Applied) -> Result<(), Failure> {
        let Some(known) = self.known.iter_mut().find(|known| known.command == command) else { return Ok(()) };
        known.result = Some(CommandResult { command, outcome: applied.outcome, message: applied.message });
        self.store.save(FILE, &self.known)?;
        self.report(command)
    }

    fn report(&mut self, command: Uuid) -> Result<(), Failure> {
        let Some(known) = self.known.iter_mut().find(|known| known.command == command) else { return Ok(()) };
        let Some(result) = known.result.clone() else { return Ok(()) };
        let spool: &Spool = self.store.spool();
        spool
            .push(Body::Result(result))
            .map_err(|e| Failure::disk("Cannot keep the result of a command", &e))?;
        known.reported = Some(spool.position());
        self.store.save(FILE, &self.known)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::Value;

    use super::*;
    use crate::spool::Bounds;

    fn command() -> Command {
        Command { id: Uuid::now_v7(), time: Timestamp::now(), kind: "reset".into(), arguments: Value::Null }
    }

    fn done() -> Applied {
        Applied { outcome: Outcome::Done, message: "As told.".into() }
    }

    /// The commands whose results wait for the console.
    fn results(store: &Store) -> Vec<Uuid> {
        let batch = store.spool().batch().unwrap();
        let result = |entry: protocol::link::Entry| match entry.body {
            Body::Result(result) => Some(result.command),
            _ => None,
        };
        batch.entries.into_iter().filter_map(result).collect()
    }

    #[test]
    fn applied_once_and_reported_until_the_console_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Bounds::default()).unwrap();
        let one = command();
        let mut commands = Commands::open(&store).unwrap();
        assert_eq!(
            commands.begin(one.clone()).unwrap(),
            Some(Order { command: one.clone(), resumed: false })
        );
        // The machine goes down in the midst of it.
        let mut commands = Commands::open(&store).unwrap();
        assert_eq!(commands.begin(one.clone()).unwrap(), Some(Order { command: one.clone(), resumed: true }));
        commands.finish(one.id, done()).unwrap();
        assert_eq!(results(&store), [one.id]);
        for _ in 0..3 {
            assert_eq!(commands.begin(one.clone()).unwrap(), None);
        }
        assert_eq!(results(&store), [one.id], "it is on its way");
        // It was acknowledged, and yet the console asks again: it was set back to an older state.
        let (id, last) = store.spool().position();
        store.spool().acknowledge(id, last).unwrap();
        assert_eq!(commands.begin(one.clone()).unwrap(), None);
        assert_eq!(results(&store), [one.id]);
    }

    #[test]
    fn a_result_that_was_kept_is_reported_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Bounds::default()).unwrap();
        let id = Uuid::now_v7();
        let result = CommandResult { command: id, outcome: Outcome::Failed, message: String::new() };
        store.save(FILE, &[Known { command: id, result: Some(result), reported: None }]).unwrap();
        Commands::open(&store).unwrap();
        assert_eq!(results(&store), [id]);
        Commands::open(&store).unwrap();
        assert_eq!(results(&store), [id]);
    }

    #[test]
    fn those_that_are_over_are_forgotten_first() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Bounds::default()).unwrap();
        let mut commands = Commands::open(&store).unwrap();
        let open = command();
        commands.begin(open.clone()).unwrap();
        for _ in 0..REMEMBERED + 10 {
            let one = command();
            commands.begin(one.clone()).unwrap();
            commands.finish(one.id, done()).unwrap();
        }
        assert_eq!(commands.known.len(), REMEMBERED);
        assert_eq!(commands.begin(open.clone()).unwrap(), Some(Order { command: open, resumed: true }));
    }
}
