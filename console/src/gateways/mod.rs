//! What people do with gateways; API and pages call the same functions. Who may is checked by those who call, what makes
//! sense here.

pub(crate) mod command;
mod configuration;
mod events;
mod pairing;
mod view;

pub use command::{Action, Resize, Upgrade, command, commands};
pub use configuration::{View as ConfigurationView, configuration, configure};
pub use events::{Event, events, events_after};
pub use pairing::{ATTEMPTS, NewCode, approve, cancel_code, new_code, refuse};
pub use view::{CommandView, Gateway, Pairing, get, list, number_of};

use jiff::Timestamp;
use sqlx::AnyConnection;
use uuid::Uuid;

use crate::auth::Principal;
use crate::error::{Error, Result};
use crate::state::App;
use crate::store::{self, commands as command_table, gateways as table, pairings};

/// The most gateways that one console has.
const MOST: i64 = 20_000;
/// Characters of a gateway's name at most: it becomes a host name (RFC 1123, section 2.1; RFC 1035, section 2.3.4).
pub const NAME_MAX: usize = 63;

/// Makes a gateway and a code for it.
///
/// # Errors
/// 422 for a name that is none, 409 where it is taken or too many codes wait.
pub async fn create(app: &App, by: &Principal, name: &str, code: &NewCode) -> Result<Gateway> {
    if let Some(why) = objection(name) {
        return Err(Error::invalid_at("/name", why));
    }
    let code = code.checked()?;
    let id = Uuid::now_v7();
    let mut db = app.store.write().await?;
    if table::count(&mut db).await? >= MOST {
        return Err(Error::conflict("too-many-gateways", format!("There are {MOST} gateways already."), ""));
    }
    match table::insert(&mut db, id, name, &by.actor(), app.now()).await {
        Ok(()) => {}
        Err(error) if store::is_taken(&error) => {
            return Err(Error::conflict(
                "name-taken",
                format!("There is a gateway `{name}` already."),
                "Choose another name, or delete that one first.",
            ));
        }
        Err(error) => return Err(error.into()),
    }
    pairing::add(&mut db, app, by, id, &code).await?;
    by.audit(&mut db, app, "gateway.create", name, "").await?;
    db.commit().await?;
    app.hub.changed(id);
    get(app, id, true).await
}

/// Removes a gateway: its machine is a stranger from now on, on every path, and a code that waits for it is worthless.
/// What the machine has built stays; the command `delete` is for that.
///
/// # Errors
/// 404.
pub async fn delete(app: &App, by: &Principal, id: Uuid) -> Result<()> {
    let mut db = app.store.write().await?;
    let gateway = existing(&mut db, id).await?;
    forget(&mut db, id, app.now()).await?;
    by.audit(&mut db, app, "gateway.delete", &gateway.name, "").await?;
    db.commit().await?;
    app.hub.wake(id);
    Ok(())
}

async fn forget(db: &mut AnyConnection, id: Uuid, now: Timestamp) -> store::Result<()> {
    table::delete(db, id, now).await?;
    pairings::end(db, id, pairings::State::Cancelled).await?;
    command_table::cancel(db, id, None, "The gateway was deleted.", now).await
}

/// A gateway that is not deleted.
///
/// # Errors
/// 404.
pub async fn existing(db: &mut AnyConnection, id: Uuid) -> Result<table::Gateway> {
    let gateway = table::get(db, id).await?.filter(|gateway| gateway.deleted_at.is_none());
    gateway.ok_or_else(|| Error::not_found("gateway"))
}

/// Why a name is not taken, if it is not; one sentence.
#[must_use]
pub fn objection(name: &str) -> Option<&'static str> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() {
        Some("It is missing.")
    } else if name.len() > NAME_MAX {
        Some("It is longer than 63 characters.")
    } else if !name.chars().all(good) {
        Some("It may have lower-case letters, digits and dashes only: it becomes a host name.")
    } else if name.starts_with('-') || name.ends_with('-') {
        Some("It may not begin or end with a dash.")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_host_names() {
        for name in ["edge-01", "a", "0", &"a".repeat(63)] {
            assert_eq!(objection(name), None, "{name}");
        }
        for name in ["", "Edge", "edge 1", "edge_1", "-edge", "edge-", "édge", "<b>", "a.b", &"a".repeat(64)]
        {
            assert!(objection(name).is_some(), "{name}");
        }
    }
}
