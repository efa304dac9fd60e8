//! Segmented append log with group commit: what a 250 stands on.
