//! What is wrong with a pack or a profile, and where.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::document::{Place, SyntaxError};

/// One thing that its user can mend. Shown as `FILE:LINE:COLUMN: MESSAGE`, as far as that is known.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub struct Error {
    /// The file, below the folder that was given.
    pub file: Option<PathBuf>,
    /// Where in it.
    pub place: Option<Place>,
    /// A sentence without its full stop.
    pub message: String,
    /// How to mend it.
    pub hint: Option<String>,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}:", file.display())?;
        }
        if let Some(place) = &self.place {
            write!(f, "{place}:")?;
        }
        if self.file.is_some() || self.place.is_some() {
            f.write_str(" ")?;
        }
        f.write_str(&self.message)
    }
}

impl Error {
    pub(crate) fn new(message: impl Into<String>, hint: impl Into<String>) -> Error {
        Error { file: None, place: None, message: message.into(), hint: Some(hint.into()) }
    }

    pub(crate) fn at(self, file: &Path, place: Place) -> Error {
        Error { file: Some(file.to_path_buf()), place: Some(place), ..self }
    }

    /// What the system said about a file or folder.
    pub(crate) fn io(path: &Path, error: &std::io::Error) -> Error {
        Error { file: Some(path.to_path_buf()), place: None, message: error.to_string(), hint: None }
    }

    pub(crate) fn syntax(file: &Path, error: SyntaxError) -> Error {
        // `a: {{ .x }}` is a map with a map as its key to YAML; nobody who writes it means that.
        let hint = error
            .message
            .contains("key must be a text")
            .then(|| "a value that begins with `{{` needs quotes: \"{{ ... }}\"".to_string());
        Error { file: Some(file.to_path_buf()), place: Some(error.place), message: error.message, hint }
    }
}
