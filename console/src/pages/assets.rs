//! Style sheet, script and icon: embedded, and addressed by their content, so that browsers keep them for good.

use std::fmt::Write as _;
use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest as _, Sha256};

/// A year (RFC 9111 knows no longer one that is of use).
const FOR_GOOD: &str = "public, max-age=31536000, immutable";

struct Asset {
    name: &'static str,
    kind: &'static str,
    content: &'static str,
}

const ASSETS: &[Asset] = &[
    Asset {
        name: "console.css",
        kind: "text/css; charset=utf-8",
        content: include_str!("../../assets/console.css"),
    },
    Asset {
        name: "console.js",
        kind: "text/javascript; charset=utf-8",
        content: include_str!("../../assets/console.js"),
    },
    Asset { name: "icon.svg", kind: "image/svg+xml", content: include_str!("../../assets/icon.svg") },
];

static HASHES: LazyLock<Vec<String>> = LazyLock::new(|| {
    ASSETS
        .iter()
        .map(|asset| {
            let digest = Sha256::digest(asset.content);
            digest[..8].iter().fold(String::new(), |mut text, byte| {
                let _ = write!(text, "{byte:02x}"); // a String takes everything
                text
            })
        })
        .collect()
});

/// Where an asset is; `None`: there is no such asset.
pub(super) fn address(name: &str) -> Option<String> {
    let place = ASSETS.iter().position(|asset| asset.name == name)?;
    Some(format!("/assets/{}/{name}", HASHES[place]))
}

/// `GET /assets/{hash}/{name}`. Of another hash there is nothing: a page of the version before or after this one must
/// not be kept with this one's style.
pub(super) async fn get(Path((hash, name)): Path<(String, String)>) -> Response {
    match ASSETS.iter().zip(HASHES.iter()).find(|(asset, known)| asset.name == name && **known == hash) {
        Some((asset, _)) => {
            ([(header::CONTENT_TYPE, asset.kind), (header::CACHE_CONTROL, FOR_GOOD)], asset.content)
                .into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Icons that templates put into pages, so that they take the text's colour.
pub(super) fn icon(name: &str) -> Option<&'static str> {
    macro_rules! icons {
        ($($name:literal)*) => {
            match name {
                $($name => Some(include_str!(concat!("../../assets/icons/", $name, ".svg")).trim_ascii_end()),)*
                _ => None,
            }
        };
    }
    icons!("add" "bad" "brand" "close" "copy" "download" "good" "info" "link" "lock" "none" "search" "wait" "warn")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_asset_is_kept_for_good_and_another_version_is_not_there() {
        let address = address("console.css").unwrap();
        let hash = address.split('/').nth(2).unwrap().to_owned();
        let answer = get(Path((hash, "console.css".into()))).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()[header::CACHE_CONTROL], FOR_GOOD);
        let answer = get(Path(("0123456789abcdef".into(), "console.css".into()))).await;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    }

    #[test]
    fn nothing_is_fetched_from_elsewhere() {
        for asset in ASSETS {
            let content = asset.content.replace("http://www.w3.org/2000/svg", "");
            assert!(!content.contains("http://") && !content.contains("https://"), "{}", asset.name);
        }
    }
}
