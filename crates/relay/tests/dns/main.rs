//! Next hops out of a real name server, and what becomes of servers that lie.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod knot;
mod lies;
mod responder;
mod zone;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use inrush_relay::dns::{DnsError, DnsSettings, MailHost, Resolver};

/// Longer than a very busy machine needs for an answer over the loopback; waited for in full by no test.
const PATIENCE: Duration = Duration::from_secs(30);

/// A resolver that asks `servers` and waits for them.
fn settings(servers: &[SocketAddr]) -> DnsSettings {
    DnsSettings { servers: servers.to_vec(), timeout: PATIENCE, ..DnsSettings::default() }
}

/// Runs on one thread, as the relay does.
fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| ip(text)).collect()
}

/// `preference name addresses` of each host.
fn table(hosts: &[MailHost]) -> Vec<String> {
    let line = |host: &MailHost| {
        let addresses: Vec<String> = host.addresses.iter().map(IpAddr::to_string).collect();
        format!("{} {} {}", host.preference, host.name, addresses.join(" ")).trim_end().to_owned()
    };
    hosts.iter().map(line).collect()
}

/// Enhanced code and text of the error for `domain`.
async fn refusal(resolver: &Resolver, domain: &str) -> ((u8, u16, u16), String) {
    let error: DnsError = resolver.mail_hosts(domain).await.unwrap_err();
    assert_eq!(error.permanent(), error.enhanced().0 == 5);
    (error.enhanced(), error.to_string())
}
