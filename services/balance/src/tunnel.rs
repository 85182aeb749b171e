//! Upgraded connections, such as WebSockets: requests that may last for days.
//!
//! They hold their ticket like any request, so that a draining backend counts as busy, and are
//! counted apart, because a drain that waits for them may never end. So a drain may have a deadline,
//! after which whoever holds one is to end it.

use std::sync::Arc;

use crate::{backend::Member, pick::Ticket};

/// The ticket of an upgraded connection, given back by dropping it.
#[derive(Debug)]
pub struct Tunnel(Ticket);

impl Ticket {
    /// The ticket of a request whose connection was upgraded.
    #[must_use]
    pub fn into_tunnel(self) -> Tunnel {
        self.member().add_tunnel();
        Tunnel(self)
    }
}

impl Tunnel {
    /// The backend.
    #[must_use]
    pub fn member(&self) -> &Arc<Member> {
        self.0.member()
    }

    /// Whether the deadline of its backend's drain has passed.
    #[must_use]
    pub fn must_end(&self) -> bool {
        self.member().must_end_tunnels()
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.member().remove_tunnel();
    }
}
