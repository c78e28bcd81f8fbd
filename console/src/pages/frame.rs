//! What all pages have: who is logged in, where they are, what they just did.

use axum::response::{Html, IntoResponse};
use jiff::Timestamp;
use serde::Serialize;

use super::form::Form;
use super::templates;
use super::visit::Result;
use crate::auth::{Principal, Role, Via};
use crate::state::App;

/// Where a page is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Section {
    Gateways,
    Accounts,
    Tokens,
    Audit,
    Settings,
}

/// Sections by address and name, with the role that they take.
const SECTIONS: &[(Section, &str, &str, Role)] = &[
    (Section::Gateways, "/", "Gateways", Role::Viewer),
    (Section::Accounts, "/accounts", "Accounts", Role::Administrator),
    (Section::Tokens, "/tokens", "API tokens", Role::Viewer),
    (Section::Audit, "/audit", "Audit log", Role::Administrator),
    (Section::Settings, "/settings", "Settings", Role::Administrator),
];

/// What was just done, by the word that the redirect's query carries: no text comes from an address.
const NOTES: &[(&str, &str)] = &[
    ("saved", "Saved."),
    ("sent", "Sent to the gateway. Its answer shows below when it comes."),
    ("configured", "Saved, and sent to the gateway."),
    ("deleted", "Deleted."),
    ("cancelled", "The pairing is cancelled; its code no longer works."),
    ("new-code", "This is a new code. The one before no longer works."),
    ("approved", "Approved. The machine is told within seconds."),
    ("refused", "Refused. The machine says so on its screen."),
    ("revoked", "Revoked. The token no longer works."),
    ("password", "The password is changed."),
    ("bye", "You are logged out."),
];

/// The sentence for a word of a query.
pub(super) fn note(word: Option<&str>) -> Option<&'static str> {
    NOTES.iter().find(|(known, _)| Some(*known) == word).map(|(_, sentence)| *sentence)
}

/// Of pages before anybody is logged in.
#[derive(Debug, Serialize)]
pub(super) struct Bare {
    now: Timestamp,
    csrf: String,
    version: &'static str,
    note: Option<&'static str>,
}

impl Bare {
    pub(super) fn new(note: Option<&'static str>) -> Bare {
        Bare { now: Timestamp::now(), csrf: String::new(), version: env!("CARGO_PKG_VERSION"), note }
    }
}

#[derive(Debug, Serialize)]
struct Entry {
    href: &'static str,
    label: &'static str,
    here: bool,
}

/// Who is logged in, for templates.
#[derive(Debug, Serialize)]
struct Me {
    id: uuid::Uuid,
    name: String,
    role: &'static str,
    operates: bool,
}

/// Of pages for who is logged in.
#[derive(Debug, Serialize)]
struct Frame<'a> {
    #[serde(flatten)]
    bare: Bare,
    title: &'a str,
    navigation: Vec<Entry>,
    me: Me,
}

/// A page.
#[derive(Debug)]
pub(super) struct Page<'a> {
    /// Whose time it is.
    pub(super) app: &'a App,
    /// Who sees it.
    pub(super) who: &'a Principal,
    /// Where it is; none for pages outside of the menu.
    pub(super) section: Option<Section>,
    /// What it is called.
    pub(super) title: &'a str,
    /// See [`note`].
    pub(super) note: Option<&'a str>,
    /// Its form, if it has one. The page of one that was refused is answered as a refusal.
    pub(super) form: Form,
}

impl Page<'_> {
    /// The page, of a template and what that needs besides.
    pub(super) fn show(self, template: &str, body: impl Serialize) -> Result {
        #[derive(Serialize)]
        struct Context<'a, T> {
            #[serde(flatten)]
            frame: Frame<'a>,
            form: Form,
            #[serde(flatten)]
            body: T,
        }
        let Page { app, who, section, title, note: word, form } = self;
        let status = form.status;
        let csrf = match &who.via {
            Via::Session { csrf, .. } => csrf.clone(),
            Via::Token { .. } => String::new(),
        };
        let navigation = SECTIONS
            .iter()
            .filter(|(.., role)| who.role >= *role)
            .map(|(own, href, label, _)| Entry { href, label, here: section == Some(*own) })
            .collect();
        let me = Me {
            id: who.account,
            name: who.name.clone(),
            role: who.role.word(),
            operates: who.role >= Role::Operator,
        };
        let bare = Bare { now: app.now(), csrf, ..Bare::new(note(word)) };
        let context = Context { frame: Frame { bare, title, navigation, me }, form, body };
        Ok((status, Html(templates::render(template, &context)?)).into_response())
    }
}

/// The query of a page that was redirected to.
#[derive(Debug, Default, serde::Deserialize)]
pub(super) struct Noted {
    #[serde(default)]
    pub(super) note: Option<String>,
}
