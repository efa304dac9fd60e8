//! What all sessions of one listener on one core share: settings, rendered replies, pools.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;

use crate::sasl::Mechanism;
use crate::transaction::Transaction;
use crate::xclient;
use crate::{BareNewline, Extensions, Kind, Limits, Reply, Tls, UnauthorizedPipelining, Verb};

/// Counts what sessions do. Called once for each command and each reply, on the thread of the session.
pub trait Observe {
    /// A reply was written, as `wire` but for the name of the host, a challenge or the id of a message.
    fn reply(&self, reply: &'static Reply, wire: &[u8]);
    /// A command was recognised in `line`, which stands here without its line end; its reply comes later.
    fn command(&self, verb: Verb, line: &[u8]);
    /// More came behind a command than the client may send before its reply (RFC 2920 §3.1).
    fn unauthorized_pipelining(&self) {}
}

/// An observer that counts nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unobserved;

impl Observe for Unobserved {
    fn reply(&self, _: &'static Reply, _: &[u8]) {}
    fn command(&self, _: Verb, _: &[u8]) {}
}

/// The settings of a listener as far as the dialog is concerned.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name of this host in the greeting, in EHLO and in 421 replies: a domain name or an address literal.
    pub hostname: String,
    /// Bounds of one session.
    pub limits: Limits,
    /// What happens to a bare CR or LF in DATA.
    pub bare_newline: BareNewline,
    /// What happens to a client that does not wait for replies.
    pub unauthorized_pipelining: UnauthorizedPipelining,
    /// What the listener is for.
    pub kind: Kind,
    /// Whether it speaks TLS.
    pub tls: Tls,
    /// Extensions to offer.
    pub extensions: Extensions,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            hostname: "localhost".to_owned(),
            limits: Limits::default(),
            bare_newline: BareNewline::default(),
            unauthorized_pipelining: UnauthorizedPipelining::default(),
            kind: Kind::default(),
            tls: Tls::default(),
            extensions: Extensions::default(),
        }
    }
}

/// Buffers and transactions kept for the next session; enough for the busy part of the sessions of a core.
const POOL_MAX: usize = 128;
/// A buffer that has grown beyond this is given back to the allocator instead of the pool.
const POOLED_OCTETS_MAX: usize = 16 * 1024;

/// Settings, rendered replies and pools; shared through [`Rc`] by the sessions of a core.
pub struct Context {
    settings: Settings,
    pub(crate) observer: Box<dyn Observe>,
    helo: Box<[u8]>,
    /// See [`Context::ehlo`].
    ehlo: [Box<[u8]>; 4],
    mail_refusal: Cell<Option<&'static Reply>>,
    buffers: RefCell<Vec<Vec<u8>>>,
    // The box itself is what is kept: a session holds one pointer while no transaction is open.
    #[allow(clippy::vec_box, reason = "the boxes are recycled, not their contents")]
    transactions: RefCell<Vec<Box<Transaction>>>,
    pub(crate) no_transaction: Transaction,
}

impl Context {
    /// A context; limits out of range are brought into it ([`Limits::clamped`]).
    pub fn new(mut settings: Settings, observer: Box<dyn Observe>) -> Rc<Self> {
        settings.limits = settings.limits.clamped();
        settings.extensions.binarymime &= settings.extensions.chunking;
        // The host name stands in replies: whatever was configured, it stays one printable word.
        settings.hostname.retain(|c| c.is_ascii_graphic());
        settings.hostname.truncate(255);
        if settings.hostname.is_empty() {
            settings.hostname.push_str("localhost");
        }
        let helo = format!("250 {}\r\n", settings.hostname).into_bytes().into_boxed_slice();
        let ehlo = [(false, false), (false, true), (true, false), (true, true)]
            .map(|(secure, trusted)| render_ehlo(&settings, secure, trusted).into_bytes().into_boxed_slice());
        Rc::new(Self {
            settings,
            observer,
            helo,
            ehlo,
            mail_refusal: Cell::new(None),
            buffers: RefCell::default(),
            transactions: RefCell::default(),
            no_transaction: Transaction::default(),
        })
    }

    /// The name of this host.
    pub fn hostname(&self) -> &str {
        &self.settings.hostname
    }

    /// Bounds of one session.
    pub fn limits(&self) -> &Limits {
        &self.settings.limits
    }

    /// What happens to a bare CR or LF in DATA.
    pub fn bare_newline(&self) -> BareNewline {
        self.settings.bare_newline
    }

    /// What happens to a client that does not wait for replies.
    pub fn unauthorized_pipelining(&self) -> UnauthorizedPipelining {
        self.settings.unauthorized_pipelining
    }

    /// Extensions offered.
    pub fn extensions(&self) -> Extensions {
        self.settings.extensions
    }

    /// Whether the listener speaks TLS.
    pub fn tls(&self) -> Tls {
        self.settings.tls
    }

    /// What the listener is for.
    pub fn kind(&self) -> Kind {
        self.settings.kind
    }

    /// From now on every MAIL of every session is answered with this reply, or is accepted again with `None`. For a core
    /// that has no room left: better refused before the data than after it (452 4.3.1).
    pub fn refuse_mail(&self, reply: Option<&'static Reply>) {
        debug_assert!(reply.is_none_or(Reply::is_failure));
        self.mail_refusal.set(reply);
    }

    pub(crate) fn mail_refusal(&self) -> Option<&'static Reply> {
        self.mail_refusal.get()
    }

    pub(crate) fn helo(&self) -> &[u8] {
        &self.helo
    }

    /// The reply to EHLO under TLS or without, for a peer that may say who its client is or may not.
    pub(crate) fn ehlo(&self, secure: bool, trusted: bool) -> &[u8] {
        &self.ehlo[usize::from(secure) * 2 + usize::from(trusted)]
    }

    pub(crate) fn take_buffer(&self) -> Vec<u8> {
        self.buffers.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(512))
    }

    pub(crate) fn give_buffer(&self, mut buffer: Vec<u8>) {
        let mut pool = self.buffers.borrow_mut();
        if pool.len() < POOL_MAX && buffer.capacity() <= POOLED_OCTETS_MAX {
            buffer.clear();
            pool.push(buffer);
        }
    }

    pub(crate) fn take_transaction(&self) -> Box<Transaction> {
        self.transactions.borrow_mut().pop().unwrap_or_default()
    }

    pub(crate) fn give_transaction(&self, mut transaction: Box<Transaction>) {
        let mut pool = self.transactions.borrow_mut();
        if pool.len() < POOL_MAX && transaction.heap_octets() <= POOLED_OCTETS_MAX {
            transaction.clear();
            pool.push(transaction);
        }
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("settings", &self.settings).finish_non_exhaustive()
    }
}

// RFC 5321 §4.1.1.1: the reply to EHLO, one keyword a line.
fn render_ehlo(settings: &Settings, secure: bool, trusted: bool) -> String {
    let Settings { limits, extensions, tls, kind, .. } = settings;
    let mut lines = vec![
        settings.hostname.clone(),
        "PIPELINING".to_owned(),
        format!("SIZE {}", limits.message_bytes_max),
        "8BITMIME".to_owned(),
    ];
    for (offered, keyword) in [
        (extensions.smtputf8, "SMTPUTF8"),
        (true, "ENHANCEDSTATUSCODES"),
        (extensions.chunking, "CHUNKING"),
        (extensions.binarymime, "BINARYMIME"),
        (extensions.dsn, "DSN"),
        // RFC 3207 §4.2: not again under TLS.
        (!secure && matches!(tls, Tls::StartTls | Tls::Required), "STARTTLS"),
        // RFC 8689 §4.2: under TLS only.
        (secure, "REQUIRETLS"),
    ] {
        if offered {
            lines.push(keyword.to_owned());
        }
    }
    // RFC 4954 §3; under TLS only, where the passwords may be sent.
    if secure && *kind == Kind::Submission {
        lines.push(format!("AUTH {}", Mechanism::ALL.map(Mechanism::name).join(" ")));
    }
    if trusted {
        lines.push(format!("XCLIENT {}", xclient::ATTRIBUTES));
    }
    // RFC 9422 §4: the limits of a session and of a transaction; no limit depends on the domain of a recipient.
    lines.push(format!("LIMITS MAILMAX={} RCPTMAX={}", limits.transactions_max, limits.recipients_max));
    lines.push("HELP".to_owned());
    let last = lines.len() - 1;
    let mut text = String::new();
    for (index, line) in lines.iter().enumerate() {
        let separator = if index == last { ' ' } else { '-' };
        text.push_str("250");
        text.push(separator);
        text.push_str(line);
        text.push_str("\r\n");
    }
    text
}
