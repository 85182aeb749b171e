//! Making a connection to one of a backend's addresses, for requests and for probes alike: what a
//! probe can reach, a request can too.

use std::{
    cell::Cell,
    io,
    net::{Ipv6Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use balance::Member;
use tokio::net::TcpStream;

use crate::error::Reason;

/// Why no connection was made.
#[derive(Debug)]
pub(crate) enum ConnectError {
    /// No address answered in time.
    Timeout,
    /// The last address failed.
    Io(io::Error),
}

impl ConnectError {
    /// Why a request did not get a connection.
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::Timeout => Reason::ConnectTimeout,
            Self::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                Reason::ConnectRefused
            }
            Self::Io(error) if is_own_fault(error) => Reason::Overloaded,
            Self::Io(_) => Reason::ConnectFailed,
        }
    }
}

/// `EMFILE`, `ENFILE` and `ENOMEM`: this process, or the system, has as many files open as it may, or no
/// memory. Their numbers are the same on Linux, macOS and the BSDs.
const OWN_WANT: [i32; 3] = [24, 23, 12];

/// Whether an error is for want of something of our own, whoever the connection was to.
pub(crate) fn is_own_fault(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|number| {
        // All our ports towards an address are in use; that number is not the same everywhere.
        OWN_WANT.contains(&number) || error.kind() == io::ErrorKind::AddrNotAvailable
    })
}

/// Where a connection leads.
#[derive(Debug)]
pub(crate) struct Lead {
    address: SocketAddr,
    /// How often the backend's addresses had changed when they still had this one.
    moves: Cell<u32>,
}

impl Lead {
    /// Whether the address is still one of the backend's.
    pub(crate) fn is_to(&self, member: &Member) -> bool {
        let moves = member.moves();
        if self.moves.get() != moves {
            if !member.addresses().contains(&self.address) {
                return false;
            }
            self.moves.set(moves);
        }
        true
    }
}

/// Connects to a backend for requests.
///
/// # Errors
/// Why there is no connection.
pub(crate) async fn to(member: &Member, timeout: Duration) -> Result<(TcpStream, Lead), Reason> {
    // Before they are read: what changes meanwhile is looked at again.
    let moves = Cell::new(member.moves());
    let connected = first(&member.addresses(), timeout).await;
    let (stream, address) = connected.map_err(|error| error.reason())?;
    // A small request must not wait for an acknowledgement; failure costs only time.
    let _ = stream.set_nodelay(true);
    Ok((stream, Lead { address, moves }))
}

/// Connects to the first address that answers. Each gets an equal part of the time, so that one
/// that swallows everything cannot use up what the next needs.
///
/// # Errors
/// How the last address failed; what the proxy itself wants for only if that was all.
pub(crate) async fn connect(
    addresses: &[SocketAddr],
    timeout: Duration,
) -> Result<TcpStream, ConnectError> {
    first(addresses, timeout).await.map(|(stream, _)| stream)
}

/// The same, with the address.
async fn first(
    addresses: &[SocketAddr],
    timeout: Duration,
) -> Result<(TcpStream, SocketAddr), ConnectError> {
    let part = timeout / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
    let mut last = None;
    for address in addresses {
        let error = match tokio::time::timeout(part, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok((stream, *address)),
            Ok(Err(error)) => ConnectError::Io(told_by(address, error)),
            Err(_) => ConnectError::Timeout,
        };
        last = Some(more_telling(last, error));
    }
    Err(last.unwrap_or_else(|| ConnectError::Io(io::ErrorKind::AddrNotAvailable.into())))
}

/// An error of an address as what it says: where IPv6 is off, that is no want of ours.
fn told_by(address: &SocketAddr, error: io::Error) -> io::Error {
    let is_off = is_off(address, &error);
    if is_off { io::Error::new(error.kind(), error.to_string()) } else { error }
}

/// Whether an address is one of IPv6 where that is switched off. The number of the error is that of all
/// ports being in use; those of UDP are not.
pub(crate) fn is_off(address: &SocketAddr, error: &io::Error) -> bool {
    let is_unavailable = |error: &io::Error| error.kind() == io::ErrorKind::AddrNotAvailable;
    let ask = || UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?.connect(address);
    address.is_ipv6() && is_unavailable(error) && ask().is_err_and(|error| is_unavailable(&error))
}

/// Of the errors of two addresses the one that says more: of the backend, or else of a want of ours. Of
/// equals the later one.
fn more_telling(earlier: Option<ConnectError>, later: ConnectError) -> ConnectError {
    let says = |error: &ConnectError| match error {
        ConnectError::Io(error) if is_own_fault(error) => 1,
        ConnectError::Io(error) if error.kind() == io::ErrorKind::AddrNotAvailable => 0,
        ConnectError::Io(_) | ConnectError::Timeout => 2,
    };
    match earlier {
        Some(earlier) if says(&earlier) > says(&later) => earlier,
        _ => later,
    }
}

/// Whether nobody listens at the addresses any more: the process that did has ended.
pub(crate) async fn is_refused(addresses: &[SocketAddr], timeout: Duration) -> bool {
    let refused = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    matches!(connect(addresses, timeout).await, Err(ConnectError::Io(error)) if refused(&error))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::TcpListener;

    use balance::Outcome;
    use chassis::net::closed_port;

    use super::*;

    #[test]
    fn what_the_proxy_wants_for_says_nothing_of_the_backend() {
        let no_port = 99;
        for number in OWN_WANT.into_iter().chain([no_port]) {
            let reason = ConnectError::Io(io::Error::from_raw_os_error(number)).reason();
            assert_eq!((reason.outcome(), reason.status().as_u16()), (Outcome::Unknown, 503));
        }
        let unreachable = ConnectError::Io(io::ErrorKind::HostUnreachable.into()).reason();
        assert_eq!(unreachable.outcome(), Outcome::Failure);
    }

    #[test]
    fn the_error_of_an_address_that_says_something_of_the_backend_counts() {
        let os = |number| ConnectError::Io(io::Error::from_raw_os_error(number));
        let (refused, no_port) = (|| os(111), || os(99));
        let reason = |earlier, later| more_telling(Some(earlier), later).reason();
        assert_eq!(reason(refused(), no_port()), Reason::ConnectRefused);
        assert_eq!(reason(no_port(), refused()), Reason::ConnectRefused);
        assert_eq!(reason(ConnectError::Timeout, no_port()), Reason::ConnectTimeout);
        assert_eq!(reason(no_port(), no_port()), Reason::Overloaded);
        // As told of an address of IPv6 where that is off.
        let off = || ConnectError::Io(io::Error::new(io::ErrorKind::AddrNotAvailable, "off"));
        assert_eq!(off().reason(), Reason::ConnectFailed);
        assert_eq!(reason(no_port(), off()), Reason::Overloaded);
        assert_eq!(reason(refused(), off()), Reason::ConnectRefused);
        let number = io::Error::from_raw_os_error(99);
        assert!(
            !is_off(&"127.0.0.1:80".parse().unwrap(), &number),
            "there are ports of IPv4 alone"
        );
    }

    #[tokio::test]
    async fn a_refused_address_does_not_keep_from_the_next() {
        let open = TcpListener::bind("127.0.0.1:0").unwrap();
        let addresses = [closed_port(), open.local_addr().unwrap()];
        let stream = connect(&addresses, Duration::from_secs(5)).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), addresses[1]);
    }

    /// A listener that never accepts and whose queue is full: it drops what comes on top. What fills it
    /// must be kept.
    pub(crate) fn silent() -> (SocketAddr, (TcpListener, std::net::TcpStream)) {
        let silent =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        silent.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        silent.listen(0).unwrap();
        let silent: TcpListener = silent.into();
        let address = silent.local_addr().unwrap();
        (address, (silent, std::net::TcpStream::connect(address).unwrap()))
    }

    #[tokio::test]
    async fn an_address_that_swallows_everything_does_not_use_up_the_time_of_the_next() {
        let (silent, _filled) = silent();
        let open = TcpListener::bind("127.0.0.1:0").unwrap();
        let addresses = [silent, open.local_addr().unwrap()];
        let stream = connect(&addresses, Duration::from_millis(600)).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), addresses[1]);
    }

    #[tokio::test(start_paused = true)]
    async fn hosts_that_do_not_answer_cost_the_timeout_in_all_however_many_addresses_there_are() {
        let (one, two, three) = (silent(), silent(), silent());
        let all = [one.0, two.0, three.0];
        for (addresses, millis) in
            [(&all[..1], 1), (&all[..1], 200), (&all[..1], 60_000), (&all[..2], 200), (&all, 1_500)]
        {
            let (start, timeout) = (tokio::time::Instant::now(), Duration::from_millis(millis));
            let error = connect(addresses, timeout).await.unwrap_err();
            assert!(matches!(error, ConnectError::Timeout), "{error:?}");
            assert_eq!(error.reason(), Reason::ConnectTimeout);
            assert_eq!(start.elapsed(), timeout, "{addresses:?}");
        }
        let none = connect(&[], Duration::from_secs(1)).await.unwrap_err();
        assert_eq!(none.reason(), Reason::ConnectFailed, "nothing to wait for");
    }
}
