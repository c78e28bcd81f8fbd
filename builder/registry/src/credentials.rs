//! Credentials that other programs keep: `docker login`, `podman login`, `skopeo login` write them.

use std::env;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use docker_credential::{CredentialRetrievalError as Problem, DockerCredential, get_credential_from_reader};
use oci_client::secrets::RegistryAuth;

use crate::Error;

/// Files of credentials are not longer, in bytes.
const LONGEST: u64 = 1 << 20;

/// Those for a host: of `file`, or else of the first of the user's files that has some.
pub(crate) fn of(host: &str, file: Option<&Path>) -> Result<Option<RegistryAuth>, Error> {
    for path in file.map_or_else(files, |file| vec![file.into()]) {
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            Err(e) => return Err(Error::file(&path)(e)),
        };
        // Docker keeps its own hub's under the URL of its first API.
        let server = if host == "docker.io" { "https://index.docker.io/v1/" } else { host };
        let wrong = |why: &str| {
            Err(Error::invalid(
                path.display(),
                format!("{why} {host}"),
                "log in again, or remove the entry; `REGISTRY_AUTH_FILE` names another file",
            ))
        };
        return match get_credential_from_reader(file.take(LONGEST), server) {
            Ok(DockerCredential::UsernamePassword(user, password)) => {
                Ok(Some(RegistryAuth::Basic(user, password)))
            }
            Ok(DockerCredential::IdentityToken(_)) => {
                wrong("an identity token, which we cannot use, is all there is for")
            }
            Err(Problem::NoCredentialConfigured) => continue,
            // What every helper says that knows of no such host; the words are part of their protocol.
            Err(Problem::HelperFailure { stdout, .. }) if stdout.starts_with("credentials not found") => {
                continue;
            }
            Err(Problem::HelperFailure { helper, .. }) => wrong(&format!("`{helper}` fails for")),
            Err(Problem::HelperCommunicationError) => {
                wrong("it names a credential helper that does not run, for")
            }
            Err(_) => wrong("it cannot be understood, looking for"),
        };
    }
    Ok(None)
}

fn files() -> Vec<PathBuf> {
    let folder = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(file) = folder("REGISTRY_AUTH_FILE") {
        return vec![file];
    }
    let docker = folder("DOCKER_CONFIG").or_else(|| folder("HOME").map(|home| home.join(".docker")));
    let podman = folder("XDG_RUNTIME_DIR");
    docker
        .map(|dir| dir.join("config.json"))
        .into_iter()
        .chain(podman.map(|dir| dir.join("containers/auth.json")))
        .collect()
}
