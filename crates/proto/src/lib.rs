//! SMTP without I/O: grammar, replies, server and client sessions.
