//! Forms: what was typed, and what is wrong with it, shown at its field.
//!
//! A field's name is the JSON pointer (RFC 6901) of what it sets, so that findings need no table to find their field.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use serde::Serialize;

use super::visit::{Result, Stop};
use crate::error::Error;

/// What is wrong with one value.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Finding {
    /// By JSON pointer.
    pub(super) at: String,
    pub(super) message: String,
    pub(super) hint: String,
}

impl Finding {
    pub(super) fn new(at: &str, message: &str, hint: &str) -> Finding {
        Finding { at: at.into(), message: message.into(), hint: hint.into() }
    }
}

impl From<gateway::Finding> for Finding {
    fn from(finding: gateway::Finding) -> Finding {
        Finding { at: finding.at, message: finding.message, hint: finding.hint }
    }
}

impl From<protocol::problem::Field> for Finding {
    fn from(field: protocol::problem::Field) -> Finding {
        Finding { at: field.at, message: field.message, hint: String::new() }
    }
}

/// Why a form is not taken.
#[derive(Debug)]
pub(super) struct Refusal {
    /// What the page with the form is answered with, so that programs and logs see it too.
    status: StatusCode,
    pub(super) findings: Vec<Finding>,
}

impl Refusal {
    /// What an error says of the form; whatever else went wrong is no matter of the form.
    pub(super) fn of(error: Error) -> Result<Refusal> {
        let problem = error.problem();
        let status = match StatusCode::from_u16(problem.status) {
            // The values, or what is there already stands against them.
            Ok(
                status @ (StatusCode::BAD_REQUEST | StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY),
            ) => status,
            _ => return Err(Stop::Error(error)),
        };
        let findings = if problem.fields.is_empty() {
            vec![Finding::new("", &problem.title, &problem.hint.unwrap_or_default())]
        } else {
            problem.fields.into_iter().map(Finding::from).collect()
        };
        Ok(Refusal { status, findings })
    }
}

impl From<Vec<Finding>> for Refusal {
    fn from(findings: Vec<Finding>) -> Refusal {
        Refusal { status: StatusCode::UNPROCESSABLE_ENTITY, findings }
    }
}

impl From<Finding> for Refusal {
    fn from(finding: Finding) -> Refusal {
        vec![finding].into()
    }
}

/// What came with a POST.
#[derive(Clone, Debug, Default)]
pub(super) struct Posted(BTreeMap<String, String>);

impl Posted {
    /// Of fields with the same name the first counts.
    pub(super) fn new(fields: impl IntoIterator<Item = (String, String)>) -> Posted {
        let mut map = BTreeMap::new();
        for (name, value) in fields {
            // As browsers send them; the lines of people end in \n.
            map.entry(name).or_insert_with(|| value.replace("\r\n", "\n"));
        }
        Posted(map)
    }

    /// A field's text, without what surrounds it; blank where there is none.
    pub(super) fn text(&self, name: &str) -> &str {
        self.exact(name).trim()
    }

    /// A field's text to the last space, as passwords need it.
    pub(super) fn exact(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// A checkbox.
    pub(super) fn checked(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Whether any was typed.
    pub(super) fn has_passwords(&self) -> bool {
        self.names().any(|name| is_secret(name) && !self.exact(name).is_empty())
    }

    /// To be shown again: everything but passwords, which are never sent back.
    pub(super) fn into_values(self) -> BTreeMap<String, String> {
        self.0.into_iter().filter(|(name, _)| !is_secret(name) && name != "csrf").collect()
    }
}

fn is_secret(name: &str) -> bool {
    matches!(name.rsplit("/").next(), Some("password" | "current" | "new" | "again"))
}

/// A form as templates show it.
#[derive(Debug, Default, Serialize)]
pub(super) struct Form {
    values: BTreeMap<String, String>,
    findings: BTreeMap<String, Vec<Finding>>,
    /// Sentences that belong to no field.
    elsewhere: Vec<String>,
    /// How many findings there are.
    count: usize,
    /// Whether it has a password, which must be typed again.
    passwords: bool,
    /// What its page is answered with.
    #[serde(skip)]
    pub(super) status: StatusCode,
}

impl Form {
    /// With values and nothing wrong.
    pub(super) fn filled(values: BTreeMap<String, String>) -> Form {
        Form { values, ..Form::default() }
    }

    /// With these values; `passwords` were typed and are gone.
    pub(super) fn kept(values: BTreeMap<String, String>, passwords: bool) -> Form {
        Form { values, passwords, ..Form::default() }
    }

    /// As it was posted. `fields` are the names of the form's fields: a finding is shown at the one that it is in, or,
    /// as `/ssh_keys/1` in `/ssh_keys`, that it is part of.
    pub(super) fn refused(posted: Posted, refusal: impl Into<Refusal>, fields: &[String]) -> Form {
        let Refusal { status, findings } = refusal.into();
        let passwords = posted.has_passwords();
        let count = findings.len();
        let mut form = Form { status, passwords, values: posted.into_values(), count, ..Form::default() };
        for finding in findings {
            let field = fields
                .iter()
                .filter(|field| {
                    finding
                        .at
                        .strip_prefix(field.as_str())
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                })
                .max_by_key(|field| field.len());
            match field {
                Some(field) => form.findings.entry(field.clone()).or_default().push(finding),
                None => {
                    form.elsewhere.push(format!("{} {}", finding.message, finding.hint).trim().to_owned())
                }
            }
        }
        form
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn posted(fields: &[(&str, &str)]) -> Posted {
        Posted::new(fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn a_finding_is_shown_at_the_field_that_it_is_in() {
        let fields = ["/a".to_owned(), "/a/b".to_owned(), "/ab".to_owned()];
        let at = |pointer: &str| {
            let form = Form::refused(posted(&[]), Finding::new(pointer, "No.", "Yes."), &fields);
            assert_eq!((form.count, form.status.as_u16()), (1, 422));
            form.findings.keys().next().cloned()
        };
        assert_eq!(at("/a/b"), Some("/a/b".into()));
        assert_eq!(at("/a/b/0"), Some("/a/b".into()));
        assert_eq!(at("/a/c"), Some("/a".into()));
        assert_eq!(at("/abc"), None);
    }

    #[test]
    fn what_was_typed_comes_back_but_passwords_do_not() {
        let typed =
            posted(&[("/vcenter/password", "x"), ("/name", " <b>\r\n"), ("csrf", "t"), ("/name", "second")]);
        assert_eq!(typed.text("/name"), "<b>");
        let form = Form::refused(typed, Vec::new(), &[]);
        assert!(form.passwords);
        assert_eq!(form.values.into_iter().collect::<Vec<_>>(), [("/name".to_owned(), " <b>\n".to_owned())]);
    }

    #[test]
    fn a_refused_form_is_answered_as_what_refused_it() {
        let taken = Refusal::of(Error::conflict("name-taken", "It is taken.", "Choose another.")).unwrap();
        let form = Form::refused(posted(&[]), taken, &[]);
        assert_eq!(
            (form.status, form.elsewhere),
            (StatusCode::CONFLICT, vec!["It is taken. Choose another.".into()])
        );
        assert_eq!(Form::default().status, StatusCode::OK);
        assert!(Refusal::of(Error::not_found("gateway")).is_err());
    }
}
