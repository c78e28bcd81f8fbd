//! Templates, embedded. Every value is escaped; what a template lacks is an error, not a blank.

use std::sync::LazyLock;

use jiff::Timestamp;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value};
use minijinja::{Environment, Error, ErrorKind, State, UndefinedBehavior};
use serde::Serialize;

use super::{assets, time};

macro_rules! templates {
    ($($name:literal)*) => { &[$(($name, include_str!(concat!("../../templates/", $name)))),*] };
}

const TEMPLATES: &[(&str, &str)] = templates!(
    "account.html" "accounts.html" "audit.html" "base.html" "configuration.html" "confirm.html" "door.html"
    "error.html" "gateway.html" "gateways.html" "login.html" "new.html" "pairing.html" "parts.html" "password.html"
    "pool.html" "settings.html" "tokens.html"
);

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    // A debugging error has the page's values, and with them pairing codes, in its text.
    environment.set_debug(false);
    environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
    let lines = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(lines.expect("the delimiters are the usual ones"));
    environment.add_function("asset", |name: &str| {
        assets::address(name)
            .ok_or_else(|| Error::new(ErrorKind::InvalidOperation, format!("no asset {name}")))
    });
    environment.add_function("icon", |name: &str| {
        assets::icon(name)
            .map(|icon| Value::from_safe_string(icon.into()))
            .ok_or_else(|| Error::new(ErrorKind::InvalidOperation, format!("no icon {name}")))
    });
    environment.add_filter("ago", |state: &State, then: &str| {
        let (then, now) = (read(then)?, now(state)?);
        Ok::<_, Error>(element(then, "data-ago", &time::ago(then, now)))
    });
    environment.add_filter("left", |state: &State, until: &str| {
        let (until, now) = (read(until)?, now(state)?);
        Ok::<_, Error>(element(until, "data-left", &time::left(until, now)))
    });
    environment.add_filter("moment", |when: &str| {
        let when = read(when)?;
        Ok::<_, Error>(element(when, "", &time::moment(when)))
    });
    for (name, source) in TEMPLATES {
        environment.add_template(name, source).expect("the templates are compiled by a test");
    }
    environment
});

/// A `time` element. None of its text comes from outside.
fn element(time: Timestamp, counts: &str, text: &str) -> Value {
    let exact = time::exact(time);
    Value::from_safe_string(format!("<time datetime=\"{time}\" title=\"{exact}\" {counts}>{text}</time>"))
}

fn read(text: &str) -> Result<Timestamp, Error> {
    text.parse().map_err(|_| Error::new(ErrorKind::InvalidOperation, format!("no time: {text}")))
}

/// What the page takes for the time, so that all of it is of one moment.
fn now(state: &State) -> Result<Timestamp, Error> {
    let now = state.lookup("now");
    let text = now.as_ref().and_then(Value::as_str);
    read(text.ok_or_else(|| Error::new(ErrorKind::UndefinedError, "the page has no `now`"))?)
}

/// A page.
///
/// # Errors
/// When the template asks for what `context` does not have.
pub(super) fn render(template: &str, context: impl Serialize) -> Result<String, Error> {
    ENVIRONMENT.get_template(template)?.render(Value::from(Serde(context)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn all_templates_compile() {
        assert_eq!(ENVIRONMENT.templates().count(), TEMPLATES.len());
    }

    #[test]
    fn values_are_escaped_and_missing_ones_are_errors() {
        let now = "2026-01-01T00:00:00Z";
        let context =
            json!({ "title": "<b>\"'&", "hint": null, "now": now, "csrf": "", "version": "1", "note": null });
        let page = render("error.html", &context).unwrap();
        assert!(page.contains("<h1>&lt;b&gt;&quot;&#x27;&amp;</h1>"), "{page}");
        assert!(!page.contains("<b>"), "{page}");
        let error = render("error.html", json!({ "now": now })).unwrap_err();
        assert!(error.to_string().contains("undefined"), "{error}");
    }

    #[test]
    fn an_error_does_not_tell_what_was_on_the_page() {
        let error =
            render("login.html", json!({ "now": "secret-value", "csrf": "secret-value" })).unwrap_err();
        assert!(!format!("{error:?}{error:#}").contains("secret-value"), "{error:?}");
    }
}
