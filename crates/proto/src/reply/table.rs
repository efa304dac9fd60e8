//! The table of replies, in the order of the dialog. Columns: name, code, enhanced status, text, metric label, section.

use super::Reply;

macro_rules! replies {
    ($($name:ident = $code:literal $enhanced:literal $text:literal, $reason:expr, $section:literal;)+) => {
        /// Gives each entry its place in the table.
        #[allow(non_camel_case_types, clippy::upper_case_acronyms, reason = "named as the constants are")]
        #[repr(u16)]
        enum Place { $($name),+ }

        impl Reply {
            $(
                #[doc = concat!("`", $code, " ", $enhanced, " ", $text, "`: ", $section)]
                pub const $name: &'static Reply = &Reply {
                    index: Place::$name as u16,
                    code: $code,
                    enhanced: $enhanced,
                    text: $text,
                    name: stringify!($name),
                    reason: $reason,
                    section: $section,
                    wire: if $enhanced.is_empty() {
                        concat!($code, " ", $text, "\r\n").as_bytes()
                    } else {
                        concat!($code, " ", $enhanced, " ", $text, "\r\n").as_bytes()
                    },
                };
            )+

            /// Every reply, in the order of [`Reply::index`].
            pub const ALL: &'static [&'static Reply] = &[$(Reply::$name),+];
        }
    };
}

replies! {
    // Session.
    READY = 220 "" "ESMTP inrush", None, "RFC 5321 §4.3.1";
    READY_LMTP = 220 "" "LMTP inrush", None, "RFC 2033 §4.1";
    HELO = 250 "" "Hello", None, "RFC 5321 §4.1.1.1";
    EHLO = 250 "" "Hello, extensions follow", None, "RFC 5321 §4.1.1.1";
    BYE = 221 "2.0.0" "closing connection", None, "RFC 5321 §4.1.1.10";
    OK = 250 "2.0.0" "OK", None, "RFC 5321 §4.1.1.9";
    HELP = 214 "2.0.0" "See RFC 5321; commands: EHLO HELO STARTTLS MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT", None, "RFC 5321 §4.1.1.8";
    VRFY = 252 "2.0.0" "Cannot verify; send mail to find out", None, "RFC 5321 §3.5.3";

    // TLS.
    START_TLS = 220 "2.0.0" "Ready to start TLS", None, "RFC 3207 §4";
    TLS_REQUIRED = 530 "5.7.0" "Must issue a STARTTLS command first", Some("tls_required"), "RFC 3207 §4";
    TLS_ACTIVE = 503 "5.5.1" "TLS is active already", Some("tls_active"), "RFC 3207 §4.2";
    TLS_UNAVAILABLE = 454 "4.7.0" "TLS not available at the moment, try again later", Some("tls_unavailable"), "RFC 3207 §4";

    // AUTH.
    CHALLENGE = 334 "" "", None, "RFC 4954 §4";
    AUTHENTICATED = 235 "2.7.0" "Authentication successful", None, "RFC 4954 §4";
    AUTH_REQUIRED = 530 "5.7.0" "Authentication required", Some("auth_required"), "RFC 6409 §4.3";
    AUTH_NEEDS_TLS = 538 "5.7.11" "Encryption required for authentication", Some("auth_needs_tls"), "RFC 4954 §6";
    AUTH_DONE = 503 "5.5.1" "Authenticated already", Some("auth_done"), "RFC 4954 §4";
    AUTH_SYNTAX = 501 "5.5.4" "Syntax: AUTH mechanism [initial response]", Some("auth_syntax"), "RFC 4954 §4";
    AUTH_MECHANISM = 504 "5.5.4" "Authentication mechanism not offered", Some("auth_mechanism"), "RFC 4954 §4";
    AUTH_CANCELLED = 501 "5.7.0" "Authentication cancelled", Some("auth_cancelled"), "RFC 4954 §4";
    AUTH_BASE64 = 501 "5.5.2" "Cannot decode the response as base64", Some("auth_base64"), "RFC 4954 §4";
    AUTH_TOO_LONG = 500 "5.5.6" "Authentication exchange line is too long", Some("auth_too_long"), "RFC 4954 §6";
    AUTH_FAILED = 535 "5.7.8" "Authentication credentials invalid", Some("auth_failed"), "RFC 4954 §6";
    AUTH_UNAVAILABLE = 454 "4.7.0" "Temporary authentication failure", Some("auth_unavailable"), "RFC 4954 §6";
    AUTH_FAILURES_ADDRESS = 454 "4.7.0" "Too many failed logins from your address, try again later", Some("auth_failures_address"), "RFC 4954 §6";
    AUTH_FAILURES_USER = 454 "4.7.0" "Too many failed logins of this user, try again later", Some("auth_failures_user"), "RFC 4954 §6";
    SENDER_NOT_OWNED = 553 "5.7.1" "Sender address not owned by the user", Some("sender_not_owned"), "RFC 6409 §6.1";

    // XCLIENT.
    XCLIENT_SYNTAX = 501 "5.5.4" "Bad XCLIENT attributes", Some("xclient_syntax"), "XCLIENT_README";
    NESTED_XCLIENT = 503 "5.5.1" "Not within a mail transaction", Some("nested_xclient"), "XCLIENT_README";

    // Lines and commands.
    LINE_TOO_LONG = 500 "5.5.2" "Command line too long", Some("command_too_long"), "RFC 5321 §4.5.3.1.4";
    BARE_NEWLINE_COMMAND = 500 "5.5.2" "Bare CR or LF in a command line", Some("bare_newline_command"), "RFC 5321 §2.3.8";
    NUL_COMMAND = 500 "5.5.2" "NUL in a command line", Some("nul_command"), "RFC 5321 §4.1.1";
    EMPTY_COMMAND = 500 "5.5.2" "Empty command line", Some("empty_command"), "RFC 5321 §4.1.1";
    UNKNOWN_COMMAND = 500 "5.5.1" "Command unknown", Some("unknown_command"), "RFC 5321 §4.2.4";
    NOT_IMPLEMENTED = 502 "5.5.1" "Command not implemented", Some("not_implemented"), "RFC 5321 §4.2.4";
    NO_ARGUMENT_ALLOWED = 501 "5.5.4" "This command takes no argument", Some("no_argument_allowed"), "RFC 5321 §4.3.2";
    ARGUMENT_NEEDED = 501 "5.5.4" "This command needs an argument", Some("argument_needed"), "RFC 5321 §4.3.2";
    HELLO_SYNTAX = 501 "5.5.4" "Syntax: EHLO or HELO, then one host name or address literal", Some("hello_syntax"), "RFC 5321 §4.1.1.1";
    NO_HELLO = 503 "5.5.1" "Say EHLO or HELO first", Some("no_hello"), "RFC 5321 §4.1.4";
    NESTED_MAIL = 503 "5.5.1" "A mail transaction is already open", Some("nested_mail"), "RFC 5321 §4.1.4";
    NO_MAIL = 503 "5.5.1" "Say MAIL first", Some("no_mail"), "RFC 5321 §3.3";

    // MAIL and RCPT.
    MAIL_SYNTAX = 501 "5.5.4" "Syntax: MAIL FROM:<address> [parameters]", Some("mail_syntax"), "RFC 5321 §4.1.1.2";
    RCPT_SYNTAX = 501 "5.5.4" "Syntax: RCPT TO:<address> [parameters]", Some("rcpt_syntax"), "RFC 5321 §4.1.1.3";
    SENDER_OK = 250 "2.1.0" "Sender OK", None, "RFC 5321 §4.1.1.2";
    SENDER_SYNTAX = 501 "5.1.7" "Bad sender address syntax", Some("sender_syntax"), "RFC 5321 §4.1.2";
    SENDER_NO_DOMAIN = 501 "5.1.7" "Sender address without a domain", Some("sender_no_domain"), "RFC 5321 §4.1.2";
    SENDER_LITERAL = 501 "5.1.7" "Bad address literal in the sender address", Some("sender_literal"), "RFC 5321 §4.1.3";
    SENDER_LOCAL_PART_TOO_LONG = 501 "5.1.7" "Local part of the sender address over 64 octets", Some("sender_local_part_too_long"), "RFC 5321 §4.5.3.1.1";
    SENDER_DOMAIN_TOO_LONG = 501 "5.1.7" "Domain of the sender address over 255 octets", Some("sender_domain_too_long"), "RFC 5321 §4.5.3.1.2";
    SENDER_PATH_TOO_LONG = 501 "5.1.7" "Sender path over 256 octets", Some("sender_path_too_long"), "RFC 5321 §4.5.3.1.3";
    RECIPIENT_OK = 250 "2.1.5" "Recipient OK", None, "RFC 5321 §4.1.1.3";
    RECIPIENT_SYNTAX = 501 "5.1.3" "Bad recipient address syntax", Some("recipient_syntax"), "RFC 5321 §4.1.2";
    RECIPIENT_NULL = 501 "5.1.3" "The null path is no recipient", Some("recipient_null"), "RFC 5321 §4.1.1.3";
    RECIPIENT_NO_DOMAIN = 501 "5.1.3" "Recipient address without a domain", Some("recipient_no_domain"), "RFC 5321 §4.1.2";
    RECIPIENT_LITERAL = 501 "5.1.3" "Bad address literal in the recipient address", Some("recipient_literal"), "RFC 5321 §4.1.3";
    RECIPIENT_LOCAL_PART_TOO_LONG = 501 "5.1.3" "Local part of the recipient address over 64 octets", Some("recipient_local_part_too_long"), "RFC 5321 §4.5.3.1.1";
    RECIPIENT_DOMAIN_TOO_LONG = 501 "5.1.3" "Domain of the recipient address over 255 octets", Some("recipient_domain_too_long"), "RFC 5321 §4.5.3.1.2";
    RECIPIENT_PATH_TOO_LONG = 501 "5.1.3" "Recipient path over 256 octets", Some("recipient_path_too_long"), "RFC 5321 §4.5.3.1.3";
    SMTPUTF8_NEEDED = 553 "5.6.7" "Non-ASCII address without SMTPUTF8", Some("smtputf8_needed"), "RFC 6531 §3.5";
    PARAMETER_SYNTAX = 501 "5.5.4" "Bad parameter syntax", Some("parameter_syntax"), "RFC 5321 §4.1.2";
    PARAMETER_TWICE = 501 "5.5.4" "Parameter given twice", Some("parameter_twice"), "RFC 5321 §4.1.1.11";
    PARAMETER_VALUE = 501 "5.5.4" "Bad parameter value", Some("parameter_value"), "RFC 5321 §4.1.1.11";
    PARAMETER_UNKNOWN = 555 "5.5.4" "Parameter not recognized or not implemented", Some("parameter_unknown"), "RFC 5321 §4.1.1.11";
    TOO_BIG_DECLARED = 552 "5.3.4" "Declared size over the message size limit", Some("too_big_declared"), "RFC 1870 §6.1";
    RELAY_DENIED = 550 "5.7.1" "Relaying denied", Some("relay_denied"), "RFC 5321 §7.9";
    ROUTED_LOCAL_PART = 550 "5.7.1" "Relaying denied: no routes in local parts", Some("routed_local_part"), "RFC 1123 §5.2.16";
    USER_UNKNOWN = 550 "5.1.1" "No such user here", Some("user_unknown"), "RFC 5321 §3.3";
    VERDICT_UNAVAILABLE = 451 "4.3.0" "Recipient cannot be checked at the moment", Some("verdict_unavailable"), "RFC 5321 §4.2.3";
    TOO_MANY_RECIPIENTS = 452 "4.5.3" "Too many recipients", Some("too_many_recipients"), "RFC 5321 §4.5.3.1.10";
    ENVELOPE_TOO_BIG = 452 "4.5.3" "Envelope too big, send the other recipients in a new transaction", Some("envelope_too_big"), "RFC 5321 §4.5.3.1.10";

    // DATA and BDAT.
    START_MAIL_INPUT = 354 "" "Send the mail, end with CRLF.CRLF", None, "RFC 5321 §4.1.1.4";
    NO_VALID_RECIPIENTS = 554 "5.5.1" "No valid recipients", Some("no_valid_recipients"), "RFC 5321 §3.3";
    NO_VALID_RECIPIENTS_LMTP = 503 "5.5.1" "No valid recipients", Some("no_valid_recipients_lmtp"), "RFC 2033 §4.2";
    BDAT_SYNTAX = 501 "5.5.4" "Syntax: BDAT octets [LAST]; closing, since the next command cannot be found", Some("bdat_syntax"), "RFC 3030 §2";
    CHUNK_OK = 250 "2.0.0" "Chunk OK", None, "RFC 3030 §2";
    BDAT_FAILED = 503 "5.5.1" "An earlier chunk failed, send RSET", Some("bdat_failed"), "RFC 3030 §2";
    AFTER_BDAT = 503 "5.5.1" "Not between the chunks of a message", Some("after_bdat"), "RFC 3030 §2";
    BINARYMIME_DATA = 503 "5.5.1" "BODY=BINARYMIME needs BDAT", Some("binarymime_data"), "RFC 3030 §3";
    MESSAGE_ACCEPTED = 250 "2.0.0" "OK: queued as", None, "RFC 5321 §6.1";
    TOO_BIG = 552 "5.3.4" "Message over the size limit", Some("too_big"), "RFC 1870 §6.1";
    BARE_NEWLINE = 550 "5.6.11" "Bare CR or LF in the mail data", Some("bare_newline"), "RFC 5321 §2.3.8";
    TEXT_LINE_TOO_LONG = 550 "5.6.0" "Text line too long", Some("text_line_too_long"), "RFC 5321 §4.5.3.1.6";
    HEADER_TOO_BIG = 552 "5.3.4" "Header over the size limit", Some("header_too_big"), "RFC 5321 §4.5.3.1.7";
    TOO_MANY_HOPS = 554 "5.4.6" "Too many hops, mail loop", Some("too_many_hops"), "RFC 5321 §6.3";

    // Means of the server.
    STORAGE_FULL = 452 "4.3.1" "Insufficient system storage", Some("storage_full"), "RFC 5321 §4.2.3";
    PENDING_FULL = 452 "4.3.1" "Too much mail under way, try again later", Some("pending_full"), "RFC 5321 §4.2.3";
    MEMORY_FULL = 452 "4.3.1" "Short of memory, try again later", Some("memory_full"), "RFC 5321 §4.2.3";
    LOG_BEHIND = 452 "4.3.1" "The disk is too slow for all the mail, try again later", Some("log_behind"), "RFC 5321 §4.2.3";
    STORAGE_HUNG = 451 "4.3.0" "The disk does not answer, try again later", Some("storage_hung"), "RFC 5321 §4.2.3";
    LOCAL_ERROR = 451 "4.3.0" "Local error in processing, try again later", Some("local_error"), "RFC 5321 §4.2.3";

    // The end of the session.
    TOO_MANY_ERRORS = 421 "4.7.0" "too many errors, closing", Some("too_many_errors"), "RFC 5321 §7.8";
    TOO_MANY_COMMANDS = 421 "4.7.0" "too many commands, closing", Some("too_many_commands"), "RFC 5321 §7.8";
    TOO_MANY_JUNK_COMMANDS = 421 "4.7.0" "too many commands without mail, closing", Some("too_many_junk_commands"), "RFC 5321 §7.8";
    TOO_MANY_REFUSED_RECIPIENTS = 421 "4.7.0" "too many recipients refused, closing", Some("too_many_refused_recipients"), "RFC 5321 §7.8";
    UNAUTHORIZED_PIPELINING = 503 "5.5.0" "Improper use of command pipelining, closing", Some("unauthorized_pipelining"), "RFC 2920 §3.1";
    TOO_MANY_TRANSACTIONS = 421 "4.7.0" "too many transactions in one session, closing", Some("too_many_transactions"), "RFC 9422 §4.1";
    NOT_SMTP = 421 "4.7.0" "this is an SMTP server, closing", Some("not_smtp"), "RFC 5321 §7.8";
    STORAGE_FAILED = 421 "4.3.0" "storage failed, message not accepted, closing", Some("storage_failed"), "RFC 5321 §6.1";
    SHUTTING_DOWN = 421 "4.3.2" "going down, try again later", Some("shutting_down"), "RFC 5321 §3.8";
    TOO_MANY_CONNECTIONS = 421 "4.7.0" "too many connections, try again later", Some("too_many_connections"), "RFC 5321 §7.8";
    TOO_MANY_CONNECTIONS_ADDRESS = 421 "4.7.0" "too many connections from your address, try again later", Some("too_many_connections_address"), "RFC 5321 §7.8";
    TOO_MANY_CONNECTIONS_NETWORK = 421 "4.7.0" "too many connections from your network, try again later", Some("too_many_connections_network"), "RFC 5321 §7.8";
    CONNECTION_RATE_ADDRESS = 421 "4.7.0" "too many new connections from your address, try again later", Some("connection_rate_address"), "RFC 5321 §7.8";
    CONNECTION_RATE_NETWORK = 421 "4.7.0" "too many new connections from your network, try again later", Some("connection_rate_network"), "RFC 5321 §7.8";
    TOO_MANY_CONNECTIONS_PRESSURE = 421 "4.7.0" "too many connections from your address while resources are short, try again later", Some("too_many_connections_pressure"), "RFC 5321 §7.8";
    TOO_MANY_DESCRIPTORS = 421 "4.3.2" "short of file descriptors, try again later", Some("too_many_descriptors"), "RFC 5321 §7.8";
    ACCESS_DENIED = 554 "5.7.1" "Access denied", Some("access_denied"), "RFC 5321 §3.1";
    OVERLOADED = 421 "4.3.2" "short of memory, try again later", Some("overloaded"), "RFC 5321 §7.8";
    IDLE_TIMEOUT = 421 "4.4.2" "idle for too long, closing", Some("idle_timeout"), "RFC 5321 §4.5.3.2.7";
    SESSION_TIMEOUT = 421 "4.4.2" "session took too long, closing", Some("session_timeout"), "RFC 5321 §7.8";
    TRANSACTION_TIMEOUT = 421 "4.4.2" "transaction took too long, closing", Some("transaction_timeout"), "RFC 5321 §4.5.3.2";
    DATA_TOO_SLOW = 421 "4.4.2" "mail data arrives too slowly, closing", Some("data_too_slow"), "RFC 5321 §7.8";
    EARLY_TALKER = 554 "5.7.1" "You spoke before the greeting", Some("early_talker"), "RFC 5321 §4.3.1";
}
