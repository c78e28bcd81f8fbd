//! `/audit`.

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::form::Form;
use super::frame::{Page, Section};
use super::gateways::Pages;
use super::visit::{Query, Result, Visitor};
use crate::auth::Role;
use crate::state::App;
use crate::store::audit::{self, Entry};

/// Entries on one page.
const ROWS: usize = 50;
/// How many are looked at in one go where they are filtered,
const BATCH: u32 = 500;
/// and in all: who looks for something older goes on from there.
const MOST: usize = 20_000;

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Filter {
    q: String,
    before: Option<Uuid>,
}

impl Filter {
    fn takes(&self, entry: &Entry) -> bool {
        let wanted = self.q.trim().to_lowercase();
        let texts = [&entry.actor, &entry.action, &entry.subject, &entry.address, &entry.detail];
        texts.iter().any(|text| text.to_lowercase().contains(&wanted))
    }

    fn address(&self, before: Option<Uuid>) -> String {
        let before = before.map(|id| id.to_string()).unwrap_or_default();
        let fields = [("q", &self.q), ("before", &before)];
        let filled = fields.iter().filter(|(_, value)| !value.is_empty());
        format!(
            "/audit?{}",
            url::form_urlencoded::Serializer::new(String::new()).extend_pairs(filled).finish()
        )
    }
}

pub(super) async fn list(
    State(app): State<App>,
    Visitor(who): Visitor,
    Query(filter): Query<Filter>,
) -> Result<Response> {
    who.require(Role::Administrator)?;
    let mut db = app.store.read().await?;
    let mut entries: Vec<Entry> = Vec::new();
    let (mut before, mut seen) = (filter.before, 0);
    let more = 'all: loop {
        let some = audit::list(&mut db, before, BATCH).await?;
        let last = some.len() < BATCH as usize;
        seen += some.len();
        for entry in some {
            before = Some(entry.id);
            if !filter.takes(&entry) {
                continue;
            }
            if entries.len() == ROWS {
                break 'all entries.last().map(|entry| entry.id);
            }
            entries.push(entry);
        }
        if last {
            break None;
        }
        if seen >= MOST {
            break before;
        }
    };
    drop(db);

    #[derive(Serialize)]
    struct Context {
        pages: Pages,
        entries: Vec<Entry>,
        filter: Filter,
    }
    let pages = Pages {
        before: filter.before.map(|_| filter.address(None)),
        more: more.map(|id| filter.address(Some(id))),
    };
    let page = Page {
        app: &app,
        who: &who,
        section: Some(Section::Audit),
        title: "Audit log",
        note: None,
        form: Form::default(),
    };
    page.show("audit.html", Context { pages, entries, filter })
}
