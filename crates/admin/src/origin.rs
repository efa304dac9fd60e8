//! Who a browser sends a request for.
//!
//! A page of another site can make a browser on this machine, or on that of an operator, send requests here. It cannot read the answers, since no
//! answer allows it to (CORS), but a change would be done and a place of a viewer be taken. So:
//!
//! | request | is refused when |
//! |---|---|
//! | anything but the page and its files | `Sec-Fetch-Site` names another site |
//! | a change | it has no `X-Inrush`, which makes a browser ask before (CORS preflight), and no answer says yes |
//! | a change | `Origin` is not this server |
//!
//! Standards: Fetch, "CORS protocol" and "HTTP-network-or-cache fetch" (`Origin`); Fetch Metadata Request Headers (`Sec-Fetch-Site`).

use hyper::header::{HeaderName, ORIGIN};
use hyper::http::uri::Authority;
use hyper::{Method, Request, Uri};

/// A header field that a form of a strange page cannot send.
pub(crate) const OURS: HeaderName = HeaderName::from_static("x-inrush");

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Why a request is not done for the page that has made a browser send it; `host` is how the client has named this server.
pub(crate) fn refusal<B>(request: &Request<B>, host: Option<&Authority>) -> Option<&'static str> {
    let site = request.headers().get(SEC_FETCH_SITE).map(hyper::header::HeaderValue::as_bytes);
    // `none`: the address was typed in. A browser that does not know the field sends none.
    let is_own = matches!(site, None | Some(b"same-origin"));
    if !is_own && site != Some(b"none") {
        return Some("the request comes from a page of another site");
    }
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return None;
    }
    if !is_own {
        return Some("a change comes from a page of this server, or from no page at all");
    }
    let mut origins = request.headers().get_all(ORIGIN).iter();
    if let Some(origin) = origins.next() {
        let named = origin.to_str().ok().and_then(|origin| origin.parse::<Uri>().ok());
        // A proxy in front may speak TLS: the scheme is not ours to know.
        let is_web = |named: &Uri| matches!(named.scheme_str(), Some("http" | "https"));
        let named = named.filter(is_web).and_then(|named| named.into_parts().authority);
        if origins.next().is_some() || named.is_none() || named.as_ref() != host {
            return Some("Origin is not this server");
        }
    }
    let marked = request.headers().contains_key(OURS);
    (!marked).then_some("a change needs the header field X-Inrush")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn asked(method: &str, fields: &[(&str, &str)]) -> Option<&'static str> {
        let mut request = Request::builder().method(method).uri("/api/v1/queue/hold");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        refusal(&request.body(()).unwrap(), Some(&"127.0.0.1:9925".parse().unwrap()))
    }

    #[test]
    fn a_change_comes_from_here_or_from_no_page() {
        let marked = ("x-inrush", "1");
        let own = ("origin", "http://127.0.0.1:9925");
        for (fields, done) in [
            (&[marked][..], true),
            (&[marked, own], true),
            (&[marked, ("origin", "https://127.0.0.1:9925")], true),
            (&[marked, own, ("sec-fetch-site", "same-origin")], true),
            (&[], false),
            (&[own], false),
            (&[marked, ("origin", "null")], false),
            (&[marked, ("origin", "")], false),
            (&[marked, ("origin", "http://127.0.0.1:9926")], false),
            (&[marked, ("origin", "http://evil.example")], false),
            (&[marked, ("origin", "ftp://127.0.0.1:9925")], false),
            (&[marked, own, ("origin", "http://evil.example")], false),
            (&[marked, own, ("sec-fetch-site", "same-site")], false),
            (&[marked, own, ("sec-fetch-site", "cross-site")], false),
            (&[marked, ("sec-fetch-site", "none")], false),
            (&[marked, ("sec-fetch-site", "nonsense")], false),
        ] {
            assert_eq!(asked("POST", fields).is_none(), done, "{fields:?}");
        }
    }

    #[test]
    fn a_page_of_another_site_reads_nothing() {
        assert!(asked("GET", &[]).is_none());
        assert!(asked("GET", &[("sec-fetch-site", "none")]).is_none());
        assert!(asked("HEAD", &[("sec-fetch-site", "same-origin")]).is_none());
        assert!(asked("GET", &[("sec-fetch-site", "cross-site")]).is_some());
        assert!(asked("GET", &[("sec-fetch-site", "same-site")]).is_some());
    }
}
