//! `/`: the list.

use axum::extract::State;
use axum::response::Response;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::form::Form;
use super::frame::{Page, Section};
use super::looks::{self, HEALTHS, Look, STATES};
use super::visit::{Query, Result, Visitor};
use crate::gateways::{self as rules, Gateway};
use crate::state::App;
use crate::store::gateways;

/// Gateways on one page.
const ROWS: usize = 50;
/// How many are looked at in one go where they are filtered.
const BATCH: u32 = 500;

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Filter {
    q: String,
    state: String,
    health: String,
    /// The name that the page before ended with.
    after: String,
    note: Option<String>,
}

impl Filter {
    fn address(&self) -> String {
        let fields =
            [("q", &self.q), ("state", &self.state), ("health", &self.health), ("after", &self.after)];
        let filled = fields.iter().filter(|(_, value)| !value.is_empty());
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(filled).finish();
        format!("/?{query}")
    }

    fn is_set(&self) -> bool {
        !self.q.is_empty() || !self.state.is_empty() || !self.health.is_empty()
    }

    fn takes(&self, gateway: &Gateway) -> bool {
        let wanted = self.q.trim().to_lowercase();
        let health = looks::health(gateway.health.status).label;
        (self.state.is_empty() || gateway.state == self.state)
            && (self.health.is_empty() || health.eq_ignore_ascii_case(&self.health))
            && (gateway.name.contains(&wanted) || addresses(gateway).iter().any(|own| own.contains(&wanted)))
    }
}

#[derive(Debug, Serialize)]
struct Row {
    id: Uuid,
    name: String,
    state: Look,
    health: Look,
    address: Option<String>,
    software: Option<String>,
    heard_at: Option<Timestamp>,
}

impl From<Gateway> for Row {
    fn from(gateway: Gateway) -> Row {
        Row {
            id: gateway.id,
            state: looks::state(&gateway.state),
            health: looks::health(gateway.health.status),
            address: addresses(&gateway).into_iter().next(),
            software: software(&gateway),
            heard_at: gateway.heartbeat_at,
            name: gateway.name,
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Pages {
    /// Addresses of the pages before and after this one.
    pub(super) before: Option<String>,
    pub(super) more: Option<String>,
}

pub(super) async fn list(
    State(app): State<App>,
    Visitor(who): Visitor,
    Query(filter): Query<Filter>,
) -> Result<Response> {
    let mut db = app.store.read().await?;
    let count = gateways::count(&mut db).await?;
    drop(db);
    let batch = if filter.is_set() { BATCH } else { ROWS as u32 + 1 };
    let mut after = filter.after.clone();
    let mut found = Vec::new();
    loop {
        let some = rules::list(&app, &after, batch).await?;
        let last = some.len() < batch as usize;
        after = some.last().map(|gateway| gateway.name.clone()).unwrap_or_default();
        found.extend(some.into_iter().filter(|gateway| filter.takes(gateway)));
        if last || found.len() > ROWS {
            break;
        }
    }
    let more = (found.len() > ROWS).then(|| found[ROWS - 1].name.clone());
    found.truncate(ROWS);
    let page = |after: String| {
        let query = Filter { after, ..filter.clone() };
        query.address()
    };
    let pages =
        Pages { before: (!filter.after.is_empty()).then(|| page(String::new())), more: more.map(page) };
    #[derive(Serialize)]
    struct Context {
        summary: String,
        none_yet: bool,
        filter: Filter,
        states: &'static [(&'static str, &'static str)],
        healths: &'static [(&'static str, &'static str)],
        gateways: Vec<Row>,
        pages: Pages,
    }
    let note = filter.note.clone();
    let context = Context {
        summary: match count {
            0 => "Private cloud gateways that this console manages".into(),
            1 => "1 gateway".into(),
            count => format!("{count} gateways"),
        },
        none_yet: count == 0,
        filter,
        states: STATES,
        healths: HEALTHS,
        gateways: found.into_iter().map(Row::from).collect(),
        pages,
    };
    let page = Page {
        app: &app,
        who: &who,
        section: Some(Section::Gateways),
        title: "Gateways",
        note: note.as_deref(),
        form: Form::default(),
    };
    page.show("gateways.html", context)
}

/// What it says now, or said when it paired.
pub(super) fn software(gateway: &Gateway) -> Option<String> {
    let now = gateway.heartbeat.as_ref().map(|beat| beat.software.clone());
    now.or_else(|| gateway.facts["software"].as_str().map(str::to_owned))
}

/// The same.
pub(super) fn addresses(gateway: &Gateway) -> Vec<String> {
    match &gateway.heartbeat {
        Some(beat) if !beat.addresses.is_empty() => beat.addresses.clone(),
        _ => {
            let said = gateway.facts["addresses"].as_array().into_iter().flatten();
            said.filter_map(|address| address.as_str().map(str::to_owned)).collect()
        }
    }
}
