//! A new client certificate after a third of the old one's life, by itself.

use std::convert::Infallible;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use protocol::bytes::Bytes;
use protocol::device_key::DeviceKey;
use protocol::link::{Renewal, Renewed};
use protocol::pairing::Grant;
use tokio::time::sleep;

use crate::backoff::between;
use crate::console::{ANSWER, Console, Credentials};
use crate::failure::{Failure, Stage};
use crate::link::Link;
use crate::pair::certificate_request;

/// How often it is looked whether it is time: clocks are set meanwhile, and machines sleep.
const LOOK: Duration = Duration::from_secs(3600);
/// From a failure to the next try.
const AGAIN: (Duration, Duration) = (Duration::from_secs(5 * 60), Duration::from_secs(15 * 60));

/// Renews for as long as it runs.
pub(crate) async fn renew(link: &Link) -> Infallible {
    loop {
        let credentials = link.console.credentials();
        let due = due(credentials.lifetime, between(Duration::ZERO, Duration::from_secs(1)).as_secs_f64());
        loop {
            let left = due.duration_since(link.console.store.clock().now());
            if left <= SignedDuration::ZERO {
                break;
            }
            sleep(left.unsigned_abs().min(LOOK)).await;
        }
        let failure = once(&link.console).await.err();
        let failed = failure.is_some();
        link.renewal(failure);
        if failed {
            sleep(between(AGAIN.0, AGAIN.1)).await;
        }
    }
}

/// A third of the life, and up to a tenth of that later, so that machines that were paired together do not all come at
/// once.
fn due((from, to): (Timestamp, Timestamp), random: f64) -> Timestamp {
    let third = to.duration_since(from) / 3;
    from + third + third.mul_f64(0.1 * random)
}

async fn once(console: &Console) -> Result<(), Failure> {
    let old = console.credentials();
    let damaged = || Failure::new(Stage::Disk, "The device key is damaged.", "pair anew, with a new code");
    let certificate_request = Bytes(certificate_request(&old.key).ok_or_else(damaged)?);
    let body = serde_json::to_vec(&Renewal { certificate_request }).expect("it is bytes");
    let mut connection = console.connect().await?;
    let answer = connection.post(console, "/v1/link/certificate", body, ANSWER).await?;
    if !answer.status.is_success() {
        return Err(console.failure(&answer));
    }
    let renewed: Renewed = answer.value(&console.route.origin())?;
    // Where a proxy ends TLS, it could have written that bundle itself, to be believed also where it is not on the way.
    let ca_bundle = if connection.vouched { renewed.ca_bundle } else { old.grant.ca_bundle.clone() };
    let grant = Grant { certificate: renewed.certificate, ca_bundle, ..old.grant.clone() };
    let key = DeviceKey::from_pkcs8(old.key.to_pkcs8()).map_err(|_| damaged())?;
    let strange = |why: &str| {
        Failure::new(
            Stage::Http,
            format!("The console's new certificate cannot be used: {why}."),
            "look at the console's log",
        )
    };
    let new = Credentials::new(key, grant, &console.route).map_err(strange)?;
    if new.lifetime.1 <= old.lifetime.1 {
        return Err(strange("it ends no later than the old one"));
    }
    console.replace(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_and_a_little() {
        let from: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let to: Timestamp = "2026-01-31T00:00:00Z".parse().unwrap();
        assert_eq!(due((from, to), 0.0).to_string(), "2026-01-11T00:00:00Z");
        assert_eq!(due((from, to), 1.0).to_string(), "2026-01-12T00:00:00Z");
    }
}
