//! Entries of machines: stored before they are acknowledged, each once.

use jiff::Timestamp;
use protocol::link::{Body, Condition, Entry, MAX_TEXT, Outcome, Severity};
use sqlx::AnyConnection;
use uuid::Uuid;

use super::spool::{self, New};
use crate::store::events::Event;
use crate::store::{Result, commands, conditions, events, gateways};

/// The longest reason, source and name of a condition, in bytes.
const MAX_WORD: usize = 128;
/// Entries from one look at how many events a gateway has to the next.
const TRIMMED_EVERY: u64 = 1000;

/// What came of a message's entries.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Stored {
    /// Up to which sequence all is stored.
    pub(super) acknowledged: u64,
    /// Whether anything was new.
    pub(super) news: bool,
    /// Kinds of commands that the machine has done.
    pub(super) done: Vec<String>,
    /// Whether there were results of commands, done or not: others may be next.
    pub(super) results: bool,
}

/// Stores what is new of `entries`. `None`: the gateway is deleted. To be committed before it is acknowledged.
///
/// # Errors
/// When the database fails.
pub(super) async fn store(
    db: &mut AnyConnection,
    gateway: Uuid,
    spool: Uuid,
    entries: Vec<Entry>,
    now: Timestamp,
) -> Result<Option<Stored>> {
    let Some(mark) = gateways::lock_mark(db, gateway).await? else { return Ok(None) };
    let New { mark: reached, entries, missing } = spool::merge(mark, spool, entries);
    if missing > 0 {
        let message = format!(
            "{missing} entries of the machine are missing: it or the console was set back to an older state."
        );
        note(db, gateway, Severity::Warning, "EntriesMissing", message, now).await?;
    }
    let news = !entries.is_empty();
    let (mut done, mut results) = (Vec::new(), false);
    for entry in entries {
        if let Body::Result(mut result) = entry.body {
            result.message = cut(result.message, MAX_TEXT);
            let kind = commands::finish(db, gateway, &result, now).await?;
            results = true;
            done.extend(kind.filter(|_| result.outcome == Outcome::Done));
        } else {
            one(db, gateway, entry, now).await?;
        }
    }
    if reached != mark {
        gateways::set_mark(db, gateway, reached).await?;
    }
    // Now and then, so that no machine fills the disk.
    if reached.acknowledged / TRIMMED_EVERY != mark.acknowledged / TRIMMED_EVERY {
        events::trim(db, gateway).await?;
    }
    Ok(Some(Stored { acknowledged: reached.acknowledged, news, done, results }))
}

async fn one(db: &mut AnyConnection, gateway: Uuid, entry: Entry, now: Timestamp) -> Result<()> {
    match entry.body {
        Body::Event(event) => {
            let event = Event {
                id: Uuid::now_v7(),
                gateway,
                time: entry.time,
                received_at: now,
                severity: event.severity,
                reason: cut(event.reason, MAX_WORD),
                message: cut(event.message, MAX_TEXT),
                source: cut(event.source, MAX_WORD),
            };
            events::insert(db, &event).await
        }
        Body::Condition(condition) => {
            let condition = Condition {
                kind: cut(condition.kind, MAX_WORD),
                reason: cut(condition.reason, MAX_WORD),
                message: cut(condition.message, MAX_TEXT),
                ..condition
            };
            conditions::set(db, gateway, &condition).await
        }
        Body::Dropped { count } => {
            let message =
                format!("The machine had no room left for what happened: {count} entries are lost.");
            note(db, gateway, Severity::Warning, "EntriesDropped", message, now).await
        }
        // Of a newer machine: what cannot be shown is acknowledged, or nothing after it would come. Results are not among
        // these.
        Body::Unknown | Body::Result(_) => Ok(()),
    }
}

/// Adds an event of the console's own.
///
/// # Errors
/// When the database fails.
pub(crate) async fn note(
    db: &mut AnyConnection,
    gateway: Uuid,
    severity: Severity,
    reason: &str,
    message: String,
    now: Timestamp,
) -> Result<()> {
    let event = Event {
        id: Uuid::now_v7(),
        gateway,
        time: now,
        received_at: now,
        severity,
        reason: reason.to_owned(),
        message,
        source: "console".to_owned(),
    };
    events::insert(db, &event).await
}

/// Cuts text to so many bytes, between characters, and takes out what neither database nor people can read: NUL is no
/// text to PostgreSQL.
pub(super) fn cut(text: String, bytes: usize) -> String {
    let readable = |c: char| !c.is_control() || c == '\n' || c == '\t';
    let mut text = if text.chars().all(readable) { text } else { text.replace(|c| !readable(c), " ") };
    text.truncate(text.floor_char_boundary(bytes));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_between_characters() {
        assert_eq!(cut("grün".into(), 3), "gr");
        assert_eq!(cut("grün".into(), 4), "grü");
        assert_eq!(cut("a\0b\u{1b}[31m\n".into(), 100), "a b [31m\n");
    }
}
