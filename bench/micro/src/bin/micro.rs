//! One part of the accept path, for `cargo xtask bench micro`: called so often, under callgrind or against the clock.
//!
//! ```text
//!   micro list                 names, calls of a run and what a call is, one part a line, with tabs between
//!   micro run NAME CALLS       calls it so often; ends with 1 when an answer was wrong
//!   micro time NAME            nanoseconds of processor time a call
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it talks to the one who started it")]

use std::process::ExitCode;

use inrush_bench_micro::measure;
use inrush_bench_micro::parts::{PARTS, Part};

/// As in the gateway.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match *words.as_slice() {
        ["list"] => {
            for Part { name, calls, call, .. } in PARTS {
                println!("{name}\t{calls}\t{call}");
            }
            ExitCode::SUCCESS
        }
        ["run", name, calls] => match (part(name), calls.parse::<u32>()) {
            (Some(part), Ok(calls)) => {
                let mut work = (part.make)();
                let right = (0..calls).all(|_| work());
                if !right {
                    eprintln!("micro: {name}: a wrong answer");
                }
                ExitCode::from(u8::from(!right))
            }
            _ => usage(),
        },
        ["time", name] => match part(name) {
            Some(part) => {
                let mut work = (part.make)();
                println!(
                    "{:.1}",
                    measure::time(&mut work, part.calls).as_secs_f64() * 1e9 / f64::from(part.calls)
                );
                ExitCode::SUCCESS
            }
            None => usage(),
        },
        _ => usage(),
    }
}

fn part(name: &str) -> Option<&'static Part> {
    PARTS.iter().find(|part| part.name == name)
}

fn usage() -> ExitCode {
    eprintln!("usage: micro list | run NAME CALLS | time NAME");
    ExitCode::from(2)
}
