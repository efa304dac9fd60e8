//! Measurements, alone and against other servers. They want a quiet machine and are no part of the tests.

mod abuse;
mod all;
mod backlog;
mod beside;
mod compare;
mod cpu;
mod dead_destination;
mod dead_host;
mod deferred;
mod disk;
mod generator;
mod idle;
mod label;
mod large;
mod latency;
mod live_load;
mod load;
mod machine;
mod micro;
mod next_hop;
mod page;
mod plot;
mod reading;
mod relay;
mod report;
mod result;
mod rivals;
mod rounds;
mod scale;
mod scenario;
mod scrape;
mod servers;
mod sizing;
mod stamp;
mod system;
mod tls;
mod turnover;
mod upgrade;

/// Which measurement.
#[derive(clap::Subcommand)]
pub(crate) enum Task {
    /// What a well-behaved sender notices of abuse
    Abuse(abuse::Arguments),
    /// Everything that a release shows, into one folder and one page
    All(all::Arguments),
    /// What a tool that reads the log, or everybody who watches, costs the gateway
    Beside(beside::Arguments),
    /// Other servers and inrush, side by side under the same load
    Compare(compare::Arguments),
    /// Time to delivery of others while many messages wait for a dead destination
    DeadDestination(dead_destination::Arguments),
    /// Memory, start and accept rate with a million deferred messages
    Deferred(deferred::Arguments),
    /// Memory of idle connections
    Idle(idle::Arguments),
    /// Large messages against the disk's own speed, and the memory of their sessions
    Large(large::Arguments),
    /// Time to the 250 at half of the maximum rate, against the disk's own
    Latency(latency::Arguments),
    /// Instructions and time of each part of the accept path
    Micro(micro::Arguments),
    /// The results of a release as a page with plots
    Page(page::Arguments),
    /// Recovery, verification and export of a log, against reading the disk
    Reading(reading::Arguments),
    /// Messages handed on to a next hop, against Postfix handing on the same
    Relay(relay::Arguments),
    /// How the cost of a message grows with cores, connections and the log
    Scale(scale::Arguments),
    /// Time and processor time of a scrape of the metrics, and what sessions notice of it
    Scrape(scrape::Arguments),
    /// What ends first on another machine, calculated from a result of `system`
    Sizing(sizing::Arguments),
    /// The gateway against the floor under it, in the scenarios of bench/system
    System(system::Arguments),
    /// Processor time of TLS handshakes and sessions, against rustls alone and Postfix
    Tls(tls::Arguments),
    /// What making and retiring segments costs, beside a log that has them all ready
    Turnover(turnover::Arguments),
    /// What clients notice of upgrades
    Upgrade(upgrade::Arguments),
}

/// Runs it.
///
/// # Errors
/// A server or client cannot be started, or a run fails.
pub(crate) fn run(task: &Task) -> anyhow::Result<()> {
    match task {
        Task::Abuse(arguments) => abuse::run(arguments),
        Task::All(arguments) => all::run(arguments),
        Task::Beside(arguments) => beside::run(arguments),
        Task::Compare(arguments) => compare::run(arguments),
        Task::DeadDestination(arguments) => dead_destination::run(arguments),
        Task::Deferred(arguments) => deferred::run(arguments),
        Task::Idle(arguments) => idle::run(arguments),
        Task::Large(arguments) => large::run(arguments),
        Task::Latency(arguments) => latency::run(arguments),
        Task::Micro(arguments) => micro::run(arguments),
        Task::Page(arguments) => page::run(arguments),
        Task::Reading(arguments) => reading::run(arguments),
        Task::Relay(arguments) => relay::run(arguments),
        Task::Scale(arguments) => scale::run(arguments),
        Task::Scrape(arguments) => scrape::run(arguments),
        Task::Sizing(arguments) => sizing::run(arguments),
        Task::System(arguments) => system::run(arguments),
        Task::Tls(arguments) => tls::run(arguments),
        Task::Turnover(arguments) => turnover::run(arguments),
        Task::Upgrade(arguments) => upgrade::run(arguments),
    }
}
