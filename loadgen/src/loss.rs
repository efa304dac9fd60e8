//! Why a connection ended before its time, and whose fault that is.

use std::io;

use inrush_proto::client::{ProtocolError, UnsafeArgument};
use rustix::io::Errno;

use crate::flights::Failure;
use crate::slot::Kick;
use crate::wire::WireError;

/// Why a connection ended before its time.
#[derive(Debug)]
pub(crate) enum Lost {
    /// The connection failed, or the watchdog ended it.
    Wire(WireError),
    /// The server left the protocol.
    Protocol(ProtocolError),
    /// The server did not answer AUTH with a reply.
    Authentication,
    /// The server said so (421, refused greeting, STARTTLS or AUTH); booked already.
    Closing,
    /// The server closed while the connection waited for its next message: nobody lost anything.
    Idle,
    /// The run ends: reason booked already.
    RunEnds,
}

impl<E: Into<WireError>> From<E> for Lost {
    fn from(error: E) -> Self {
        Self::Wire(error.into())
    }
}

impl Lost {
    /// Templates are checked when the plan is made.
    pub(crate) fn never(_: UnsafeArgument) -> Self {
        Self::RunEnds
    }

    /// Place and text of the cause (no place: it is booked already), and how its messages are booked. `connecting`: not one message had begun.
    pub(crate) fn explain(&self, connecting: bool) -> (&'static str, String, Failure) {
        match self {
            Self::Wire(WireError::Kicked(Kick::Timeout)) => ("timeout", String::new(), Failure::Failed),
            Self::Wire(WireError::Kicked(Kick::End)) => (
                "timeout",
                "the run is over for longer than --timeout and --grace".to_owned(),
                Failure::Failed,
            ),
            Self::Wire(WireError::Kicked(Kick::Interrupted)) => {
                ("interrupted", String::new(), Failure::Unfinished)
            }
            Self::Wire(WireError::Io(error)) if connecting => match lacks(error) {
                Some(lacking) => ("generator", lacking, Failure::Impossible),
                None => ("connect", error.to_string(), Failure::Failed),
            },
            Self::Wire(WireError::Io(error)) => ("connection", error.to_string(), Failure::Failed),
            Self::Wire(WireError::Tls(error)) => ("tls", error.to_string(), Failure::Failed),
            Self::Wire(WireError::Eof) => ("connection", "closed by the server".to_owned(), Failure::Failed),
            Self::Authentication => ("auth", "not a reply".to_owned(), Failure::Failed),
            Self::Protocol(error) => ("protocol", error.to_string(), Failure::Failed),
            Self::Closing => ("", String::new(), Failure::Refused),
            Self::Idle | Self::RunEnds => ("", String::new(), Failure::Unfinished),
        }
    }
}

/// What this machine lacks for another connection; None: the error is the server's or the network's.
pub(crate) fn lacks(error: &io::Error) -> Option<String> {
    let advice = match Errno::from_io_error(error)? {
        Errno::ADDRNOTAVAIL | Errno::ADDRINUSE => {
            "no free port, or an address that is not of this machine: --source-address, -d, a lower --connect-rate"
        }
        Errno::MFILE | Errno::NFILE => "too few open files: ulimit -Hn, fs.file-max",
        Errno::NOBUFS | Errno::NOMEM => "no memory for another socket",
        _ => return None,
    };
    Some(format!("{error} ({advice})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lacks_here_is_not_the_servers_fault() {
        for errno in [Errno::ADDRNOTAVAIL, Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM] {
            let lost = Lost::Wire(io::Error::from(errno).into());
            let (place, text, failure) = lost.explain(true);
            assert_eq!((place, failure), ("generator", Failure::Impossible), "{text}");
            assert_eq!(lost.explain(false).0, "connection");
        }
        for errno in [Errno::CONNREFUSED, Errno::NETUNREACH, Errno::TIMEDOUT] {
            assert_eq!(Lost::Wire(io::Error::from(errno).into()).explain(true).0, "connect");
        }
    }
}
