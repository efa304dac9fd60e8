//! What steers the spans, with its defaults.

use std::fmt;

use http::Uri;
use http::header::HeaderValue;

/// Where spans go, by OTLP over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(String);

impl Endpoint {
    /// Takes a URL of http or https. Without a path it gets `/v1/traces`, where a Collector takes them.
    ///
    /// # Errors
    /// What such a URL must look like.
    pub fn new(text: &str) -> Result<Self, &'static str> {
        let uri: Uri = text.parse().map_err(|_| "is not a URL")?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err("must begin with http:// or https://");
        }
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        if authority.contains('@') {
            return Err("must not have a user: set authorization_file");
        }
        if uri.host().is_none_or(str::is_empty) {
            return Err("names no host");
        }
        let bare = uri.path_and_query().is_none_or(|rest| rest.as_str() == "/");
        let scheme = uri.scheme_str().unwrap_or_default();
        Ok(Self(if bare { format!("{scheme}://{authority}/v1/traces") } else { text.to_owned() }))
    }

    /// The URL.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What is sent as `Authorization` (RFC 9110 §11.6.2). Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Authorization(String);

impl Authorization {
    /// Takes the first line of `text` without white space around it: a scheme and what it needs, such as `Bearer …`.
    ///
    /// # Errors
    /// What it must look like; the text itself is not told.
    pub fn new(text: &str) -> Result<Self, &'static str> {
        let line = text.lines().next().unwrap_or_default().trim();
        let is_value = HeaderValue::from_str(line).is_ok() && line.is_ascii();
        if !is_value || !line.contains(' ') {
            return Err("must have a scheme and credentials in its first line, such as Bearer TOKEN");
        }
        Ok(Self(line.to_owned()))
    }

    /// The value itself, for whoever sends it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authorization(…)")
    }
}

/// Settings of the spans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpanSettings {
    /// Where they go; without one none are made.
    pub endpoint: Option<Endpoint>,
    /// Sent along.
    pub authorization: Option<Authorization>,
    /// One message of so many is followed, and one request of so many that come without a trace of their own; 1 = all.
    pub one_in: u32,
}

impl Default for SpanSettings {
    fn default() -> Self {
        Self { endpoint: None, authorization: None, one_in: 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        for (text, url) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("https://collector.example/", "https://collector.example/v1/traces"),
            ("http://[::1]:4318/otlp/v1/traces", "http://[::1]:4318/otlp/v1/traces"),
            ("http://tempo.example/?tenant=a", "http://tempo.example/?tenant=a"),
        ] {
            assert_eq!(Endpoint::new(text).map(|endpoint| endpoint.as_str().to_owned()), Ok(url.to_owned()));
        }
        for (text, why) in [
            ("127.0.0.1:4318", "must begin with http:// or https://"),
            ("/v1/traces", "must begin with http:// or https://"),
            ("grpc://127.0.0.1:4317", "must begin with http:// or https://"),
            ("http://a b", "is not a URL"),
            ("http://user:secret@collector.example", "must not have a user: set authorization_file"),
            ("http://:4318", "names no host"),
        ] {
            assert_eq!(Endpoint::new(text), Err(why), "{text}");
        }
    }

    #[test]
    fn authorizations_are_kept_to_themselves() {
        let authorization = Authorization::new(" Bearer secret\nmore").expect("a scheme and a token");
        assert_eq!(authorization.expose(), "Bearer secret");
        assert_eq!(format!("{authorization:?}"), "Authorization(…)");
        for text in ["", "secret", "Bearer secret\u{7}", "Bearer sécret"] {
            assert!(Authorization::new(text).is_err(), "{text:?}");
        }
    }
}
