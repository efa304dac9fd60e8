//! Verdicts on what a session asks for.
