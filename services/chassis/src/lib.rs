//! What each service of the bundle needs and none should write again: settings, telemetry,
//! metrics, readiness, shutdown and serving. It knows nothing of balancing.
//!
//! A service's `main` reads its [`settings`] through [`command::settings`], binds its sockets with
//! [`net::bind`], and hands both to its own `run` together with a [`shutdown::Shutdown`].

pub mod access;
pub mod attempts;
pub mod command;
mod command_line;
pub mod detach;
pub mod json;
pub mod metrics;
pub mod net;
pub mod observe;
mod open_files;
pub mod problem;
pub mod secret;
pub mod serve;
pub mod settings;
pub mod shutdown;
pub mod telemetry;
pub mod token;
pub mod units;
pub mod wall;
