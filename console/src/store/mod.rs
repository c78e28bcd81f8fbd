//! The console's tables: SQLite in a file, or PostgreSQL for several consoles, with one set of statements.
//!
//! A module a table. Its functions take a connection, so that several of them can be one transaction:
//!
//! ```text
//! store.read().await?   ──> connection  ──> accounts::get(&mut db, …)
//! store.write().await?  ──> transaction ──> gateways::insert(&mut db, …), audit::insert(&mut db, …) ──> db.commit()
//! ```

pub mod accounts;
pub mod audit;
pub mod changes;
pub mod commands;
pub mod conditions;
pub mod events;
pub mod gateways;
pub mod pairing_sessions;
pub mod pairings;
pub mod replays;
pub mod sessions;
pub mod settings;
pub mod tokens;

mod columns;

use std::fmt;
use std::fs::OpenOptions;
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sqlx::any::{AnyPoolOptions, install_default_drivers};
use sqlx::pool::PoolConnection;
use sqlx::{Any, AnyConnection, AnyPool, Transaction};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use crate::data_key::Secrets;

pub use columns::{Columns, text, text_of};

/// What ends a statement that did not succeed; what is stored and makes no sense is [`sqlx::Error::Decode`].
pub type Result<T> = std::result::Result<T, sqlx::Error>;

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!();

/// How long a request waits for a connection, and SQLite for another process's lock.
const PATIENCE: Duration = Duration::from_secs(5);
/// Connections to SQLite: readers do not wait for each other, and each is a thread.
const SQLITE_CONNECTIONS: u32 = 4;
/// Connections to PostgreSQL.
const POSTGRES_CONNECTIONS: u32 = 16;

const BEGIN: &str = "BEGIN";

/// The tables. Clones are the same.
#[derive(Clone)]
pub struct Store {
    pool: AnyPool,
    /// How a transaction that writes begins.
    begin: &'static str,
    /// SQLite has one writer at a time; queueing for that here is fair, polling for its lock is not.
    writers: Arc<Semaphore>,
    /// Seals and opens columns.
    pub secrets: Secrets,
}

impl Store {
    /// Opens the database that `url` names, `sqlite:` or `postgres:`, and brings its tables up to date.
    ///
    /// # Errors
    /// When it cannot be reached, or was made by a newer console.
    pub async fn open(url: &str, secrets: Secrets) -> Result<Store> {
        install_default_drivers();
        let sqlite = url.starts_with("sqlite:");
        let connections = if sqlite { SQLITE_CONNECTIONS } else { POSTGRES_CONNECTIONS };
        let pool = AnyPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(PATIENCE)
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    if sqlite {
                        // An answer that counted an attempt must have counted it after a power cut too: FULL. The
                        // time-out is for other processes, as `reset-password` is.
                        let pragmas = "PRAGMA busy_timeout = 5000; PRAGMA foreign_keys = ON; \
                                       PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL";
                        sqlx::raw_sql(pragmas).execute(&mut *connection).await?;
                    }
                    Ok(())
                })
            })
            .connect(url)
            .await?;
        MIGRATIONS.run(&pool).await?;
        Ok(Store {
            pool,
            begin: if sqlite { "BEGIN IMMEDIATE" } else { BEGIN },
            writers: Arc::new(Semaphore::new(if sqlite { 1 } else { connections as usize })),
            secrets,
        })
    }

    /// The URL of an SQLite database, which is made where there is none, readable by its owner alone.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn sqlite(file: &Path) -> std::io::Result<String> {
        // SQLite gives its journals the rights of the database.
        OpenOptions::new().create(true).append(true).mode(0o600).open(file)?;
        let file = url::Url::from_file_path(std::path::absolute(file)?)
            .map_err(|()| std::io::Error::other("this path makes no URL"))?;
        Ok(format!("sqlite://{}", file.path()))
    }

    /// A connection, to read with.
    ///
    /// # Errors
    /// When there is none within five seconds.
    pub async fn read(&self) -> Result<PoolConnection<Any>> {
        self.pool.acquire().await
    }

    /// A transaction, to write with; undone unless committed.
    ///
    /// # Errors
    /// When there is no connection, or the database is locked, for five seconds.
    pub async fn write(&self) -> Result<Write> {
        let turn = tokio::time::timeout(PATIENCE, Arc::clone(&self.writers).acquire_owned())
            .await
            .map_err(|_| sqlx::Error::PoolTimedOut)?
            .map_err(|_| sqlx::Error::PoolClosed)?;
        Ok(Write { transaction: self.pool.begin_with(self.begin).await?, _turn: turn })
    }

    /// Whether other consoles may be using the same tables.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.begin == BEGIN
    }

    /// Closes all connections, after which SQLite's file is whole by itself. A server that hangs is not waited for.
    pub async fn close(&self) {
        if tokio::time::timeout(PATIENCE, self.pool.close()).await.is_err() {
            tracing::warn!("the database's connections were cut off");
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may have a password.
        f.debug_struct("Store").field("begin", &self.begin).finish_non_exhaustive()
    }
}

/// A transaction that writes. Dereferences to the connection that the tables' functions take.
#[derive(Debug)]
pub struct Write {
    transaction: Transaction<'static, Any>,
    _turn: OwnedSemaphorePermit,
}

impl Write {
    /// Makes what was done last.
    ///
    /// # Errors
    /// When the database cannot; then nothing was done.
    pub async fn commit(self) -> Result<()> {
        self.transaction.commit().await
    }
}

impl Deref for Write {
    type Target = AnyConnection;

    fn deref(&self) -> &AnyConnection {
        &self.transaction
    }
}

impl DerefMut for Write {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        &mut self.transaction
    }
}

/// Whether a statement failed because such a thing is there already.
#[must_use]
pub fn is_taken(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}

/// The first identifier (UUID version 7) that can be made at a time.
fn first_id(time: Timestamp) -> Uuid {
    let milliseconds = u64::try_from(time.as_millisecond()).unwrap_or_default();
    uuid::Builder::from_unix_timestamp_millis(milliseconds, &[0; 10]).into_uuid()
}
