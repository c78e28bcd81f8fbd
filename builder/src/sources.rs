//! Sources: where the files are that packs want by the name of a source and a path.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::error::Failure;

/// Places by name: a URL, a folder, or for a registry's name another registry.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources(BTreeMap<String, String>);

/// Where a file is.
#[derive(Debug, PartialEq)]
pub(crate) enum Location {
    File(PathBuf),
    Url(String),
}

impl Sources {
    /// Parses `NAME=PLACE` words.
    pub(crate) fn parse(words: &[String]) -> Result<Sources> {
        let parse = |word: &String| match word.split_once('=') {
            Some((name, place)) if !name.is_empty() && !place.is_empty() => Ok((name.into(), place.into())),
            _ => Err(Failure::user(
                format!("`{word}` names no source"),
                "write it as in `--source kubernetes=https://mirror.example.com/kubernetes` or `kubernetes=FOLDER`",
            )),
        };
        Ok(Sources(words.iter().map(parse).collect::<Result<_>>()?))
    }

    /// Adds places that are relative to `dir`; those that have a name already stay.
    pub(crate) fn or(mut self, others: &BTreeMap<String, String>, dir: &Path) -> Sources {
        for (name, place) in others {
            // A registry's place is a host, not a folder.
            let is_relative = !place.contains("://") && !name.contains('.') && Path::new(place).is_relative();
            let place = if is_relative { dir.join(place).display().to_string() } else { place.clone() };
            self.0.entry(name.clone()).or_insert(place);
        }
        self
    }

    /// Where `path` of the source `name` is.
    ///
    /// # Errors
    /// When nobody said where the source is.
    pub(crate) fn locate(&self, name: &str, path: &str) -> Result<Location> {
        let Some(place) = self.0.get(name) else {
            return Err(Failure::user(
                format!("Nothing says where the source `{name}` is, from which {path} is wanted"),
                format!(
                    "`--source {name}=URL-OR-FOLDER`, or `sources:` of the image definition or of ~/.config/gatewright/config.yaml"
                ),
            ));
        };
        Ok(match place.strip_prefix("file://").or((!place.contains("://")).then_some(place)) {
            Some(folder) => Location::File(Path::new(folder).join(path)),
            None => Location::Url(format!("{}/{path}", place.trim_end_matches('/'))),
        })
    }

    /// Other places of registries, by their host.
    pub(crate) fn registries(&self) -> BTreeMap<String, String> {
        let is_host = |name: &str| name.contains('.') || name.contains(':');
        self.0
            .iter()
            .filter(|(name, _)| is_host(name))
            .map(|(name, place)| (name.clone(), place.clone()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let sources = Sources::parse(&["a=https://m.example/x/".into(), "b=/srv/b".into()]).unwrap();
        let sources = sources.or(
            &[("a", "ignored"), ("c", "../c"), ("registry.example", "127.0.0.1:5000")]
                .map(|(name, place)| (name.to_string(), place.to_string()))
                .into(),
            Path::new("/images"),
        );
        assert_eq!(sources.locate("a", "p/q").unwrap(), Location::Url("https://m.example/x/p/q".into()));
        assert_eq!(sources.locate("b", "p").unwrap(), Location::File("/srv/b/p".into()));
        assert_eq!(sources.locate("c", "p").unwrap(), Location::File("/images/../c/p".into()));
        assert_eq!(sources.registries()["registry.example"], "127.0.0.1:5000");
        let error = sources.locate("d", "p").unwrap_err().to_string();
        assert!(error.contains("Nothing says where the source `d` is"), "{error}");
        assert!(Sources::parse(&["x".into()]).is_err());
    }
}
