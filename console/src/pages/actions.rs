//! What can be done to a gateway: each is asked about on a page of its own first (the script shows that in a dialog), and
//! what cannot be undone takes the gateway's name.

use axum::extract::{Path, State as Extract};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use gateway::{Action as Kind, State, allowed};
use serde::Serialize;

use super::form::{Finding, Form, Posted, Refusal};
use super::frame::{Page, Section};
use super::visit::{Id, Result, Sent, Visitor};
use crate::auth::{Principal, Role};
use crate::error::Error;
use crate::gateways::{self as rules, Gateway, NewCode, Resize, Upgrade};
use crate::state::App;

/// What an action comes to.
#[derive(Clone, Copy, Debug)]
enum Does {
    /// A command to the machine, made of the form.
    Command(Kind, fn(&Posted) -> rules::Action),
    Delete,
    NewCode,
    CancelCode,
}

/// What is asked before it is done.
#[derive(Debug)]
struct Action {
    /// The last part of the address.
    name: &'static str,
    does: Does,
    label: &'static str,
    /// In the list of actions.
    about: &'static str,
    button: &'static str,
    /// On its page.
    question: &'static str,
    lines: &'static [&'static str],
    confirm: &'static str,
    danger: bool,
    /// Whether the name must be typed.
    typed: bool,
    /// Whether the page of a paired gateway offers it.
    paired: bool,
}

const ACTIONS: &[Action] = &[
    Action {
        name: "bundle",
        does: Does::Command(Kind::CollectBundle, |_| rules::Action::CollectBundle),
        label: "Support bundle",
        about: "Logs and state in one archive, without secrets.",
        button: "Collect",
        question: "Collect a support bundle?",
        lines: &[
            "The gateway packs logs and its state, with secrets taken out. It says here where the archive is.",
        ],
        confirm: "Collect",
        danger: false,
        typed: false,
        paired: true,
    },
    Action {
        name: "resize",
        does: Does::Command(Kind::Resize, |_| rules::Action::Resize(Resize { size: 3 })),
        label: "Resize",
        about: "From one node to three.",
        button: "Resize",
        question: "Resize to three nodes?",
        lines: &[
            "Nodes join one after another; the gateway goes on meanwhile. It takes three more addresses.",
            "There is no way back to one node but to delete the gateway.",
        ],
        confirm: "Resize to three nodes",
        danger: false,
        typed: true,
        paired: true,
    },
    Action {
        name: "upgrade",
        does: Does::Command(Kind::Upgrade, |posted| {
            rules::Action::Upgrade(Upgrade { image: posted.text(IMAGE).to_owned() })
        }),
        label: "Upgrade",
        about: "To another node image. Workload clusters keep running.",
        button: "Upgrade",
        question: "Upgrade?",
        lines: &["Nodes are replaced one after another. Requests for clusters wait until it is done."],
        confirm: "Upgrade",
        danger: false,
        typed: false,
        paired: true,
    },
    Action {
        name: "reset",
        does: Does::Command(Kind::Reset, |_| rules::Action::Reset),
        label: "Reset",
        about: "Removes what the gateway made in vCenter. It stays paired.",
        button: "Reset",
        question: "Reset this gateway?",
        lines: &[
            "Its nodes in vCenter are removed, and it waits for a configuration again. The machine stays paired.",
            "Workload clusters that it made run on, but are managed no more.",
        ],
        confirm: "Reset the gateway",
        danger: true,
        typed: true,
        paired: true,
    },
    Action {
        name: "delete",
        does: Does::Delete,
        label: "Delete",
        about: "Revokes its certificate at once and forgets its configuration.",
        button: "Delete",
        question: "Delete this gateway?",
        lines: &[
            "Its machine is shut out at once, and its configuration and pairing code are forgotten. The audit log stays.",
            "Nothing is removed from vCenter: reset it first, or remove its machines there.",
        ],
        confirm: "Delete the gateway",
        danger: true,
        typed: true,
        paired: true,
    },
    Action {
        name: "code",
        does: Does::NewCode,
        label: "Pair again",
        about: "With a new code, for this machine or one in its place.",
        button: "New code",
        question: "Make a new code?",
        lines: &[
            "A code that was made before stops working at once.",
            "A gateway that is paired stays so until a machine uses the new code; that machine then takes its place.",
        ],
        confirm: "Make a new code",
        danger: false,
        typed: false,
        paired: true,
    },
    Action {
        name: "cancel",
        does: Does::CancelCode,
        label: "Cancel",
        about: "",
        button: "",
        question: "Cancel the pairing?",
        lines: &["Its code stops working at once. A new one can be made whenever it is needed."],
        confirm: "Cancel the pairing",
        danger: true,
        typed: false,
        paired: false,
    },
];

const CONFIRM: &str = "confirm";
const IMAGE: &str = "/arguments/image";
const APPROVAL: &str = "/require_approval";

/// An action as a gateway's page offers it.
#[derive(Debug, Serialize)]
pub(super) struct Offer {
    kind: &'static str,
    label: &'static str,
    about: &'static str,
    button: &'static str,
    danger: bool,
}

/// What can be done to a paired gateway in a state; in one that only a newer machine knows, that machine judges.
pub(super) fn offers(state: &str) -> Vec<Offer> {
    let state = state.parse::<State>().ok();
    let offered = ACTIONS.iter().filter(|action| match action.does {
        Does::Command(kind, _) => state.is_none_or(|state| allowed(state, kind).is_ok()),
        _ => action.paired,
    });
    offered
        .map(|Action { name, label, about, button, danger, .. }| Offer {
            kind: name,
            label,
            about,
            button,
            danger: *danger,
        })
        .collect()
}

/// What a command is called.
pub(super) fn label(kind: &str) -> String {
    match kind {
        "configure" => "Configure".into(),
        "reset" => "Reset".into(),
        "resize" => "Resize".into(),
        "upgrade" => "Upgrade".into(),
        "delete" => "Remove everything".into(),
        "collect-bundle" => "Support bundle".into(),
        other => other.to_owned(),
    }
}

#[derive(Debug, serde::Deserialize)]
pub(super) struct Named {
    action: String,
}

pub(super) async fn ask(
    Extract(app): Extract<App>,
    Visitor(who): Visitor,
    Id(id): Id,
    Path(Named { action }): Path<Named>,
) -> Result<Response> {
    let action = find(&action)?;
    who.require(Role::Operator)?;
    let gateway = rules::get(&app, id, false).await?;
    // Who had to be approved has to be again, unless it is said.
    let approval = gateway.pairing.as_ref().filter(|pairing| pairing.approval);
    let values = approval.map(|_| (APPROVAL.to_owned(), "true".to_owned())).into_iter().collect();
    show(&app, &who, &gateway, action, Form::filled(values))
}

pub(super) async fn act(
    Extract(app): Extract<App>,
    Id(id): Id,
    Path(Named { action: name }): Path<Named>,
    sent: Sent,
) -> Result<Response> {
    let (who, posted) = sent.by(Role::Operator)?;
    let back = |note: &str| Ok(Redirect::to(&format!("/gateways/{id}?note={note}")).into_response());
    match name.as_str() {
        "approve" => {
            // The machine whose number the page showed, and no other that came since.
            rules::approve(&app, &who, id, posted.text("number")).await?;
            return back("approved");
        }
        "refuse" => {
            rules::refuse(&app, &who, id).await?;
            return back("refused");
        }
        _ => {}
    }
    let action = find(&name)?;
    let gateway = rules::get(&app, id, false).await?;
    if action.typed && posted.text(CONFIRM) != gateway.name {
        let finding =
            Finding::new(CONFIRM, "This is not its name.", &format!("Its name is {}.", gateway.name));
        return show(&app, &who, &gateway, action, refused(posted, finding));
    }
    let done = match action.does {
        Does::Delete => rules::delete(&app, &who, id).await.map(|()| "deleted"),
        Does::NewCode => {
            rules::new_code(&app, &who, id, &new_code(&posted, &gateway)).await.map(|_| "new-code")
        }
        Does::CancelCode => rules::cancel_code(&app, &who, id).await.map(|()| "cancelled"),
        Does::Command(_, command) => rules::command(&app, &who, id, &command(&posted)).await.map(|_| "sent"),
    };
    match done {
        Ok("deleted") => Ok(Redirect::to("/?note=deleted").into_response()),
        Ok(note) => back(note),
        Err(error) => show(&app, &who, &gateway, action, refused(posted, Refusal::of(error)?)),
    }
}

fn find(name: &str) -> Result<&'static Action> {
    let action = ACTIONS.iter().find(|action| action.name == name);
    Ok(action
        .ok_or_else(|| Error::refused(StatusCode::NOT_FOUND, "not-found", "There is no such page.", ""))?)
}

/// It holds as long as the one before was to.
fn new_code(posted: &Posted, gateway: &Gateway) -> NewCode {
    let before = gateway.pairing.as_ref();
    let held = before.map(|pairing| pairing.expires_at.duration_since(pairing.created_at).as_secs());
    NewCode {
        require_approval: Some(posted.checked(APPROVAL)),
        expires_in_seconds: held.and_then(|seconds| seconds.try_into().ok()),
    }
}

fn refused(posted: Posted, refusal: impl Into<Refusal>) -> Form {
    Form::refused(posted, refusal, &[CONFIRM, IMAGE, APPROVAL].map(str::to_owned))
}

fn show(app: &App, who: &Principal, gateway: &Gateway, action: &Action, form: Form) -> Result<Response> {
    let address = format!("/gateways/{}", gateway.id);
    let crumbs = vec![Crumb::new("/", "Gateways"), Crumb::new(&address, &gateway.name)];
    let confirmation = Confirmation {
        question: action.question,
        lines: action.lines,
        text: (action.name == "upgrade").then_some(TextField {
            name: IMAGE,
            label: "Node image",
            help: "Its name in the folder of node images.",
        }),
        approval: matches!(action.does, Does::NewCode).then_some(APPROVAL),
        type_name: action.typed.then(|| gateway.name.clone()),
        button: action.confirm,
        danger: action.danger,
        ..Confirmation::new(crumbs, format!("{address}/{}", action.name), address)
    };
    let page = Page { app, who, section: Some(Section::Gateways), title: action.label, note: None, form };
    page.show("confirm.html", confirmation)
}

/// A way back up.
#[derive(Debug, Serialize)]
pub(super) struct Crumb {
    href: String,
    label: String,
}

impl Crumb {
    pub(super) fn new(href: &str, label: &str) -> Crumb {
        Crumb { href: href.into(), label: label.into() }
    }
}

/// A text that is asked for with the confirmation.
#[derive(Debug, Serialize)]
pub(super) struct TextField {
    name: &'static str,
    label: &'static str,
    help: &'static str,
}

/// The page that asks.
#[derive(Debug, Serialize)]
pub(super) struct Confirmation {
    pub(super) crumbs: Vec<Crumb>,
    pub(super) action: String,
    pub(super) question: &'static str,
    pub(super) lines: &'static [&'static str],
    pub(super) text: Option<TextField>,
    /// The name of a checkbox for whether a person must approve.
    pub(super) approval: Option<&'static str>,
    pub(super) type_name: Option<String>,
    pub(super) button: &'static str,
    pub(super) danger: bool,
    pub(super) back: String,
}

impl Confirmation {
    /// With nothing to ask yet: the way back up, where it is posted to, and where cancelling leads.
    pub(super) fn new(crumbs: Vec<Crumb>, action: String, back: String) -> Confirmation {
        Confirmation {
            crumbs,
            action,
            question: "",
            lines: &[],
            text: None,
            approval: None,
            type_name: None,
            button: "",
            danger: false,
            back,
        }
    }
}
