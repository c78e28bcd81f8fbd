//! What an administrator needs to deploy the installer: its OVA, and options for `govc import.ova`.

use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use serde_json::json;
use tower::ServiceExt as _;
use tower_http::services::ServeFile;

use super::gateway::size;
use super::visit::{Id, Result, Visitor};
use crate::auth::Role;
use crate::error::Error;
use crate::gateways as rules;
use crate::state::App;
use crate::store::pairings::State as PairingState;

/// As it is saved, whatever it is called here.
const FILE_NAME: &str = "gatewright-installer.ova";

/// The installer that is there to download.
#[derive(Debug, Serialize)]
pub(super) struct Installer {
    size: String,
}

impl Installer {
    /// None where the console was given none, or the file is gone.
    pub(super) fn of(app: &App) -> Option<Installer> {
        let length = std::fs::metadata(app.installer.as_ref()?).ok()?.len();
        Some(Installer { size: size(length) })
    }
}

/// `GET /download/installer.ova`, whole or in ranges (RFC 9110, section 14): it is large, and lines break.
pub(super) async fn installer(
    State(app): State<App>,
    Visitor(_): Visitor,
    request: Request,
) -> Result<Response> {
    let file =
        app.installer.as_ref().filter(|file| file.is_file()).ok_or_else(|| Error::not_found("installer"))?;
    let Ok(mut response) = ServeFile::new(file).oneshot(request).await.map(Response::into_response);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    let name = format!("attachment; filename=\"{FILE_NAME}\"");
    headers.insert(
        header::CONTENT_DISPOSITION,
        HeaderValue::try_from(name).map_err(|error| Error::Internal(error.to_string()))?,
    );
    Ok(response)
}

/// `GET /gateways/{id}/import.json`: as `govc import.spec` writes it, with what this gateway needs filled in.
pub(super) async fn options(State(app): State<App>, Visitor(who): Visitor, Id(id): Id) -> Result<Response> {
    who.require(Role::Operator)?;
    let gateway = rules::get(&app, id, true).await?;
    let code = gateway
        .pairing
        .filter(|pairing| pairing.state == PairingState::Pending)
        .and_then(|pairing| pairing.code);
    let code = code.ok_or_else(|| {
        Error::conflict("no-code", "This gateway has no code that waits for a machine.", "Make a new code.")
    })?;
    let property = |key: &str, value: &str| json!({ "Key": key, "Value": value });
    let options = json!({
        "DiskProvisioning": "thin",
        "IPAllocationPolicy": "dhcpPolicy",
        "IPProtocol": "IPv4",
        "PropertyMapping": [
            property("gateway-name", &gateway.name),
            property("console-endpoint", &app.origins[0]),
            property("pairing-code", &code),
        ],
        "NetworkMapping": [{ "Name": "VM Network", "Network": "VM Network" }],
        "MarkAsTemplate": false,
        "PowerOn": true,
        "InjectOvfEnv": false,
        "WaitForIP": false,
        "Name": gateway.name,
    });
    let text = serde_json::to_string_pretty(&options).map_err(|error| Error::Internal(error.to_string()))?;
    // The name is a DNS label, so it needs no quoting beyond this.
    let name = format!("attachment; filename=\"{}.json\"", gateway.name);
    Ok(([(header::CONTENT_TYPE, "application/json".to_owned()), (header::CONTENT_DISPOSITION, name)], text)
        .into_response())
}
