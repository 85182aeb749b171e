//! Listening sockets.

use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener},
};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that the kernel may hold before we accept them. Linux caps it at
/// `net.core.somaxconn` (4096 on current kernels); less would drop SYNs in a burst.
const BACKLOG: i32 = 4096;

/// A port that could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("{name}: cannot listen on {address}: {}", reason(.source))]
pub struct BindError {
    /// The setting that names the port, such as `PROXY_PORT`.
    pub name: &'static str,
    /// The address that was asked for.
    pub address: SocketAddr,
    /// What the system said.
    pub source: io::Error,
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "the port is already in use".to_owned(),
        io::ErrorKind::PermissionDenied => "this user may not open that port".to_owned(),
        _ => error.to_string(),
    }
}

/// Opens a non-blocking listening socket. `::` listens on IPv4 too, and stands for `0.0.0.0`
/// where the system has no IPv6.
///
/// # Errors
/// [`BindError`], with the setting's name.
pub fn bind(name: &'static str, address: IpAddr, port: u16) -> Result<TcpListener, BindError> {
    let wanted = SocketAddr::new(address, port);
    let any = address == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    match listen(wanted) {
        Err(error) if any && no_ipv6(&error) => listen(SocketAddr::from(([0, 0, 0, 0], port))),
        result => result,
    }
    .map_err(|source| BindError { name, address: wanted, source })
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // A restart must not wait for the old connections' TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// A port that nobody listens on but the test that asks for it, if it ever does.
///
/// # Panics
/// The system has none to give.
#[cfg(feature = "testing")]
#[allow(clippy::unwrap_used)] // As in tests.
#[must_use]
pub fn closed_port() -> SocketAddr {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
    // The test may listen on it later, as `bind` does.
    socket.set_reuse_address(true).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    // Kept as long as the process: somebody beside the test would be given the port of a closed socket.
    std::mem::forget(socket);
    address
}

/// No IPv6 in the kernel, or none on any interface (containers with IPv6 switched off).
fn no_ipv6(error: &io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    error.raw_os_error() == Some(EAFNOSUPPORT) || error.kind() == io::ErrorKind::AddrNotAvailable
}

/// The address to reach a socket of this machine that listens on `address`.
#[must_use]
pub fn reachable(address: IpAddr, port: u16) -> SocketAddr {
    if address.is_unspecified() {
        SocketAddr::from(([127, 0, 0, 1], port))
    } else {
        SocketAddr::new(address, port)
    }
}

/// This machine's host name, which in a container or pod is its own name.
#[must_use]
pub fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_gives_one_line_with_the_settings_name() {
        let first = bind("TEST_PORT", IpAddr::from([127, 0, 0, 1]), 0).unwrap();
        let port = first.local_addr().unwrap().port();
        let error = bind("TEST_PORT", IpAddr::from([127, 0, 0, 1]), port).unwrap_err().to_string();
        assert_eq!(
            error,
            format!("TEST_PORT: cannot listen on 127.0.0.1:{port}: the port is already in use")
        );
    }
}
