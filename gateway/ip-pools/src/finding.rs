//! What is wrong with a value, for the person who typed it.

use serde::{Deserialize, Serialize};

/// Something that is wrong.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Finding {
    /// Which value, by JSON pointer (RFC 6901) as in `/ip_pools/0/end`.
    pub at: String,
    /// What is wrong with it, one sentence.
    pub message: String,
    /// What would be right.
    pub hint: String,
}

impl Finding {
    /// A finding at a JSON pointer.
    #[must_use]
    pub fn new(at: impl Into<String>, message: impl Into<String>, hint: impl Into<String>) -> Finding {
        Finding { at: at.into(), message: message.into(), hint: hint.into() }
    }

    /// The same, where its value is part of a larger one: `prefix` is the pointer to what it was found in.
    #[must_use]
    pub fn below(self, prefix: &str) -> Finding {
        Finding { at: format!("{prefix}{}", self.at), ..self }
    }
}
