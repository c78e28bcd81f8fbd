//! The console's tables, by the same statements on SQLite and on PostgreSQL.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::collections::BTreeSet;
use std::time::Duration;

use gatewright_console::auth::Role;
use gatewright_console::ca::Authority;
use gatewright_console::data_key::Secrets;
use gatewright_console::store::accounts::Account;
use gatewright_console::store::pairings::{Pairing, State};
use gatewright_console::store::sessions::Session;
use gatewright_console::store::tokens::Token;
use gatewright_console::store::{
    self, Store, accounts, audit, commands, conditions, events, gateways, pairings, sessions, settings,
    tokens,
};
use gatewright_tests::postgres::Postgres;
use gatewright_tests::prerequisites::needed;
use jiff::Timestamp;
use protocol::link::Severity;
use serde_json::json;
use uuid::Uuid;

/// What breaks out of a statement, if anything does.
const TRICKY: &str = "'; DROP TABLE accounts; --\" $1 ? \\ %_ é 🜁";

fn secrets() -> Secrets {
    Secrets::new(&[7; 32]).unwrap()
}

/// Runs a case on both databases.
fn on_both(test: &str, case: impl AsyncFn(Store)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let url = Store::sqlite(&folder.path().join("a b?#%.db")).unwrap();
    runtime.block_on(async { case(Store::open(&url, secrets()).await.unwrap()).await });
    // One server for all cases, a database for each.
    let Some(postgres) = needed(test, Postgres::shared()) else { return };
    let url = postgres.database(test, "").unwrap();
    runtime.block_on(async { case(Store::open(&url, secrets()).await.unwrap()).await });
}

fn time(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn account(name: &str) -> Account {
    Account {
        id: Uuid::now_v7(),
        name: name.into(),
        role: Role::Operator,
        must_change: true,
        disabled: false,
        created_at: time(0),
    }
}

#[test]
fn accounts_sessions_and_tokens() {
    on_both("accounts_sessions_and_tokens", async |store| {
        let one = account(TRICKY);
        let mut db = store.write().await.unwrap();
        accounts::insert(&mut db, &one, "hash").await.unwrap();
        db.commit().await.unwrap();

        let mut db = store.write().await.unwrap();
        let taken =
            accounts::insert(&mut db, &Account { id: Uuid::now_v7(), ..one.clone() }, "").await.unwrap_err();
        assert!(store::is_taken(&taken), "{taken}");
        drop(db);

        let mut db = store.write().await.unwrap();
        let read = accounts::by_name(&mut db, TRICKY).await.unwrap().unwrap();
        assert_eq!(
            (read.id, read.role, read.must_change, read.created_at),
            (one.id, Role::Operator, true, time(0))
        );
        assert_eq!(accounts::password(&mut db, one.id).await.unwrap().unwrap(), "hash");
        accounts::set_password(&mut db, one.id, "other", false).await.unwrap();
        accounts::update(&mut db, one.id, Role::Administrator, false).await.unwrap();
        assert!(!accounts::get(&mut db, one.id).await.unwrap().unwrap().must_change);
        assert_eq!(accounts::other_administrators(&mut db, one.id).await.unwrap(), 0);
        assert_eq!(accounts::other_administrators(&mut db, Uuid::nil()).await.unwrap(), 1);

        let session = Session {
            id: "one".into(),
            account: one.id,
            csrf: "csrf".into(),
            address: "::1".into(),
            created_at: time(0),
            seen_at: time(0),
            expires_at: time(100),
        };
        sessions::insert(&mut db, &session).await.unwrap();
        sessions::insert(&mut db, &Session { id: "two".into(), expires_at: time(1), ..session })
            .await
            .unwrap();
        sessions::seen(&mut db, "one", time(50)).await.unwrap();
        sessions::delete_expired(&mut db, time(60), time(10)).await.unwrap();
        assert_eq!(sessions::get(&mut db, "one").await.unwrap().unwrap().seen_at, time(50));
        assert!(sessions::get(&mut db, "two").await.unwrap().is_none());

        let token = Token {
            id: Uuid::now_v7(),
            name: TRICKY.into(),
            account: one.id,
            role: Role::Viewer,
            created_at: time(0),
            expires_at: None,
            used_at: None,
        };
        tokens::insert(&mut db, &token, "hash", None).await.unwrap();
        let made_with = Token { id: Uuid::now_v7(), ..token.clone() };
        tokens::insert(&mut db, &made_with, "other", Some(token.id)).await.unwrap();
        tokens::used(&mut db, token.id, time(5)).await.unwrap();
        let read = tokens::by_hash(&mut db, "hash").await.unwrap().unwrap();
        assert_eq!((read.name.as_str(), read.used_at, read.expires_at), (TRICKY, Some(time(5)), None));
        assert_eq!(tokens::list(&mut db, Some(Uuid::nil())).await.unwrap().len(), 0);
        assert!(tokens::delete(&mut db, made_with.id).await.unwrap());
        assert!(tokens::get(&mut db, token.id).await.unwrap().is_some());
        tokens::insert(&mut db, &made_with, "other", Some(token.id)).await.unwrap();
        assert!(tokens::delete(&mut db, token.id).await.unwrap());
        assert!(tokens::get(&mut db, made_with.id).await.unwrap().is_none(), "with the one it was made with");
        tokens::insert(&mut db, &token, "hash", None).await.unwrap();

        accounts::delete(&mut db, one.id).await.unwrap();
        assert!(sessions::get(&mut db, "one").await.unwrap().is_none(), "sessions go with their account");
        assert!(tokens::list(&mut db, None).await.unwrap().is_empty(), "tokens too");
        db.commit().await.unwrap();
    });
}

#[test]
fn a_transaction_is_all_or_nothing() {
    on_both("a_transaction_is_all_or_nothing", async |store| {
        let mut db = store.write().await.unwrap();
        accounts::insert(&mut db, &account("one"), "").await.unwrap();
        drop(db);
        assert_eq!(accounts::count(&mut store.read().await.unwrap()).await.unwrap(), 0);
    });
}

#[test]
fn gateways_and_what_belongs_to_them() {
    on_both("gateways_and_what_belongs_to_them", async |store| {
        let (one, two) = (Uuid::now_v7(), Uuid::now_v7());
        let mut db = store.write().await.unwrap();
        gateways::insert(&mut db, one, "edge-01", TRICKY, time(0)).await.unwrap();
        gateways::insert(&mut db, two, "edge-02", "admin", time(0)).await.unwrap();
        gateways::paired(&mut db, one, "key", &json!({ "hostname": TRICKY }), time(1)).await.unwrap();
        gateways::set_configuration(&mut db, one, "sealed").await.unwrap();
        db.commit().await.unwrap();

        let mut db = store.write().await.unwrap();
        let taken = gateways::insert(&mut db, Uuid::now_v7(), "edge-01", "", time(0)).await.unwrap_err();
        assert!(store::is_taken(&taken));
        drop(db);
        let mut db = store.write().await.unwrap();
        let taken = gateways::paired(&mut db, two, "key", &json!({}), time(1)).await.unwrap_err();
        assert!(store::is_taken(&taken), "one machine is one gateway");
        drop(db);

        let mut db = store.write().await.unwrap();
        let read = gateways::get(&mut db, one).await.unwrap().unwrap();
        assert_eq!(
            (read.state.as_str(), read.paired_at, read.created_by.as_str()),
            ("pending", Some(time(1)), TRICKY)
        );
        assert_eq!(read.facts["hostname"], TRICKY);
        let names: Vec<_> =
            gateways::list(&mut db, "", 10).await.unwrap().into_iter().map(|gateway| gateway.name).collect();
        assert_eq!(names, ["edge-01", "edge-02"]);
        assert_eq!(gateways::list(&mut db, "edge-01", 10).await.unwrap().len(), 1);

        let pairing = |gateway, locator: &str| Pairing {
            id: Uuid::now_v7(),
            gateway,
            locator: locator.into(),
            secret: Some("sealed".into()),
            state: State::Pending,
            attempts_left: 5,
            approval: true,
            created_at: time(0),
            created_by: "admin".into(),
            expires_at: time(100),
            last_attempt_at: None,
            last_attempt_from: None,
        };
        assert!(pairings::insert(&mut db, &pairing(two, "0001")).await.unwrap());
        assert!(!pairings::insert(&mut db, &pairing(one, "0001")).await.unwrap(), "the locator is taken");
        assert!(!pairings::insert(&mut db, &pairing(two, "0002")).await.unwrap(), "it has one that waits");
        assert_eq!(pairings::locators(&mut db).await.unwrap(), ["0001"]);
        assert_eq!(pairings::between(&mut db, "edge-01", "edge-02").await.unwrap().len(), 1);
        assert!(pairings::by_locator(&mut db, "0001").await.unwrap().unwrap().approval);
        assert_eq!(pairings::number(&mut db, two).await.unwrap(), None);
        assert_eq!(pairings::end(&mut db, two, State::Cancelled).await.unwrap(), 1);
        let ended = pairings::newest(&mut db, two).await.unwrap().unwrap();
        assert_eq!((ended.state, ended.secret), (State::Cancelled, None));
        pairings::insert(&mut db, &pairing(two, "0001")).await.unwrap();
        assert!(conditions::list(&mut db, one).await.unwrap().is_empty());
        assert!(conditions::between(&mut db, "a", "z").await.unwrap().is_empty());
        assert!(events::list(&mut db, one, None, 10).await.unwrap().is_empty());

        for (kind, second) in [("configure", 1), ("reset", 2)] {
            let command = commands::Command {
                id: Uuid::now_v7(),
                gateway: one,
                time: time(second),
                actor: "admin".into(),
                kind: kind.into(),
                arguments: TRICKY.into(),
                delivered_at: None,
                outcome: None,
                message: String::new(),
                finished_at: None,
            };
            commands::insert(&mut db, &command).await.unwrap();
        }
        commands::cancel(&mut db, one, Some("configure"), "newer", time(3)).await.unwrap();
        let open = commands::open(&mut db, one, 10).await.unwrap();
        assert_eq!(open.iter().map(|command| command.kind.as_str()).collect::<Vec<_>>(), ["reset"]);
        assert_eq!(open[0].arguments, TRICKY);
        let all = commands::list(&mut db, one, None, 10).await.unwrap();
        assert_eq!((all.len(), all[1].arguments.as_str()), (2, ""), "what it took may have been a secret");
        assert_eq!(commands::list(&mut db, one, Some(open[0].id), 10).await.unwrap().len(), 1);

        assert!(gateways::delete(&mut db, one, time(9)).await.unwrap());
        assert!(!gateways::delete(&mut db, one, time(9)).await.unwrap());
        let gone = gateways::get(&mut db, one).await.unwrap().unwrap();
        assert_eq!((gone.state.as_str(), gone.device_key, gone.configuration), ("deleted", None, None));
        assert_eq!(gateways::count(&mut db).await.unwrap(), 1);
        gateways::insert(&mut db, Uuid::now_v7(), "edge-01", "admin", time(10)).await.unwrap();
        db.commit().await.unwrap();
    });
}

#[test]
fn settings_and_the_audit_log() {
    on_both("settings_and_the_audit_log", async |store| {
        let mut db = store.write().await.unwrap();
        assert!(settings::set_first(&mut db, "a", "1").await.unwrap());
        assert!(!settings::set_first(&mut db, "a", "2").await.unwrap());
        assert_eq!(settings::get_json::<u32>(&mut db, "a").await.unwrap(), Some(1));
        settings::set_json(&mut db, "a", &TRICKY).await.unwrap();
        assert_eq!(settings::get_json::<String>(&mut db, "a").await.unwrap().unwrap(), TRICKY);
        let mut ids = Vec::new();
        for number in 0..5 {
            let entry = audit::Entry {
                id: Uuid::now_v7(),
                time: time(number),
                actor: TRICKY.into(),
                address: String::new(),
                action: "test".into(),
                subject: number.to_string(),
                detail: String::new(),
            };
            audit::insert(&mut db, &entry).await.unwrap();
            ids.push(entry.id);
        }
        let page = audit::list(&mut db, Some(ids[3]), 2).await.unwrap();
        assert_eq!(page.iter().map(|entry| entry.subject.as_str()).collect::<Vec<_>>(), ["2", "1"]);
        db.commit().await.unwrap();
    });
}

/// What is old goes, and no more than that.
#[test]
fn what_is_old_is_forgotten() {
    on_both("what_is_old_is_forgotten", async |store| {
        let ids: Vec<_> = (0..3).map(|_| Uuid::now_v7()).collect();
        let mut db = store.write().await.unwrap();
        for (number, id) in ids.iter().enumerate() {
            gateways::insert(&mut db, *id, &format!("edge-{number}"), "admin", time(0)).await.unwrap();
        }
        for number in 0..10_005 {
            let event = events::Event {
                id: id_at(time(number)),
                gateway: ids[0],
                time: time(number),
                received_at: time(number),
                severity: Severity::Info,
                reason: "R".into(),
                message: String::new(),
                source: "test".into(),
            };
            events::insert(&mut db, &event).await.unwrap();
        }
        let count = async |db: &mut sqlx::AnyConnection, table: &'static str| -> i64 {
            let statement = sqlx::AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}"));
            sqlx::query_scalar(statement).fetch_one(db).await.unwrap()
        };
        events::trim(&mut db, ids[0]).await.unwrap();
        assert_eq!(count(&mut db, "events").await, 10_000);
        events::trim(&mut db, ids[0]).await.unwrap();
        while events::sweep(&mut db, time(10_000)).await.unwrap() > 0 {}
        assert_eq!(count(&mut db, "events").await, 5);

        for (gateway, second) in [(ids[0], 1), (ids[0], 2), (ids[1], 3)] {
            let pairing = Pairing {
                id: id_at(time(second)),
                gateway,
                locator: "0001".into(),
                secret: None,
                state: State::Expired,
                attempts_left: 5,
                approval: false,
                created_at: time(second),
                created_by: "admin".into(),
                expires_at: time(second),
                last_attempt_at: None,
                last_attempt_from: None,
            };
            pairings::insert(&mut db, &pairing).await.unwrap();
            let command = commands::Command {
                id: id_at(time(second)),
                gateway,
                time: time(second),
                actor: "admin".into(),
                kind: "reset".into(),
                arguments: String::new(),
                delivered_at: None,
                outcome: None,
                message: String::new(),
                finished_at: None,
            };
            commands::insert(&mut db, &command).await.unwrap();
            let entry = audit::Entry {
                id: id_at(time(second)),
                time: time(second),
                actor: "admin".into(),
                address: String::new(),
                action: "test".into(),
                subject: String::new(),
                detail: String::new(),
            };
            audit::insert(&mut db, &entry).await.unwrap();
        }
        audit::sweep(&mut db, time(3)).await.unwrap();
        assert_eq!(count(&mut db, "audit").await, 1);
        commands::cancel(&mut db, ids[0], None, "", time(2)).await.unwrap();
        commands::sweep(&mut db, time(100)).await.unwrap();
        assert_eq!(count(&mut db, "commands").await, 1, "what is still to be done stays");
        pairings::sweep(&mut db, time(100)).await.unwrap();
        assert_eq!(count(&mut db, "pairings").await, 2, "of each gateway the newest stays");

        for id in &ids[..2] {
            assert!(gateways::delete(&mut db, *id, time(50)).await.unwrap());
        }
        gateways::sweep(&mut db, time(50)).await.unwrap();
        assert_eq!(count(&mut db, "gateways").await, 3);
        gateways::sweep(&mut db, time(51)).await.unwrap();
        for (table, left) in [("gateways", 1), ("events", 0), ("commands", 0), ("pairings", 0)] {
            assert_eq!(count(&mut db, table).await, left, "{table}");
        }
        db.commit().await.unwrap();
    });
}

/// An identifier as it is made at a time.
fn id_at(time: Timestamp) -> Uuid {
    let milliseconds = u64::try_from(time.as_millisecond()).unwrap();
    uuid::Builder::from_unix_timestamp_millis(
        milliseconds,
        &Uuid::new_v4().as_bytes()[..10].try_into().unwrap(),
    )
    .into_uuid()
}

/// Two that demote each other: one of them remains an administrator. Two codes for one gateway: one of them holds.
#[test]
fn who_comes_at_the_same_moment_comes_second() {
    on_both("who_comes_at_the_same_moment_comes_second", async |store| {
        let [one, two] = ["one", "two"].map(|name| Account { role: Role::Administrator, ..account(name) });
        let gateway = Uuid::now_v7();
        let mut db = store.write().await.unwrap();
        accounts::insert(&mut db, &one, "").await.unwrap();
        accounts::insert(&mut db, &two, "").await.unwrap();
        gateways::insert(&mut db, gateway, "edge", "admin", time(0)).await.unwrap();
        db.commit().await.unwrap();
        let demote = async |id| {
            let mut db = store.write().await.unwrap();
            let others = accounts::other_administrators(&mut db, id).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
            if others > 0 {
                accounts::update(&mut db, id, Role::Viewer, false).await.unwrap();
            }
            db.commit().await.unwrap();
            others
        };
        let (a, b) = tokio::join!(demote(one.id), demote(two.id));
        assert_eq!(a + b, 1);

        let add = async |locator: &str| {
            let mut db = store.write().await.unwrap();
            pairings::end(&mut db, gateway, State::Cancelled).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
            let pairing = Pairing {
                id: Uuid::now_v7(),
                gateway,
                locator: locator.into(),
                secret: Some("sealed".into()),
                state: State::Pending,
                attempts_left: 5,
                approval: true,
                created_at: time(0),
                created_by: "admin".into(),
                expires_at: time(100),
                last_attempt_at: None,
                last_attempt_from: None,
            };
            let added = pairings::insert(&mut db, &pairing).await.unwrap();
            db.commit().await.unwrap();
            added
        };
        let (first, second) = tokio::join!(add("0001"), add("0002"));
        // The second may have waited for the first to be over, and have ended it.
        assert!(first || second);
        assert_eq!(pairings::locators(&mut store.read().await.unwrap()).await.unwrap().len(), 1);
    });
}

/// Of several who write at once, none is lost and none fails.
#[test]
fn many_writers_wait_for_each_other() {
    on_both("many_writers_wait_for_each_other", async |store| {
        let writers: Vec<_> = (0..40)
            .map(|number| {
                let store = store.clone();
                tokio::spawn(async move {
                    let mut db = store.write().await.unwrap();
                    accounts::insert(&mut db, &account(&format!("account-{number}")), "").await.unwrap();
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    db.commit().await.unwrap();
                })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
        assert_eq!(accounts::count(&mut store.read().await.unwrap()).await.unwrap(), 40);
    });
}

/// Consoles that start at once on one database agree on their CAs, and a console with another data key does not start.
#[test]
fn consoles_share_their_cas() {
    on_both("consoles_share_their_cas", async |store| {
        let loads: Vec<_> = (0..4)
            .map(|_| {
                let store = store.clone();
                tokio::spawn(async move { Authority::load(&store, time(0)).await.unwrap() })
            })
            .collect();
        let mut cas = BTreeSet::new();
        for load in loads {
            let ca = load.await.unwrap();
            cas.insert((ca.server_ca_pem().to_owned(), ca.device_ca().to_vec()));
        }
        assert_eq!(cas.len(), 1);
        let mut other = store.clone();
        other.secrets = Secrets::new(&[8; 32]).unwrap();
        let refused = Authority::load(&other, time(0)).await.unwrap_err();
        assert!(matches!(refused, gatewright_console::ca::Error::OtherKey(_)), "{refused}");
    });
}
