//! `inrush-floor`: the least that an SMTP server can do on the gateway's runtime.
//!
//! Run beside the gateway in the same minute, it tells what of the processor time of a message is the kernel's and the runtime's.
//! Runtime, listeners, acceptors, sockets, receive buffers, allocator and build profile are those of `inrush serve`, most of them the same
//! code; the work between receive and send is not: replies are fixed, nothing is checked and nothing is kept.
//!
//! Standard output: `listening ADDRESS` when connections are taken, and `accepted N` whenever SIGUSR1 asks for the messages
//! that were answered with `250` so far. Not for the open internet: everything is taken, for everybody, and thrown away.

#![forbid(unsafe_code)]

mod dialog;
mod secure;
mod server;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

use anyhow::{Context as _, anyhow};
use clap::Parser;
use signal_hook::consts::SIGUSR1;
use signal_hook::iterator::Signals;

use crate::server::Accepted;
use inrush_gateway::base;
use inrush_gateway::tls::{CertificateFiles, Certificates, TlsSettings};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// An SMTP server that checks and keeps nothing: the floor under the cost of a message.
#[derive(Debug, Parser)]
#[command(name = "inrush-floor", version)]
struct Arguments {
    /// Where it listens; port 0 is chosen by the kernel.
    #[arg(long, default_value = "127.0.0.1:2525")]
    listen: SocketAddr,
    /// Threads; 0 takes one for each processor.
    #[arg(long, default_value_t = 0)]
    cores: usize,
    /// Pin each thread to a processor of its own, as long as there are any; as `pin_cores` of the gateway.
    #[arg(long)]
    pin_cores: bool,
    /// Offer STARTTLS with this certificate, in PEM.
    #[arg(long, requires = "key")]
    certificate: Option<PathBuf>,
    /// The key of the certificate.
    #[arg(long, requires = "certificate")]
    key: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let processors = base::usable_processors();
    let cores = if arguments.cores == 0 { processors.len() } else { arguments.cores };
    let certificates = certificates(&arguments)?;
    base::raise_open_files_limit();
    // Before the first thread, so that all of them leave the signal to the iterator.
    let mut signals = Signals::new([SIGUSR1])?;
    let listeners = base::bind("floor", arguments.listen, false, cores)?;
    let address = listeners[0].local_addr()?;
    let counts: Vec<Arc<Accepted>> = (0..cores).map(|_| Arc::default()).collect();
    let (ended, end) = std::sync::mpsc::channel();
    for (index, listener) in listeners.into_iter().enumerate() {
        let processor = processors.get(index).copied().filter(|_| arguments.pin_cores);
        let (accepted, ended) = (Arc::clone(&counts[index]), ended.clone());
        let certificates = certificates.clone();
        thread::Builder::new().name(format!("floor-{index}")).spawn(move || {
            let result = server::run(listener, processor, certificates, accepted);
            let _ = ended.send(result);
        })?;
    }
    say(&format!("listening {address}"))?;
    thread::Builder::new().name("floor-signals".into()).spawn(move || {
        for _ in signals.forever() {
            let accepted: u64 = counts.iter().map(|count| count.0.load(Ordering::Relaxed)).sum();
            if say(&format!("accepted {accepted}")).is_err() {
                return;
            }
        }
    })?;
    // A core runs until the process is ended; that one has ended is an error.
    end.recv()?.context("a core could not start")
}

/// The certificate to show, if there is one.
fn certificates(arguments: &Arguments) -> anyhow::Result<Option<Arc<Certificates>>> {
    let (Some(certificate), Some(key)) = (arguments.certificate.clone(), arguments.key.clone()) else {
        return Ok(None);
    };
    let settings =
        TlsSettings { certificate: Some(CertificateFiles { certificate, key }), ..TlsSettings::default() };
    let certificates = Certificates::load(&settings)
        .map_err(|errors| anyhow!(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")))?;
    Ok(certificates.map(Arc::new))
}

fn say(line: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
