//! HTTP for the admin port, and the samples of a scrape.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::process::PATIENCE;

/// A response: status, head in lower case, body.
#[derive(Debug)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Status line and header fields, in lower case.
    pub head: String,
    /// Body, chunked coding undone.
    pub body: String,
}

/// One GET on a connection of its own.
///
/// # Panics
/// There is no HTTP response.
#[track_caller]
pub fn get(address: SocketAddr, path: &str) -> Response {
    request(address, path, "application/openmetrics-text; version=1.0.0, text/plain;q=0.5, */*;q=0.1")
}

/// One GET with this `Accept`.
///
/// # Panics
/// There is no HTTP response.
#[track_caller]
pub fn request(address: SocketAddr, path: &str, accept: &str) -> Response {
    get_with(address, path, &format!("Accept: {accept}\r\n"))
}

/// One GET with these further header lines.
///
/// # Panics
/// There is no HTTP response.
#[track_caller]
pub fn get_with(address: SocketAddr, path: &str, header: &str) -> Response {
    exchange(address, "GET", path, &format!("Host: {address}\r\n{header}"))
}

/// One POST without a body on a connection of its own, with these further header lines.
///
/// # Panics
/// There is no HTTP response.
#[track_caller]
pub fn post(address: SocketAddr, path: &str, header: &str) -> Response {
    exchange(address, "POST", path, &format!("Host: {address}\r\nContent-Length: 0\r\n{header}"))
}

#[track_caller]
fn exchange(address: SocketAddr, method: &str, path: &str, header: &str) -> Response {
    let answer = || -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let request = format!("{method} {path} HTTP/1.1\r\n{header}Connection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    };
    let answer = answer().unwrap_or_else(|error| panic!("{method} http://{address}{path}: {error}"));
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP response: {text}"));
    let head = head.to_lowercase();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let body = if head.contains("transfer-encoding: chunked") { unchunked(body) } else { body.to_owned() };
    Response { status, head, body }
}

fn unchunked(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((size, behind)) = rest.split_once("\r\n") {
        let Some(size) = usize::from_str_radix(size.trim(), 16).ok().filter(|size| *size > 0) else { break };
        body.push_str(behind.get(..size).unwrap_or(behind));
        rest = behind.get(size + 2..).unwrap_or_default();
    }
    body
}

/// The samples of a scrape: series with labels → value.
#[derive(Clone, Debug)]
pub struct Samples(pub BTreeMap<String, f64>);

impl Samples {
    /// Scrapes a gateway.
    ///
    /// # Panics
    /// The scrape fails.
    #[track_caller]
    pub fn scrape(admin: SocketAddr) -> Self {
        let response = get(admin, "/metrics");
        assert_eq!(response.status, 200, "{}", response.body);
        Self::parse(&response.body)
    }

    /// Reads the text form.
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        let samples = lines.filter_map(|line| {
            // An exemplar stands behind the value, after ` # `; a label's value may hold spaces.
            let line = line.split(" # ").next().unwrap_or(line);
            let (series, value) = match line.rfind('}') {
                Some(end) => line.split_at(end + 1),
                None => line.split_at(line.find(' ')?),
            };
            let value = value.split_whitespace().next()?.parse().ok()?;
            Some((series.to_owned(), value))
        });
        Self(samples.collect())
    }

    /// Whether there is a series of this name.
    pub fn has(&self, name: &str) -> bool {
        self.0.keys().any(|series| {
            series.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'))
        })
    }

    /// The sum over all series of this name that carry all of these labels, each as `name="value"`.
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let of_name = |series: &str| {
            series.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'))
        };
        let matching =
            self.0.iter().filter(|(series, _)| of_name(series) && labels.iter().all(|l| series.contains(l)));
        matching.map(|(_, value)| value).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_over_labels() {
        let samples = Samples::parse(
            "# HELP a b\na_total{core=\"0\",x=\"y z\"} 2 # {id=\"1\"} 5\na_total{core=\"1\"} 3\nb 1.5\n",
        );
        assert_eq!(samples.sum("a_total", &[]), 5.0);
        assert_eq!(samples.sum("a_total", &["core=\"1\""]), 3.0);
        assert_eq!(samples.sum("b", &[]), 1.5);
        assert_eq!(samples.sum("a", &[]), 0.0);
    }

    #[test]
    fn chunked_coding_is_undone() {
        assert_eq!(unchunked("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"), "abcde");
    }
}
