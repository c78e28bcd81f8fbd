//! Commands.

use gateway::{Action as Kind, Configuration, State, allowed};
use protocol::problem::Field;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::AnyConnection;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{CommandView, configuration, existing};
use crate::auth::{self, Principal};
use crate::error::{Error, Result};
use crate::state::App;
use crate::store::commands::{self as table, Command};
use crate::store::gateways;

/// Commands of a gateway that are still to be done, at most.
const MOST: u32 = 32;

/// What a gateway can be told to do, besides being configured.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(tag = "kind", content = "arguments", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Action {
    /// Forget the configuration and what was built from it, and wait for a new one.
    Reset,
    /// Have another number of nodes.
    Resize(Resize),
    /// Move to another image of nodes.
    Upgrade(Upgrade),
    /// Remove what was built.
    Delete,
    /// Collect a support bundle.
    CollectBundle,
}

/// See [`Action::Resize`].
#[derive(Clone, Copy, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Resize {
    /// Nodes: 3. There is no way back to 1 (etcd).
    #[schema(minimum = 3, maximum = 3)]
    pub size: u32,
}

/// See [`Action::Upgrade`].
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Upgrade {
    /// The image's name in the folder of node images.
    #[schema(min_length = 1, max_length = 80, pattern = "^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    pub image: String,
}

impl Action {
    fn kind(&self) -> Kind {
        match self {
            Action::Reset => Kind::Reset,
            Action::Resize(_) => Kind::Resize,
            Action::Upgrade(_) => Kind::Upgrade,
            Action::Delete => Kind::Delete,
            Action::CollectBundle => Kind::CollectBundle,
        }
    }

    /// What it takes, checked.
    fn arguments(&self) -> Result<Value> {
        match self {
            Action::Reset | Action::Delete | Action::CollectBundle => Ok(json!({})),
            Action::Resize(Resize { size: 3 }) => Ok(json!({ "size": 3 })),
            Action::Resize(_) => {
                Err(Error::invalid_at("/arguments/size", "A gateway can only be resized to 3 nodes."))
            }
            Action::Upgrade(Upgrade { image }) => {
                // A name that vCenter has (80 characters), and nothing that a path could be made of.
                let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
                let begins = image.starts_with(|c: char| c.is_ascii_alphanumeric());
                if !begins || image.len() > 80 || !image.chars().all(good) {
                    let why = "It must be the name of an image: letters, digits, dots, dashes, underscores.";
                    return Err(Error::invalid_at("/arguments/image", why));
                }
                Ok(json!({ "image": image }))
            }
        }
    }
}

/// Refuses what cannot be done to a gateway in its state.
pub(super) fn check_state(gateway: &gateways::Gateway, action: Kind) -> Result<()> {
    // Of a state that only a newer machine knows, that machine judges.
    let Ok(state) = gateway.state.parse::<State>() else { return Ok(()) };
    allowed(state, action).map_err(|refusal| Error::conflict("state", refusal.message, refusal.hint))
}

/// Gives a paired gateway a command.
///
/// # Errors
/// 404; 409 where its state stands against it, or it has too much to do already.
pub async fn command(app: &App, by: &Principal, id: Uuid, action: &Action) -> Result<CommandView> {
    let arguments = action.arguments()?;
    let mut db = app.store.write().await?;
    let gateway = existing(&mut db, id).await?;
    if gateway.paired_at.is_none() {
        let hint = "Pair its machine first; or delete the gateway, if there is to be none.";
        return Err(Error::conflict("state", "No machine has paired as this gateway yet.", hint));
    }
    check_state(&gateway, action.kind())?;
    if let Action::Resize(Resize { size }) = action
        && let Some(stored) = configuration::stored(app, &gateway)?
    {
        stored.resized(*size).map_err(|findings| {
            let at_size = |finding| Field { at: "/arguments/size".into(), ..configuration::field(finding) };
            Error::invalid(findings.into_iter().map(at_size).collect())
        })?;
    }
    let command = add(&mut db, app, &by.actor(), id, action.kind().as_str(), &arguments).await?;
    by.audit(&mut db, app, &format!("gateway.{}", action.kind()), &gateway.name, "").await?;
    db.commit().await?;
    app.hub.wake(id);
    Ok(command.into())
}

/// Commands of a gateway, newest first, before one of them if it is named.
///
/// # Errors
/// 404.
pub async fn commands(app: &App, id: Uuid, before: Option<Uuid>, limit: u32) -> Result<Vec<CommandView>> {
    let mut db = app.store.read().await?;
    existing(&mut db, id).await?;
    let commands = table::list(&mut db, id, before, limit).await?;
    Ok(commands.into_iter().map(CommandView::from).collect())
}

/// What the console makes of a command that its machine has done: `kind` is one of [`Kind::as_str`], of another nothing.
///
/// # Errors
/// When the database fails.
pub(crate) async fn done(
    db: &mut AnyConnection,
    app: &App,
    gateway: &gateways::Gateway,
    kind: &str,
) -> Result<()> {
    if kind == Kind::Resize.as_str()
        && let Some(stored) = configuration::stored(app, gateway)?
    {
        // It is so, whatever a check would say now.
        let resized = Configuration { size: 3, ..stored };
        configuration::store(db, app, gateway.id, &resized).await?;
    }
    if kind == Kind::Delete.as_str() {
        // What it had built is gone, and so is the last use of it.
        super::forget(db, gateway.id, app.now()).await?;
        let actor = format!("gateway {}", gateway.name);
        auth::audit(db, app, &actor, "", "gateway.delete", &gateway.name, "as it was told").await?;
    }
    Ok(())
}

/// Tells a machine that has just paired the configuration that its gateway has, if it has one.
///
/// # Errors
/// When the database fails.
pub(crate) async fn configure_again(
    db: &mut AnyConnection,
    app: &App,
    actor: &str,
    gateway: &gateways::Gateway,
) -> Result<()> {
    if let Some(stored) = configuration::stored(app, gateway)? {
        add(db, app, actor, gateway.id, Kind::Configure.as_str(), &stored.expose()).await?;
    }
    Ok(())
}

/// Adds a command, its arguments sealed.
pub(super) async fn add(
    db: &mut AnyConnection,
    app: &App,
    actor: &str,
    gateway: Uuid,
    kind: &str,
    arguments: &Value,
) -> Result<Command> {
    if table::open(db, gateway, MOST).await?.len() >= MOST as usize {
        return Err(Error::conflict(
            "too-many-commands",
            format!("The gateway has {MOST} commands to do already."),
            "Wait until it has done some.",
        ));
    }
    let id = Uuid::now_v7();
    let command = Command {
        id,
        gateway,
        time: app.now(),
        actor: actor.to_owned(),
        kind: kind.to_owned(),
        arguments: app.store.secrets.seal("commands.arguments", &id.to_string(), &arguments.to_string()),
        delivered_at: None,
        outcome: None,
        message: String::new(),
        finished_at: None,
    };
    table::insert(db, &command).await?;
    Ok(command)
}
