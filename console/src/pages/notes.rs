//! What a page says once, after a form: sentences that came of it, in a cookie until the next page has shown them. An
//! address could carry them too, but then anybody could put words on our pages by a link.

use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cookie::{Cookie, SameSite};

/// `__Host-`: no other host can set it.
const NAME: &str = "__Host-notes";
/// Browsers drop what is longer than 4096 bytes (RFC 6265, section 6.1), and with it the rest.
const MOST: usize = 3000;

/// Keeps sentences for the next page.
pub(super) fn keep(response: &mut Response, notes: &[String]) {
    let mut text = notes.join("\n");
    text.truncate(text.floor_char_boundary(MOST));
    if !text.is_empty() {
        set(response, &cookie(&URL_SAFE_NO_PAD.encode(text)));
    }
}

/// Those that were kept.
pub(super) fn kept(headers: &HeaderMap) -> Vec<String> {
    let sent = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let value = sent
        .flat_map(Cookie::split_parse)
        .filter_map(Result::ok)
        .find(|cookie| cookie.name() == NAME)
        .and_then(|cookie| URL_SAFE_NO_PAD.decode(cookie.value()).ok());
    let text = value.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Forgets them: they were shown.
pub(super) fn forget(response: &mut Response) {
    let mut cookie = cookie("");
    cookie.make_removal();
    set(response, &cookie);
}

fn cookie(value: &str) -> Cookie<'_> {
    Cookie::build((NAME, value)).path("/").secure(true).http_only(true).same_site(SameSite::Lax).build()
}

fn set(response: &mut Response, cookie: &Cookie<'_>) {
    if let Ok(value) = HeaderValue::from_str(&cookie.to_string()) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_shown_once() {
        let mut response = Response::default();
        keep(&mut response, &["The vCenter's <b>.".into(), "ä;\"=".into()]);
        let set = response.headers()[header::SET_COOKIE].to_str().unwrap();
        let (sent, rest) = set.split_once(';').unwrap();
        assert!(rest.contains("HttpOnly") && rest.contains("Secure") && rest.contains("Path=/"), "{rest}");
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, HeaderValue::from_str(&format!("other=1; {sent}")).unwrap());
        assert_eq!(kept(&headers), ["The vCenter's <b>.", "ä;\"="]);
        let mut response = Response::default();
        forget(&mut response);
        assert!(response.headers()[header::SET_COOKIE].to_str().unwrap().contains("Max-Age=0"));
        keep(&mut response, &[]);
        assert_eq!(response.headers().get_all(header::SET_COOKIE).iter().count(), 1);
        assert_eq!(kept(&HeaderMap::new()), Vec::<String>::new());
    }
}
