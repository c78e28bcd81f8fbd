//! What columns hold beyond text and numbers.

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use sqlx::Row as _;
use sqlx::any::AnyRow;
use uuid::Uuid;

use super::Result;

/// A time as it is stored: RFC 3339 in UTC with milliseconds, which sorts as text.
#[must_use]
pub fn text(time: Timestamp) -> String {
    format!("{time:.3}")
}

/// The same where there may be none.
#[must_use]
pub fn text_of(time: Option<Timestamp>) -> Option<String> {
    time.map(text)
}

/// Columns by name. All fail where there is no such column, or it holds something else.
pub trait Columns {
    /// Text.
    fn text(&self, name: &str) -> Result<String>;
    /// Text, or NULL.
    fn optional_text(&self, name: &str) -> Result<Option<String>>;
    /// A number.
    fn number(&self, name: &str) -> Result<i64>;
    /// An identifier.
    fn id(&self, name: &str) -> Result<Uuid>;
    /// An identifier, or NULL.
    fn optional_id(&self, name: &str) -> Result<Option<Uuid>>;
    /// A time.
    fn time(&self, name: &str) -> Result<Timestamp>;
    /// A time, or NULL.
    fn optional_time(&self, name: &str) -> Result<Option<Timestamp>>;
    /// A word of an enumeration, as serde writes it.
    fn word<T: DeserializeOwned>(&self, name: &str) -> Result<T>;
    /// JSON, or NULL.
    fn optional_json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>>;

    /// A truth value.
    fn flag(&self, name: &str) -> Result<bool> {
        Ok(self.number(name)? != 0)
    }
}

impl Columns for AnyRow {
    fn text(&self, name: &str) -> Result<String> {
        self.try_get(name)
    }

    fn optional_text(&self, name: &str) -> Result<Option<String>> {
        self.try_get(name)
    }

    fn number(&self, name: &str) -> Result<i64> {
        self.try_get(name)
    }

    fn id(&self, name: &str) -> Result<Uuid> {
        self.text(name)?.parse().map_err(|error| wrong(name, error))
    }

    fn optional_id(&self, name: &str) -> Result<Option<Uuid>> {
        self.optional_text(name)?.map(|text| text.parse().map_err(|error| wrong(name, error))).transpose()
    }

    fn time(&self, name: &str) -> Result<Timestamp> {
        self.text(name)?.parse().map_err(|error| wrong(name, error))
    }

    fn optional_time(&self, name: &str) -> Result<Option<Timestamp>> {
        self.optional_text(name)?.map(|text| text.parse().map_err(|error| wrong(name, error))).transpose()
    }

    fn word<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        serde_json::from_value(self.text(name)?.into()).map_err(|error| wrong(name, error))
    }

    fn optional_json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        self.optional_text(name)?
            .map(|text| serde_json::from_str(&text).map_err(|error| wrong(name, error)))
            .transpose()
    }
}

/// A column that holds what it must not.
fn wrong(name: &str, error: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: name.to_owned(), source: Box::new(error) }
}
