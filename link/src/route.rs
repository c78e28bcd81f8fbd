//! Where the console is, and what lies between.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use protocol::secret::Secret;
use rustls::pki_types::{CertificateDer, ServerName};
use url::{Host, Url};

use crate::failure::{Failure, Stage};
use crate::no_proxy;

/// The way to a console.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Route {
    /// `https://host[:port]`; what follows is not looked at.
    pub origin: Url,
    /// The proxy, where there is one.
    pub proxy: Option<Proxy>,
    /// CAs of proxies that end TLS and are meant to; also believed where the proxy itself is spoken to by TLS.
    pub proxy_ca: Vec<CertificateDer<'static>>,
}

/// A proxy that carries `CONNECT` (RFC 9110, section 9.3.6).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Proxy {
    /// `http[s]://[user:password@]host[:port]`; user and password percent-encoded. That of HTTPS requests: a console is
    /// spoken to in no other way.
    pub url: Secret,
    /// What is reached without it: see [`crate::no_proxy`].
    pub no_proxy: Vec<String>,
}

/// A host and a port of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Place {
    pub(crate) host: Host<String>,
    pub(crate) port: u16,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Place {
    fn of(url: &Url) -> Option<Place> {
        Some(Place { host: url.host()?.to_owned(), port: url.port_or_known_default()? })
    }

    /// As TLS wants it.
    pub(crate) fn server_name(&self) -> Option<ServerName<'static>> {
        Some(match &self.host {
            Host::Domain(name) => ServerName::try_from(name.clone()).ok()?,
            Host::Ipv4(address) => ServerName::IpAddress((*address).into()),
            Host::Ipv6(address) => ServerName::IpAddress((*address).into()),
        })
    }
}

/// The way as it is gone.
#[derive(Debug)]
pub(crate) struct Way {
    pub(crate) console: Place,
    pub(crate) proxy: Option<Hop>,
    /// Why there is no proxy on it, in words.
    pub(crate) direct_because: String,
}

/// The proxy on the way.
pub(crate) struct Hop {
    pub(crate) place: Place,
    pub(crate) tls: bool,
    /// The value of `Proxy-Authorization` (RFC 7617).
    pub(crate) authorization: Option<Secret>,
}

impl fmt::Debug for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hop({})", self.place)
    }
}

impl Route {
    /// As protocol and console write it: `https://host[:port]`.
    #[must_use]
    pub fn origin(&self) -> String {
        self.origin.origin().ascii_serialization()
    }

    /// Which way to go.
    pub(crate) fn way(&self) -> Result<Way, Failure> {
        let console =
            Place::of(&self.origin).filter(|_| self.origin.scheme() == "https").ok_or_else(|| {
                Failure::new(
                    Stage::Origin,
                    format!("{} is no URL of a console.", self.origin),
                    "it is to be `https://host` or `https://host:port`",
                )
            })?;
        let Some(proxy) = &self.proxy else {
            return Ok(Way { console, proxy: None, direct_because: "no proxy is set".into() });
        };
        let host = match &console.host {
            Host::Domain(name) => Host::Domain(name.as_str()),
            Host::Ipv4(address) => Host::Ipv4(*address),
            Host::Ipv6(address) => Host::Ipv6(*address),
        };
        if let Some(rule) = no_proxy::bypass(&proxy.no_proxy, &host, console.port) {
            let direct_because = format!("`{rule}` of no-proxy names {}", console.host);
            return Ok(Way { console, proxy: None, direct_because });
        }
        let hop = Hop::of(&proxy.url).ok_or_else(|| {
            Failure::new(
                Stage::Proxy,
                "The proxy's URL is none.",
                "it is to be `http://host:port`, with `user:password@` before the host where the proxy wants a login",
            )
        })?;
        Ok(Way { console, proxy: Some(hop), direct_because: String::new() })
    }
}

impl Hop {
    fn of(url: &Secret) -> Option<Hop> {
        let url = Url::parse(url.expose()).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
        let decoded = |text: &str| percent_decode_str(text).collect::<Vec<u8>>();
        let authorization = (!url.username().is_empty() || url.password().is_some()).then(|| {
            let mut login = decoded(url.username());
            login.push(b':');
            login.extend(decoded(url.password().unwrap_or_default()));
            Secret::new(format!("Basic {}", STANDARD.encode(login)))
        });
        Some(Hop { place: Place::of(&url)?, tls: url.scheme() == "https", authorization })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(origin: &str, proxy: Option<&str>, no_proxy: &[&str]) -> Route {
        Route {
            origin: origin.parse().unwrap(),
            proxy: proxy.map(|url| Proxy {
                url: Secret::new(url.into()),
                no_proxy: no_proxy.iter().map(|rule| (*rule).into()).collect(),
            }),
            proxy_ca: Vec::new(),
        }
    }

    #[test]
    fn ways() {
        let way = route("https://console.example.com", None, &[]).way().unwrap();
        assert_eq!(way.console.to_string(), "console.example.com:443");
        assert_eq!(way.direct_because, "no proxy is set");

        let through = route("https://[2001:db8::1]:8443/", Some("http://192.0.2.8:3128"), &[]);
        assert_eq!(through.origin(), "https://[2001:db8::1]:8443");
        let way = through.way().unwrap();
        assert_eq!(way.console.to_string(), "[2001:db8::1]:8443");
        let hop = way.proxy.unwrap();
        assert_eq!((hop.place.to_string().as_str(), hop.tls), ("192.0.2.8:3128", false));
        assert!(hop.authorization.is_none());

        let way = route("https://192.0.2.9", Some("http://192.0.2.8:3128"), &["192.0.2.0/24"]).way().unwrap();
        assert!(way.proxy.is_none());
        assert_eq!(way.direct_because, "`192.0.2.0/24` of no-proxy names 192.0.2.9");

        assert_eq!(route("http://console.example.com", None, &[]).way().unwrap_err().stage, Stage::Origin);
        let odd = route("https://a.test", Some("socks5://192.0.2.8"), &[]).way().unwrap_err();
        assert_eq!(odd.stage, Stage::Proxy);
    }

    #[test]
    fn a_login_is_decoded_and_not_shown() {
        let way = route("https://a.test", Some("https://us%40er:p%3Aw%25@proxy.test"), &[]).way().unwrap();
        let hop = way.proxy.as_ref().unwrap();
        assert_eq!((hop.place.port, hop.tls), (443, true));
        let expected = format!("Basic {}", STANDARD.encode("us@er:p:w%"));
        assert_eq!(hop.authorization.as_ref().unwrap().expose(), expected);
        assert!(!format!("{way:?}").contains("Basic"));
    }
}
