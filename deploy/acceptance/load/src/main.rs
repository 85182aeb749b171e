//! `evenkeel-load`: a bounded load that counts every failed request.
//!
//! The promise under test is "no failed request" while backends come and go. Common load tools
//! retry silently, stop at the first error, or report a rate; none says exactly how many requests
//! failed and how. This one sends each request once, accounts for it once, and prints one JSON
//! object at the end.

mod attempt;
mod load;
mod options;
mod tally;

use std::process::ExitCode;

use clap::Parser;

use crate::options::Options;

/// Bad arguments (`EX_USAGE` of sysexits.h).
const EXIT_USAGE: u8 = 64;

#[allow(clippy::print_stdout, clippy::print_stderr)] // The report is the purpose.
fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) => {
            // A closed pipe behind --help is no reason to fail.
            let _ = error.print();
            return if error.use_stderr() { EXIT_USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    // One thread: the load must leave the other cores to what it measures, and counting needs no
    // coordination.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let tally = match runtime.and_then(|runtime| runtime.block_on(load::run(options))) {
        Ok(tally) => tally,
        Err(error) => {
            eprintln!("evenkeel-load: {error}");
            return ExitCode::FAILURE;
        }
    };
    println!("{}", tally.report());
    if tally.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
