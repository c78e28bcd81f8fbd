//! What happens without being asked: heartbeats are written, what is over is ended, and what other consoles on the same
//! database have done is noticed.

use std::collections::HashSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use protocol::link::Severity;
use tokio::time::{MissedTickBehavior, interval};
use uuid::Uuid;

use super::heartbeats::WRITTEN_EVERY;
use super::{entries, pairing};
use crate::state::App;
use crate::store::changes::{self, Stamp};
use crate::store::{self, audit, commands, events, gateways, pairing_sessions, pairings, replays};

/// How often other consoles' doings are looked for.
const OTHERS_EVERY: Duration = Duration::from_millis(700);
/// How far back is looked each time: clocks of consoles on one database differ a little, and transactions end later than
/// they begin. What is seen twice does no harm.
const LOOK_BACK: SignedDuration = SignedDuration::from_secs(60);
/// The same for pages, which also look by themselves; thousands of heartbeats are among it.
const LOOK_BACK_FOR_PAGES: SignedDuration = SignedDuration::from_secs(10);
const SWEPT_EVERY: Duration = Duration::from_secs(20);
/// Sweeps from one forgetting to the next.
const FORGOTTEN_EVERY: u32 = 180;
/// How long events, commands, pairings and deleted gateways are kept.
const KEPT: SignedDuration = SignedDuration::from_hours(90 * 24);
/// How long the audit log is.
const AUDIT_KEPT: SignedDuration = SignedDuration::from_hours(366 * 24);

/// Starts it; it ends when the console does.
pub fn start(app: &App) {
    app.tasks.spawn(write_heartbeats(app.clone()));
    app.tasks.spawn(sweep(app.clone()));
    if app.store.is_shared() {
        app.tasks.spawn(watch_others(app.clone()));
    }
}

async fn write_heartbeats(app: App) {
    let mut every = interval(WRITTEN_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        let last = tokio::select! {
            () = app.stopping.cancelled() => true,
            _ = every.tick() => false,
        };
        match app.hub.heartbeats.write(&app.store).await {
            Ok(written) => {
                if failing {
                    tracing::info!("heartbeats can be written again");
                }
                failing = false;
                written.into_iter().for_each(|gateway| app.hub.changed(gateway));
            }
            // Once: it is tried again every two seconds.
            Err(error) if !failing => {
                failing = true;
                tracing::error!(%error, "heartbeats cannot be written; they are kept");
            }
            Err(_) => {}
        }
        if last {
            return;
        }
    }
}

async fn sweep(app: App) {
    let mut every = interval(SWEPT_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut count: u32 = 0;
    loop {
        tokio::select! {
            () = app.stopping.cancelled() => return,
            _ = every.tick() => {}
        }
        app.hub.starts.sweep();
        let now = app.now();
        match over(&app, now).await {
            Ok(gateways) => gateways.into_iter().for_each(|gateway| app.hub.changed(gateway)),
            Err(error) => tracing::warn!(%error, "cannot end what is over; it is tried again"),
        }
        if count.is_multiple_of(FORGOTTEN_EVERY)
            && let Err(error) = forget(&app, now).await
        {
            tracing::warn!(%error, "cannot forget what is old; it is tried again");
        }
        count = count.wrapping_add(1);
    }
}

/// Ends pairings and their sessions; says whose.
pub(super) async fn over(app: &App, now: Timestamp) -> store::Result<Vec<Uuid>> {
    let mut db = app.store.write().await?;
    let mut gateways = Vec::new();
    for gateway in pairings::expire(&mut db, now).await? {
        let message = "The code has expired. Make a new one.".to_owned();
        entries::note(&mut db, gateway, Severity::Warning, "PairingExpired", message, now).await?;
        gateways.push(gateway);
    }
    // Attempts that never came to message 3 count, too.
    for locked in pairings::lock(&mut db, None, now).await? {
        pairing::burnt(&mut db, &locked, now).await?;
        gateways.push(locked.gateway);
    }
    pairing_sessions::sweep(&mut db, now).await?;
    replays::sweep(&mut db, now).await?;
    db.commit().await?;
    Ok(gateways)
}

/// Forgets what is old, in small transactions: others want to write, too.
pub(super) async fn forget(app: &App, now: Timestamp) -> store::Result<()> {
    loop {
        let mut db = app.store.write().await?;
        let count = events::sweep(&mut db, now - KEPT).await?;
        db.commit().await?;
        if count == 0 {
            break;
        }
    }
    let mut db = app.store.write().await?;
    audit::sweep(&mut db, now - AUDIT_KEPT).await?;
    db.commit().await?;
    let mut db = app.store.write().await?;
    commands::sweep(&mut db, now - KEPT).await?;
    pairings::sweep(&mut db, now - KEPT).await?;
    gateways::sweep(&mut db, now - KEPT).await?;
    db.commit().await
}

/// Other consoles write into the same database and cannot reach our hub: what they did is looked for. LISTEN would tell
/// sooner, but its connection breaks unnoticed and would have to be doubted with the same queries.
async fn watch_others(app: App) {
    let mut every = interval(OTHERS_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = Seen::default();
    let mut failing = false;
    loop {
        tokio::select! {
            () = app.stopping.cancelled() => return,
            _ = every.tick() => {}
        }
        let looked = seen.look(&app).await;
        if let Err(error) = &looked
            && !failing
        {
            tracing::error!(%error, "cannot see what other consoles do; it is tried again");
        }
        failing = looked.is_err();
    }
}

/// What was seen at the last look, so that it is told once.
#[derive(Debug, Default)]
struct Seen {
    for_links: HashSet<Stamp>,
    for_pages: HashSet<Stamp>,
}

impl Seen {
    async fn look(&mut self, app: &App) -> store::Result<()> {
        let now = app.now();
        let mut db = app.store.read().await?;
        let stamps = changes::for_links(&mut db, now - LOOK_BACK).await?;
        for (gateway, _) in stamps.difference(&self.for_links) {
            app.hub.wake(*gateway);
        }
        self.for_links = stamps;
        if app.hub.is_watched() {
            let stamps = changes::for_pages(&mut db, now - LOOK_BACK_FOR_PAGES).await?;
            for (gateway, _) in stamps.difference(&self.for_pages) {
                app.hub.changed(*gateway);
            }
            self.for_pages = stamps;
        }
        Ok(())
    }
}
