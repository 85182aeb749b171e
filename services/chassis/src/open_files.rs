//! Room for connections.
//!
//! Each connection takes a file descriptor, and most systems start a process with a soft limit of
//! 1,024 for the sake of old programs, far below the hard one. A thousand idle clients would then
//! keep probes and the admin port from opening anything, and every backend would look down.

/// Raises the limit on open files as far as this process may, and tells it.
pub(crate) fn raise_limit() {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => tracing::debug!(limit, "open files"),
        Err(error) => tracing::warn!(%error, "the limit on open files cannot be raised"),
    }
}
