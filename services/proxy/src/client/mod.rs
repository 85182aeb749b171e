//! A client's connection: requests one after the other, with limits on how long it may take.
//!
//! hyper's own limit for reading a head also runs while a kept connection is idle, and costs an
//! allocation per request. Here one timer per connection looks now and then at what the
//! connection is doing and since when.

mod activity;
mod http1;
mod io;

pub(crate) use self::{activity::Busy, http1::serve};
