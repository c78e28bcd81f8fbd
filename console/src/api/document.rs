//! The OpenAPI document: what the routes say of themselves, and what holds for all of them.

use serde_json::{Value, json};
use utoipa::openapi::OpenApi;

/// The refusals that are shared: name, status, when.
const REFUSALS: &[(&str, &str, &str)] = &[
    ("BadRequest", "400", "The request makes no sense."),
    ("Unauthorized", "401", "Nobody is signed in."),
    (
        "Forbidden",
        "403",
        "Whoever is signed in may not, the CSRF token is missing, or the password must be changed first.",
    ),
    ("NotFound", "404", "There is no such thing."),
    ("TooSlow", "408", "The body did not arrive."),
    ("TooLarge", "413", "The body is too large."),
    ("NotJson", "415", "The body is not JSON."),
    ("Invalid", "422", "Some of the input is wrong; `fields` says what."),
    ("TooMany", "429", "Too often, from this address or in all."),
    ("Failed", "500", "The console failed."),
    ("Busy", "503", "The database cannot take this now; nothing was done."),
];

/// The document, finished.
pub(super) fn finished(document: OpenApi) -> Value {
    let mut document = serde_json::to_value(document).expect("the document is plain data");
    document["info"] = json!({
        "title": "Gatewright console",
        "description": "Pairing codes, gateways, their configuration; and what machines call. Refusals are problems \
                        (RFC 9457). `x-role` of an operation is the least role that may call it.",
        "version": env!("CARGO_PKG_VERSION"),
        "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
    });
    document["tags"] = json!([
        { "name": "console", "description": "The console itself" },
        { "name": "session", "description": "Signing in and out" },
        { "name": "gateways", "description": "Gateways, their codes, configuration and commands" },
        { "name": "administration", "description": "Accounts, tokens, settings, the audit log" },
        { "name": "machine", "description": "For machines: pairing, and the link" },
    ]);
    let components = &mut document["components"];
    components["securitySchemes"] = json!({
        "token": { "type": "http", "scheme": "bearer", "description": "An API token" },
        "session": { "type": "apiKey", "in": "cookie", "name": "__Host-session", "description": "From `POST /v1/session`" },
        "csrf": { "type": "apiKey", "in": "header", "name": "X-CSRF-Token", "description": "The session's, with requests \
            that change something" },
    });
    components["schemas"]["Problem"] = schema::<protocol::problem::Problem>();
    components["schemas"]["Field"] = schema::<protocol::problem::Field>();
    // utoipa knows `deny_unknown_fields` of structures, not of enumerations.
    for variant in components["schemas"]["Action"]["oneOf"].as_array_mut().into_iter().flatten() {
        variant["additionalProperties"] = json!(false);
    }
    for (name, status, description) in REFUSALS {
        components["responses"][name] = refusal(status, description);
    }
    for (path, item) in members(&mut document["paths"]) {
        for (method, operation) in members(item) {
            finish(path, method, operation);
        }
    }
    document
}

fn finish(path: &str, method: &str, operation: &mut Value) {
    let open = operation["security"] == json!([{}]);
    // What machines sign in with has its own name, and is there already.
    let by_machine = operation["tags"] == json!(["machine"]);
    if !open && !by_machine {
        let session =
            if method == "get" { json!({"session": []}) } else { json!({"session": [], "csrf": []}) };
        operation["security"] = json!([{ "token": [] }, session]);
    }
    let mut usual = vec!["Failed", "Busy"];
    if !open {
        usual.extend(["Unauthorized", "Forbidden"]);
    }
    if path.contains('{') {
        usual.push("NotFound");
    }
    if has_query(operation) {
        usual.push("BadRequest");
    }
    if operation.get("requestBody").is_some() {
        usual.extend(["BadRequest", "TooSlow", "TooLarge", "NotJson", "Invalid"]);
    }
    let responses = operation["responses"].as_object_mut().expect("every route has responses");
    for name in usual {
        let status = REFUSALS.iter().find(|refusal| refusal.0 == name).map_or("", |refusal| refusal.1);
        responses
            .entry(status)
            .or_insert_with(|| json!({ "$ref": format!("#/components/responses/{name}") }));
    }
    for (status, response) in responses.iter_mut() {
        // Routes name their own refusals with a description alone.
        if status.starts_with(['4', '5']) && response.get("$ref").is_none() {
            let description = response["description"].as_str().unwrap_or_default().to_owned();
            *response = refusal(status, &description);
        }
    }
    responses.sort_keys();
}

fn has_query(operation: &Value) -> bool {
    operation["parameters"].as_array().is_some_and(|all| all.iter().any(|one| one["in"] == "query"))
}

fn refusal(status: &str, description: &str) -> Value {
    let mut refusal = json!({
        "description": description,
        "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
    });
    let header = match status {
        "401" => Some(("WWW-Authenticate", json!({ "type": "string" }), "As RFC 9110 asks for.")),
        "429" => Some(("Retry-After", json!({ "type": "integer", "minimum": 1 }), "Seconds.")),
        _ => None,
    };
    if let Some((name, schema, description)) = header {
        refusal["headers"][name] = json!({ "schema": schema, "description": description, "required": true });
    }
    refusal
}

fn schema<T: utoipa::PartialSchema>() -> Value {
    serde_json::to_value(T::schema()).expect("a schema is plain data")
}

fn members(value: &mut Value) -> impl Iterator<Item = (&String, &mut Value)> {
    value.as_object_mut().expect("it is an object").iter_mut()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// `INSTA_UPDATE=always` writes it anew.
    #[test]
    fn the_committed_document_is_current() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
        let mut current = serde_json::to_string_pretty(&crate::api::document()).unwrap();
        current.push('\n');
        if std::env::var("INSTA_UPDATE").is_ok_and(|value| value == "always") {
            std::fs::write(&path, &current).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == current,
            "docs/openapi.json is not current: run `INSTA_UPDATE=always cargo test -p gatewright-console document`"
        );
    }

    #[test]
    fn every_route_of_people_says_who_may() {
        let document = crate::api::document();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let open = operation["security"] == serde_json::json!([{}]);
                if operation["tags"][0] != "machine" && !open {
                    let role = operation["x-role"]
                        .as_str()
                        .unwrap_or_else(|| panic!("{method} {path} has no x-role"));
                    assert!(["viewer", "operator", "administrator"].contains(&role), "{role}");
                }
            }
        }
    }
}
