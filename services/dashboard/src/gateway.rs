//! The default gateway of this container.
//!
//! A connection to a port that Docker publishes arrives from the bridge's gateway, because Docker
//! rewrites its source. When the port is published on 127.0.0.1 only, as our Compose file does,
//! that address stands for "somebody on the host": other containers keep their own addresses.

use std::net::Ipv4Addr;

/// The kernel's IPv4 routes: one line each, addresses as hexadecimal in host byte order.
const ROUTES: &str = "/proc/net/route";

/// Addresses of all default gateways; none where there is no route table to read.
pub(crate) fn addresses() -> Vec<Ipv4Addr> {
    parse(&std::fs::read_to_string(ROUTES).unwrap_or_default())
}

fn parse(routes: &str) -> Vec<Ipv4Addr> {
    routes
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let (destination, gateway) = (fields.next()?, fields.next()?);
            let address = Ipv4Addr::from(u32::from_str_radix(gateway, 16).ok()?.to_le_bytes());
            (destination == "00000000" && !address.is_unspecified()).then_some(address)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_default_routes_with_a_gateway_count() {
        let routes = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\n\
                      eth0\t00000000\t010012AC\t0003\t0\t0\t0\t00000000\n\
                      eth0\t000012AC\t00000000\t0001\t0\t0\t0\t0000FFFF\n\
                      eth1\t0000000A\t0101A8C0\t0003\t0\t0\t0\t000000FF\n\
                      broken line\n";
        assert_eq!(parse(routes), [Ipv4Addr::new(172, 18, 0, 1)]);
        assert!(parse("").is_empty());
    }
}
