//! Configurations.

use gateway::{Action, Configuration, Finding, Note};
use protocol::problem::Field;
use serde::Serialize;
use sqlx::AnyConnection;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{command, existing, table};
use crate::auth::Principal;
use crate::error::{Error, Result};
use crate::state::App;
use crate::store::commands;

/// A configuration as people see it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct View {
    /// Without its password.
    #[serde(flatten)]
    pub configuration: Configuration,
    /// Whether there is a password.
    pub password_is_set: bool,
    /// What was repaired, and what is worth knowing.
    pub notes: Vec<Note>,
}

/// The configuration of a gateway, if it has one.
///
/// # Errors
/// 404, also where it has none.
pub async fn configuration(app: &App, id: Uuid) -> Result<View> {
    let mut db = app.store.read().await?;
    let gateway = existing(&mut db, id).await?;
    let configuration = stored(app, &gateway)?.ok_or_else(|| Error::not_found("configuration"))?;
    Ok(view(configuration, Vec::new()))
}

/// Gives a gateway its configuration, which its machine is told at once or when it comes back. Without a password, the
/// one that is stored stays, for the same account of the same vCenter.
///
/// # Errors
/// 404; 409 where it cannot be configured now; 422 with everything that is wrong.
pub async fn configure(app: &App, by: &Principal, id: Uuid, mut new: Configuration) -> Result<View> {
    let mut db = app.store.write().await?;
    let gateway = existing(&mut db, id).await?;
    command::check_state(&gateway, Action::Configure)?;
    let old = stored(app, &gateway)?;
    if let Some(old) = &old {
        new.keep_password(old);
    }
    let mut findings = new.check();
    if let Some(old) = old.filter(|_| gateway.state == gateway::State::Running.as_str()) {
        findings.extend(new.check_change(&old));
    }
    if !findings.is_empty() {
        return Err(Error::invalid(findings.into_iter().map(field).collect()));
    }
    let notes = new.normalise();
    store(&mut db, app, id, &new).await?;
    // Of several that wait for the machine, only the newest counts.
    let kind = Action::Configure.as_str();
    commands::cancel(&mut db, id, Some(kind), "A newer configuration took its place.", app.now()).await?;
    command::add(&mut db, app, &by.actor(), id, kind, &new.expose()).await?;
    by.audit(&mut db, app, "gateway.configure", &gateway.name, "").await?;
    db.commit().await?;
    app.hub.wake(id);
    Ok(view(new, notes))
}

fn view(configuration: Configuration, mut notes: Vec<Note>) -> View {
    notes.extend(configuration.advice());
    View { password_is_set: configuration.vcenter.password.is_some(), configuration, notes }
}

/// The configuration that a gateway has, with its password.
pub(super) fn stored(app: &App, gateway: &table::Gateway) -> Result<Option<Configuration>> {
    let Some(sealed) = &gateway.configuration else { return Ok(None) };
    let text = app.store.secrets.open("gateways.configuration", &gateway.id.to_string(), sealed)?;
    serde_json::from_str(text.expose()).map(Some).map_err(|error| Error::Internal(error.to_string()))
}

/// Keeps a configuration, sealed.
pub(super) async fn store(
    db: &mut AnyConnection,
    app: &App,
    id: Uuid,
    configuration: &Configuration,
) -> Result<()> {
    let whole = configuration.expose().to_string();
    let sealed = app.store.secrets.seal("gateways.configuration", &id.to_string(), &whole);
    Ok(table::set_configuration(db, id, &sealed).await?)
}

pub(super) fn field(Finding { at, message, hint }: Finding) -> Field {
    Field { at, message: format!("{message} {hint}") }
}
