//! The dashboard: a page of plain HTML with its style, its modules and uPlot, all part of the program.
//!
//! It holds nothing worth a secret, so it is given to whoever may connect; what it shows it asks for with the token, where there is one. No
//! script or style stands in the page itself and nothing is loaded from elsewhere, which [`POLICY`] makes the browser see to. Scripts make text
//! nodes only: what senders and other servers have said is never read as HTML (`require-trusted-types-for` refuses every other way).
//!
//! Standards: Content Security Policy Level 3, Trusted Types; RFC 9110 §8.8.3 and §13.1.2 (ETag, If-None-Match).

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH};
use hyper::{Response, StatusCode};

/// What the page may load and do.
pub(crate) const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
     frame-ancestors 'none'; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// A file of the page.
struct File {
    path: &'static str,
    content_type: &'static str,
    octets: &'static [u8],
}

macro_rules! files {
    ($($path:literal $content_type:ident $file:literal;)+) => {
        &[$(File { path: $path, content_type: $content_type, octets: include_bytes!(concat!("../page/", $file)) }),+]
    };
}

const ICON: &str = "image/svg+xml";
const FILES: &[File] = files! {
    "/" HTML "index.html";
    "/page/style.css" CSS "style.css";
    "/page/icon.svg" ICON "icon.svg";
    "/page/app.js" SCRIPT "app.js";
    "/page/charts.js" SCRIPT "charts.js";
    "/page/dom.js" SCRIPT "dom.js";
    "/page/format.js" SCRIPT "format.js";
    "/page/live.js" SCRIPT "live.js";
    "/page/messages.js" SCRIPT "messages.js";
    "/page/panels.js" SCRIPT "panels.js";
    "/page/server.js" SCRIPT "server.js";
    "/page/uplot.js" SCRIPT "vendor/uPlot.iife.min.js";
    "/page/uplot.css" CSS "vendor/uPlot.min.css";
};

/// Whether a path is one of the page.
pub(crate) fn has(path: &str) -> bool {
    FILES.iter().any(|file| file.path == path)
}

/// A file of the page, or the word that the client has it already; `None` when it is none of the page.
pub(crate) fn answer(path: &str, headers: &HeaderMap) -> Option<Response<Full<Bytes>>> {
    let file = FILES.iter().find(|file| file.path == path)?;
    let tag = file.tag();
    let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|field| field.to_str().ok());
    let known = known.flat_map(|field| field.split(',')).any(|known| {
        let known = known.trim();
        // RFC 9110 §13.1.2: compared weakly.
        known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag
    });
    let mut response =
        Response::new(Full::new(if known { Bytes::new() } else { Bytes::from_static(file.octets) }));
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(file.content_type));
    }
    if let Ok(tag) = HeaderValue::try_from(tag) {
        response.headers_mut().insert(ETAG, tag);
    }
    // Asked for again each time, and told that it is still the same: the next version of the program brings all of them at once.
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Some(response)
}

impl File {
    /// Different for different octets, as far as 64 bits go: nobody has chosen them to be alike.
    fn tag(&self) -> String {
        let mut hasher = DefaultHasher::new();
        self.octets.hash(&mut hasher);
        format!("\"{:016x}\"", hasher.finish())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    /// Text of the page that is ours.
    fn ours() -> impl Iterator<Item = (&'static str, &'static str)> {
        let ours = FILES.iter().filter(|file| !file.path.contains("uplot"));
        ours.map(|file| (file.path, std::str::from_utf8(file.octets).unwrap()))
    }

    #[test]
    fn nothing_reads_text_as_html_or_script() {
        for (path, text) in ours() {
            for word in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "new Function",
                "javascript:",
                "setAttribute(\"style\"",
                "srcdoc",
                "DOMParser",
                "createContextualFragment",
            ] {
                assert!(!text.contains(word), "{path}: {word}");
            }
        }
    }

    #[test]
    fn nothing_is_inline_or_loaded_from_elsewhere() {
        for (path, text) in ours() {
            let text = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!text.contains("http://") && !text.contains("https://"), "{path}");
            assert!(!text.contains("url(") && !text.contains("@import"), "{path}");
        }
        let html = std::str::from_utf8(FILES[0].octets).unwrap();
        assert!(!html.contains("style=") && !html.contains("<style"), "{html}");
        let handlers = html.split(" on").skip(1).filter(|rest| {
            let name: String = rest.chars().take_while(char::is_ascii_alphabetic).collect();
            rest[name.len()..].starts_with('=')
        });
        assert_eq!(handlers.count(), 0, "{html}");
        let loaded =
            html.matches("<script src=").count() + html.matches("<script type=\"module\" src=").count();
        assert_eq!(html.matches("<script").count(), loaded);
    }

    #[test]
    fn all_that_is_loaded_is_there() {
        for (path, text) in ours() {
            let quoted = text.split('"').filter(|word| word.starts_with("/page/") || word.starts_with("./"));
            for named in quoted {
                let named = named.replace("./", "/page/");
                assert!(FILES.iter().any(|file| file.path == named), "{path}: {named}");
            }
        }
    }

    #[test]
    fn who_has_a_file_is_told_so() {
        let mut headers = HeaderMap::new();
        let first = answer("/page/app.js", &headers).unwrap();
        assert_eq!(first.status(), StatusCode::OK);
        let tag = first.headers()[ETAG].clone();
        headers.insert(IF_NONE_MATCH, format!("\"x\", W/{}", tag.to_str().unwrap()).parse().unwrap());
        assert_eq!(answer("/page/app.js", &headers).unwrap().status(), StatusCode::NOT_MODIFIED);
        assert_eq!(answer("/page/style.css", &headers).unwrap().status(), StatusCode::OK);
        assert!(answer("/page/", &headers).is_none() && answer("/page/../Cargo.toml", &headers).is_none());
    }
}
