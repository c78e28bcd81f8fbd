//! What is wrong, as the console says it: `application/problem+json` (RFC 9457) with a hint.

use serde::{Deserialize, Serialize};

/// A refusal.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// What kind, stable, for programs: a kebab-case word as in `rejected`, `too-many-starts`, `clock`.
    #[serde(rename = "type")]
    pub kind: String,
    /// For people, one sentence.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Which parts of the input are wrong: by JSON pointer (RFC 6901), one sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<Field>,
}

/// A part of the input that is wrong.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Field {
    /// Which, by JSON pointer as in `/ip_pools/0/end`.
    pub at: String,
    /// Why, one sentence.
    pub message: String,
}
