//! From nothing to TLS with the console, stage by stage, so that a failure has the name of its stage.
//!
//! ```text
//! no-proxy rules ─> DNS ─> TCP ─┬─────────────────────────────────┬─> TLS ─> stream, and the chain that was shown
//!                               └─> (TLS with the proxy) ─> CONNECT ─┘
//! ```

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dns_lookup::{AddrFamily, AddrInfoHints, LookupErrorKind, SockType, getaddrinfo};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use rustls::client::ResolvesClientCert;
use rustls::pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use url::Host;

use crate::chain;
use crate::clock::Clock;
use crate::failure::{Failure, Stage};
use crate::http::{Answer, Channel, NoAnswer, Stream, USER_AGENT};
use crate::route::{Hop, Place, Route, Way};
use crate::trust::{Trust, Voucher};

/// The longest that each stage may take.
const STAGE: Duration = Duration::from_secs(10);
/// What the slower family is waited for (RFC 8305, section 8).
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);
/// What IPv4 is waited for where IPv6 answered first.
const IPV4_DELAY: Duration = Duration::from_secs(2);
/// How long one address has before the next is tried beside it (RFC 8305, section 5).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// A connection to the console.
pub(crate) struct Dialed {
    pub(crate) stream: Stream,
    /// What TLS showed, leaf first.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) voucher: Voucher,
    /// Through which proxy.
    pub(crate) proxy: Option<String>,
}

/// A stage that was passed.
#[derive(Debug)]
pub(crate) struct Passed {
    pub(crate) stage: Stage,
    /// One sentence; none where the stage is not on the way.
    pub(crate) message: Result<String, String>,
    pub(crate) took: Duration,
}

/// Goes all the way.
pub(crate) async fn dial(
    route: &Route,
    trust: &Trust,
    clock: &Arc<Clock>,
    identity: Option<Arc<dyn ResolvesClientCert>>,
    mut passed: impl FnMut(Passed),
) -> Result<Dialed, Failure> {
    let Way { console, proxy, direct_because } = route.way()?;
    let mut began = Instant::now();
    let mut pass = |stage, message| {
        passed(Passed { stage, message, took: began.elapsed() });
        began = Instant::now();
    };

    let next = proxy.as_ref().map_or(&console, |hop| &hop.place);
    let addresses = resolve(next).await?;
    pass(Stage::Dns, dns_words(next, &addresses, proxy.is_some().then_some(&console)));
    let (tcp, address) = connect(next, &addresses).await?;
    let mut stream: Stream = Box::new(tcp);
    let what = if proxy.is_some() { "the proxy" } else { "the console" };
    pass(Stage::Connect, Ok(format!("{address} accepts connections ({what}).")));
    match &proxy {
        None => pass(Stage::Proxy, Err(format!("Not used: {direct_because}."))),
        Some(hop) => {
            if hop.tls {
                stream = tls_to_proxy(stream, hop, route, clock).await?;
            }
            stream = tunnel(stream, hop, &console).await?;
            pass(Stage::Proxy, Ok(format!("{} connects to {console}.", hop.place)));
        }
    }

    let (stream, chain) = tls(stream, &console, trust, clock, identity, proxy.as_ref()).await?;
    let name = console.server_name().expect("TLS has taken it");
    // It was judged so in the handshake; a chain that was refused does not come here.
    let voucher = trust.judge(&chain, &name, clock).unwrap_or(Voucher::Nobody);
    pass(Stage::Tls, Ok(tls_words(&chain, voucher, trust.anybody)));
    Ok(Dialed { stream, chain, voucher, proxy: proxy.map(|hop| hop.place.to_string()) })
}

fn dns_words(place: &Place, addresses: &[SocketAddr], beyond: Option<&Place>) -> Result<String, String> {
    let beyond = match beyond.map(|console| &console.host) {
        Some(Host::Domain(name)) => format!(" The proxy will ask for {name}."),
        _ => String::new(),
    };
    match &place.host {
        Host::Domain(name) => {
            let all: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
            Ok(format!("{name} is {}.{beyond}", all.join(", ")))
        }
        address => Err(format!("Not needed: {address} is an address.{beyond}")),
    }
}

fn tls_words(chain: &[CertificateDer<'_>], voucher: Voucher, anybody: bool) -> String {
    let issuer = chain::issuer(chain);
    match voucher {
        Voucher::Known => format!("The console's certificate is by `{issuer}`, as agreed in pairing."),
        Voucher::ProxyCa => format!("TLS is ended by a proxy, by `{issuer}`, whose CA was given."),
        Voucher::Nobody if anybody => {
            format!("The certificate is by `{issuer}`; pairing will tell whether that is the console's.")
        }
        Voucher::Nobody => format!("The certificate is by `{issuer}`."),
    }
}

async fn resolve(place: &Place) -> Result<Vec<SocketAddr>, Failure> {
    let address = |ip: IpAddr| vec![SocketAddr::new(ip, place.port)];
    let name = match &place.host {
        Host::Ipv4(ip) => return Ok(address((*ip).into())),
        Host::Ipv6(ip) => return Ok(address((*ip).into())),
        Host::Domain(name) => name,
    };
    let found = timeout(STAGE, look_up(name, place.port)).await;
    let failure = |message| {
        Failure::new(
            Stage::Dns,
            message,
            "check the name, and whether the DNS servers of this machine know it",
        )
    };
    match found {
        Ok(Ok(addresses)) => Ok(addresses),
        Ok(Err(LookupErrorKind::Again)) => Err(Failure::new(
            Stage::Dns,
            format!("No DNS server tells the address of {name}."),
            "check the DNS servers of this machine and the way to them",
        )),
        Ok(Err(_)) => Err(failure(format!("The name {name} is not known."))),
        Err(_) => Err(Failure::new(
            Stage::Dns,
            format!("No DNS server answered for {name} within {} seconds.", STAGE.as_secs()),
            "check the DNS servers of this machine and the way to them",
        )),
    }
}

/// Both families, each asked for by itself (RFC 8305, section 3): musl's getaddrinfo(3) gives nothing, and late, where one of
/// its two questions fails, as with the many DNS servers that refuse AAAA of names that they have an A for. IPv4 comes
/// first, because that is what these machines are given.
async fn look_up(name: &str, port: u16) -> Result<Vec<SocketAddr>, LookupErrorKind> {
    let ask = |family: AddrFamily| {
        let name = name.to_owned();
        let hints = AddrInfoHints {
            address: family.into(),
            socktype: SockType::Stream.into(),
            ..AddrInfoHints::default()
        };
        spawn_blocking(move || {
            let found = getaddrinfo(Some(&name), None, Some(hints)).map_err(|error| error.kind())?;
            Ok(found.flatten().map(|info| SocketAddr::new(info.sockaddr.ip(), port)).collect::<Vec<_>>())
        })
    };
    gather([AddrFamily::Inet, AddrFamily::Inet6].map(ask)).await
}

type Answered<E> = Result<Result<Vec<SocketAddr>, LookupErrorKind>, E>;

/// What two questions give, where the second is not waited for without end.
async fn gather<E>(
    asked: [impl Future<Output = Answered<E>>; 2],
) -> Result<Vec<SocketAddr>, LookupErrorKind> {
    let mut asked: FuturesUnordered<_> = asked.into_iter().collect();
    let (mut found, mut failed) = (Vec::<SocketAddr>::new(), LookupErrorKind::NoName);
    loop {
        let patience = match found.iter().any(SocketAddr::is_ipv4) {
            true => RESOLUTION_DELAY,
            false if found.is_empty() => STAGE,
            // From a cache, perhaps; a machine that has IPv4 alone needs the other answer.
            false => IPV4_DELAY,
        };
        match timeout(patience, asked.next()).await {
            Ok(Some(Ok(Ok(addresses)))) => found.extend(addresses),
            Ok(Some(Ok(Err(kind @ LookupErrorKind::Again)))) => failed = kind,
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => break,
        }
    }
    found.sort_by_key(SocketAddr::is_ipv6);
    if found.is_empty() { Err(failed) } else { Ok(found) }
}

/// The first address that answers, each with a head start on the next.
async fn connect(place: &Place, addresses: &[SocketAddr]) -> Result<(TcpStream, SocketAddr), Failure> {
    let mut attempts: FuturesUnordered<_> = addresses
        .iter()
        .zip(0..)
        .map(|(&address, number)| async move {
            sleep(NEXT_ADDRESS * number).await;
            TcpStream::connect(address).await.map(|stream| (stream, address))
        })
        .collect();
    let first = async {
        let mut refused = io::Error::from(io::ErrorKind::AddrNotAvailable);
        while let Some(attempt) = attempts.next().await {
            match attempt {
                Ok(connected) => return Ok(connected),
                Err(e) => refused = e,
            }
        }
        Err(refused)
    };
    let error = match timeout(STAGE, first).await {
        Ok(Ok((stream, address))) => {
            // Small messages that are answered: none may wait for the next.
            return match stream.set_nodelay(true) {
                Ok(()) => Ok((stream, address)),
                Err(e) => Err(connect_failure(place, &e)),
            };
        }
        Ok(Err(e)) => e,
        Err(_) => io::ErrorKind::TimedOut.into(),
    };
    Err(connect_failure(place, &error))
}

fn connect_failure(place: &Place, error: &io::Error) -> Failure {
    use io::ErrorKind as Kind;
    let (message, hint) = match error.kind() {
        Kind::ConnectionRefused => (
            format!("{place} refuses connections."),
            "check host and port, and whether the service runs; a firewall may also answer so",
        ),
        Kind::NetworkUnreachable | Kind::HostUnreachable => (
            format!("There is no route to {place}."),
            "check address, gateway and cable of this machine, and the firewalls on the way",
        ),
        Kind::TimedOut => (
            format!("{place} does not answer."),
            "a firewall on the way may drop what this machine sends; check host and port",
        ),
        _ => (format!("There is no connection to {place}: {error}."), "check the network of this machine"),
    };
    Failure::new(Stage::Connect, message, hint)
}

/// TLS with the proxy itself: the CAs of this machine and those that were given. A login goes over this, so no other
/// certificate is taken.
async fn tls_to_proxy(
    stream: Stream,
    hop: &Hop,
    route: &Route,
    clock: &Arc<Clock>,
) -> Result<Stream, Failure> {
    let of_machine = rustls_native_certs::load_native_certs().certs;
    let trust = Trust::pinned(of_machine, &route.proxy_ca);
    let place = &hop.place;
    let Some(name) = place.server_name() else { return Err(no_server_name(place)) };
    let (config, seen) = trust.client(clock, None);
    match timeout(STAGE, TlsConnector::from(config).connect(name, stream)).await {
        Ok(Ok(stream)) => Ok(Box::new(stream)),
        Ok(Err(e)) => {
            let chain = seen.chain();
            let mut failure = chain::tls_failure(place, &chain, &e, clock);
            failure.message = format!("TLS with the proxy failed: {}", failure.message);
            failure.hint =
                "check the proxy's URL: `http://` unless the proxy itself is to be spoken to by TLS".into();
            if failure.stage == Stage::Intercepted {
                failure.message = format!(
                    "The proxy's certificate is by `{}`, which is unknown here.",
                    chain::issuer(&chain)
                );
                failure.hint = "give the CA of the proxy's certificate as `proxy-ca`".into();
            }
            failure.stage = Stage::Proxy;
            Err(failure)
        }
        Err(_) => Err(Failure::new(
            Stage::Proxy,
            format!("The proxy {place} does not answer in TLS within {} seconds.", STAGE.as_secs()),
            "check whether it is to be spoken to by `http://`",
        )),
    }
}

/// `CONNECT` (RFC 9110, section 9.3.6).
async fn tunnel(stream: Stream, hop: &Hop, console: &Place) -> Result<Stream, Failure> {
    let broken = |why: &NoAnswer| {
        Failure::new(
            Stage::Proxy,
            format!("The proxy {} gives no answer: {why}.", hop.place),
            "check its URL and port, and whether it is an HTTP proxy",
        )
    };
    let channel = Channel::open(stream).await.map_err(|e| broken(&e.into()))?;
    let target = console.to_string();
    let mut request = Request::new(Full::new(Bytes::new()));
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = target.parse::<Uri>().expect("host and port of a URL are an authority");
    let headers = request.headers_mut();
    let ascii = |text: &str| HeaderValue::from_str(text).expect("host, port and base64 are ASCII");
    headers.insert(header::HOST, ascii(&target));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    if let Some(authorization) = &hop.authorization {
        let mut value = ascii(authorization.expose());
        value.set_sensitive(true);
        headers.insert(header::PROXY_AUTHORIZATION, value);
    }
    match channel.upgrade(request, |status| status.is_success(), STAGE).await {
        // TLS begins with the client: whatever spoke before that was no tunnel.
        Ok(Ok(upgraded)) if upgraded.read.is_empty() => Ok(upgraded.stream),
        Ok(Ok(_)) => Err(Failure::new(
            Stage::Proxy,
            format!("The proxy {} speaks where the console should.", hop.place),
            "check whether it is an HTTP proxy",
        )),
        Ok(Err(answer)) => Err(refused_by_proxy(hop, console, &answer)),
        Err(why) => Err(broken(&why)),
    }
}

fn refused_by_proxy(hop: &Hop, console: &Place, answer: &Answer) -> Failure {
    let place = &hop.place;
    let (message, hint) = match answer.status {
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            let offers = answer.header(header::PROXY_AUTHENTICATE).unwrap_or_default();
            let basic = offers.to_ascii_lowercase().contains("basic") || offers.is_empty();
            match (basic, &hop.authorization) {
                (false, _) => (
                    format!("The proxy {place} wants a kind of login that this machine cannot do (407)."),
                    "allow Basic logins, or let this machine pass without one",
                ),
                (true, None) => (
                    format!("The proxy {place} wants a login (407)."),
                    "put `user:password@` before the host in the proxy's URL, percent-encoded",
                ),
                (true, Some(_)) => (
                    format!("The proxy {place} refuses the login that it was given (407)."),
                    "check user and password in the proxy's URL; special characters are percent-encoded",
                ),
            }
        }
        StatusCode::FORBIDDEN | StatusCode::METHOD_NOT_ALLOWED => (
            format!("The proxy {place} does not allow CONNECT to {console} ({}).", answer.status.as_u16()),
            "have the proxy allow this host and port, or name the host in `no-proxy`",
        ),
        status if status.is_server_error() => (
            format!("The proxy {place} does not reach {console} ({}).", status.as_u16()),
            "check the console's name and port, and what the proxy can reach; it looks the name up itself",
        ),
        status => (
            format!("The proxy {place} answers CONNECT with {status}."),
            "check whether it is an HTTP proxy that carries CONNECT",
        ),
    };
    Failure::new(Stage::Proxy, message, hint)
}

async fn tls(
    stream: Stream,
    console: &Place,
    trust: &Trust,
    clock: &Arc<Clock>,
    identity: Option<Arc<dyn ResolvesClientCert>>,
    proxy: Option<&Hop>,
) -> Result<(Stream, Vec<CertificateDer<'static>>), Failure> {
    let Some(name) = console.server_name() else { return Err(no_server_name(console)) };
    let (config, seen) = trust.client(clock, identity);
    match timeout(STAGE, TlsConnector::from(config).connect(name, stream)).await {
        Ok(Ok(stream)) => Ok((Box::new(stream), seen.chain())),
        Ok(Err(e)) => Err(chain::tls_failure(console, &seen.chain(), &e, clock)),
        Err(_) => Err(Failure::new(
            Stage::Tls,
            format!("{console} does not answer in TLS within {} seconds.", STAGE.as_secs()),
            match proxy {
                Some(_) => "the proxy may hold it back: have it let this host pass, or name it in `no-proxy`",
                None => "check whether a console listens there; a firewall may hold it back",
            },
        )),
    }
}

fn no_server_name(place: &Place) -> Failure {
    Failure::new(
        Stage::Tls,
        format!("{} is no name that a certificate can be for.", place.host),
        "use a host name of letters, digits, dashes and dots, or an address",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer that comes after so many milliseconds.
    async fn answer(after: u64, address: &str) -> Answered<()> {
        sleep(Duration::from_millis(after)).await;
        Ok(address.parse().map(|ip| vec![SocketAddr::new(ip, 443)]).map_err(|_| LookupErrorKind::Again))
    }

    #[tokio::test]
    async fn both_families_are_waited_for_ipv4_longer() {
        let (v4, v6) = ("192.0.2.7", "2001:db8::7");
        let table = [
            ((0, v4), (0, v6), vec![v4, v6]),
            ((300, v4), (0, v6), vec![v4, v6]),
            ((0, v4), (1000, v6), vec![v4]),
            ((5000, v4), (0, v6), vec![v6]),
            ((300, "refused"), (0, v6), vec![v6]),
            ((0, "refused"), (300, v6), vec![v6]),
        ];
        for (first, second, expected) in table {
            let found = gather([answer(first.0, first.1), answer(second.0, second.1)]).await.unwrap();
            let found: Vec<_> = found.iter().map(|address| address.ip().to_string()).collect();
            assert_eq!(found, expected, "{first:?} {second:?}");
        }
        let nothing = gather([answer(0, "refused"), answer(50, "refused")]).await;
        assert!(matches!(nothing, Err(LookupErrorKind::Again)));
    }
}
