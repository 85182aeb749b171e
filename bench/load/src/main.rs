//! The two ends of the benchmark, one thread each: clients that load a proxy, and the backends
//! behind it. Both are an event loop over `mio` with `httparse`, because what they spend is taken
//! from the processors that the proxies are measured on.

mod backend;
mod idle;
mod load;
mod message;

use std::{net::SocketAddr, time::Duration};

use clap::{Args, Parser};

#[derive(Parser)]
#[command(about = "Load and backends for the benchmark.")]
enum Command {
    /// Answers `/` with a small text, `/bytes/N` with N bytes, and `/after/N` with the small text
    /// after N milliseconds, until it is killed.
    Backend(BackendOptions),
    /// Sends requests, each connection its next one once it is answered, or at a fixed rate.
    Load(LoadOptions),
    /// Opens connections with one request on each and holds them until its input ends.
    Idle(IdleOptions),
}

#[derive(Args)]
struct BackendOptions {
    /// The first of the ports on 127.0.0.1.
    #[arg(long)]
    port: u16,
    /// How many ports.
    #[arg(long, default_value_t = 3)]
    count: u16,
}

#[derive(Args)]
struct LoadOptions {
    /// The proxy's address.
    #[arg(long)]
    target: SocketAddr,
    /// The request's path.
    #[arg(long, default_value = "/")]
    path: String,
    /// Sends a POST with so many bytes.
    #[arg(long, default_value_t = 0)]
    upload: usize,
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Ends after so many seconds.
    #[arg(long, default_value = "5", value_parser = seconds)]
    seconds: Duration,
    /// Ends after so many requests, if that is earlier.
    #[arg(long, default_value_t = u64::MAX)]
    requests: u64,
    /// Makes a new connection for every request.
    #[arg(long)]
    reconnect: bool,
    /// Requests per second, sent whether or not earlier ones have been answered; a request's time
    /// then runs from when it was due (so that a proxy that stalls is charged for all who wait).
    #[arg(long)]
    rate: Option<u32>,
    /// Counts answers of 503 apart, with their own times, where they would be errors.
    #[arg(long)]
    may_be_refused: bool,
}

#[derive(Args)]
struct IdleOptions {
    /// The proxy's address.
    #[arg(long)]
    target: SocketAddr,
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

fn main() -> std::io::Result<()> {
    match Command::parse() {
        Command::Backend(options) => backend::run(options.port, options.count),
        Command::Load(options) => load::run(&options),
        Command::Idle(options) => idle::run(options.target, options.connections),
    }
}
