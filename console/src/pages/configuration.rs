//! `/gateways/{id}/configuration`.

use axum::extract::State;
use axum::response::{IntoResponse as _, Redirect, Response};
use gateway::{NodeSize, POOLS, PoolSpec, deployments};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::configuration_form::{self as fields, PLACES};
use super::form::{Finding, Form, Refusal};
use super::frame::{Page, Section};
use super::notes;
use super::visit::{Id, Result, Sent, Visitor};
use crate::auth::{Principal, Role};
use crate::gateways::{self as rules, ConfigurationView, Gateway};
use crate::state::App;

#[derive(Debug, Serialize)]
struct GatewayView {
    id: Uuid,
    name: String,
}

#[derive(Debug, Serialize)]
struct Pool {
    index: usize,
    at: String,
    /// What it comes to, as far as it is sound.
    sum: Option<String>,
}

#[derive(Debug, Serialize)]
struct Context {
    gateway: GatewayView,
    stored: bool,
    has_password: bool,
    /// What is worth knowing of the stored one.
    notes: Vec<String>,
    pools: Vec<Pool>,
    places: &'static [&'static str],
    /// What the gateway reports of its vCenter, by part of the placement. A later version of it will; until then there
    /// is nothing to choose from.
    choices: Value,
    /// Value, name, and what it comes to.
    node_sizes: [[String; 3]; 3],
}

pub(super) async fn show(State(app): State<App>, Visitor(who): Visitor, Id(id): Id) -> Result<Response> {
    let (gateway, stored) = load(&app, id).await?;
    let configuration = stored.as_ref().map(|stored| stored.configuration.clone()).unwrap_or_default();
    let form = Form::filled(fields::values(&configuration));
    page(&app, &who, &gateway, stored.as_ref(), form, &configuration.ip_pools)
}

pub(super) async fn save(State(app): State<App>, Id(id): Id, sent: Sent) -> Result<Response> {
    let (who, mut posted) = sent.by(Role::Operator)?;
    let (gateway, stored) = load(&app, id).await?;
    let todo = posted.text("do").to_owned();
    if todo.is_empty() {
        let (configuration, mut findings) = fields::read(&posted);
        let refusal = if findings.is_empty() {
            match rules::configure(&app, &who, id, configuration.clone()).await {
                Ok(saved) => {
                    let mut answer = Redirect::to(&format!("/gateways/{id}?note=configured")).into_response();
                    notes::keep(&mut answer, &repairs(&saved));
                    return Ok(answer);
                }
                Err(error) => Refusal::of(error)?,
            }
        } else {
            // All that is wrong is said at once; of what cannot even be read, once.
            let more = configuration.check().into_iter().map(Finding::from);
            let more: Vec<Finding> =
                more.filter(|new| findings.iter().all(|known| known.at != new.at)).collect();
            findings.extend(more);
            findings.into()
        };
        let names = fields::fields(fields::pools(&posted));
        let form = Form::refused(posted, refusal, &names);
        return page(&app, &who, &gateway, stored.as_ref(), form, &configuration.ip_pools);
    }
    // A pool more or less: nothing is saved, and nothing that was typed is lost.
    if let Some(index) = todo.strip_prefix("remove-pool ").and_then(|index| index.parse().ok()) {
        posted = fields::remove_pool(posted, index);
    }
    let mut pools = fields::read(&posted).0.ip_pools;
    let passwords = posted.has_passwords();
    let mut values = posted.into_values();
    if todo == "add-pool" && pools.len() < POOLS {
        fields::add_pool(&mut values, pools.len());
        pools.push(PoolSpec::default());
    }
    page(&app, &who, &gateway, stored.as_ref(), Form::kept(values, passwords), &pools)
}

/// What was repaired; advice is on the page of what is stored.
fn repairs(saved: &ConfigurationView) -> Vec<String> {
    let advice = saved.configuration.advice();
    saved.notes.iter().filter(|note| !advice.contains(note)).map(ToString::to_string).collect()
}

async fn load(app: &App, id: Uuid) -> Result<(Gateway, Option<ConfigurationView>)> {
    let gateway = rules::get(app, id, false).await?;
    let stored = if gateway.configured { Some(rules::configuration(app, id).await?) } else { None };
    Ok((gateway, stored))
}

/// As in `4 processors, 4 GiB memory, 60 GiB disk. Builds 1 to 3 clusters at a time with one node, 4 to 6 with three.`
fn node_size(size: NodeSize) -> String {
    let has = size.hardware();
    let builds = |nodes| {
        deployments(nodes, size).map(|most| format!("{} to {}", most.start(), most.end())).unwrap_or_default()
    };
    format!(
        "{} processors, {} GiB memory, {} GiB disk. Builds {} clusters at a time with one node, {} with three.",
        has.processors,
        has.memory_gib,
        has.disk_gib,
        builds(1),
        builds(3)
    )
}

fn page(
    app: &App,
    who: &Principal,
    gateway: &Gateway,
    stored: Option<&ConfigurationView>,
    form: Form,
    pools: &[PoolSpec],
) -> Result<Response> {
    let pools = pools.iter().enumerate().map(|(index, spec)| Pool {
        index,
        at: format!("/ip_pools/{index}"),
        sum: spec.read().ok().map(|pool| pool.arithmetic().summary),
    });
    let context = Context {
        stored: stored.is_some(),
        notes: stored.iter().flat_map(|stored| &stored.notes).map(ToString::to_string).collect(),
        has_password: stored.is_some_and(|stored| stored.password_is_set),
        pools: pools.collect(),
        places: PLACES,
        choices: Value::Object(serde_json::Map::new()),
        gateway: GatewayView { id: gateway.id, name: gateway.name.clone() },
        node_sizes: [(NodeSize::S, "S", "Small"), (NodeSize::M, "M", "Medium"), (NodeSize::L, "L", "Large")]
            .map(|(size, value, name)| [value.to_owned(), name.to_owned(), node_size(size)]),
    };
    let title = format!("Configure {}", gateway.name);
    Page { app, who, section: Some(Section::Gateways), title: &title, note: None, form }
        .show("configuration.html", context)
}
