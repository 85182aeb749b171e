//! Room for connections.
//!
//! Each connection takes a file descriptor, and most systems start a process with a soft limit of
//! 1,024 for the sake of old programs, far below the hard one. A thousand idle clients would then
//! keep probes and the admin port from opening anything, and every backend would look down.
//!
//! The kernel's table of them grows with their number, to twice the size each time. Once a process
//! has threads, whoever needs the larger one waits until no processor can be looking at the old one
//! any more (an RCU grace period), which takes 10 to 20 ms: in a wave of new clients, a worker that
//! accepts them would serve nobody meanwhile, half a dozen times.

/// For so many the table is large enough from the start, which takes half a mebibyte of the
/// kernel's: with the default limits of the proxy, a client's and a backend's connection for each.
const EXPECTED: u64 = 65_536;

/// Raises the limit on open files as far as this process may, and tells it. Has the kernel make
/// room for those that are expected.
pub(crate) fn prepare() {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => {
            tracing::debug!(limit, "open files");
            make_room(EXPECTED.min(limit));
        }
        Err(error) => tracing::warn!(%error, "the limit on open files cannot be raised"),
    }
}

/// Opens the last one of so many for a moment; the table does not shrink again.
fn make_room(count: u64) {
    let last = i32::try_from(count).unwrap_or(i32::MAX) - 1;
    if let Err(error) = rustix::io::fcntl_dupfd_cloexec(std::io::stderr(), last) {
        tracing::debug!(%error, count, "no room is made for open files");
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_large_before_it_is_needed() {
        rlimit::increase_nofile_limit(u64::MAX).unwrap();
        make_room(1000);
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let size = status.lines().find_map(|line| line.strip_prefix("FDSize:")).unwrap();
        assert!(size.trim().parse::<u64>().unwrap() >= 1000, "{size}");
    }
}
