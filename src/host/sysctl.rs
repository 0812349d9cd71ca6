//! Settings of the current network namespace.

use std::fs;
use std::net::IpAddr;

use crate::model::EphemeralPorts;

/// Linux: Documentation/networking/ip-sysctl.rst: the larger of the two counts.
pub fn rp_filter(device: &str) -> u32 {
    let of = |device: &str| number(&format!("ipv4/conf/{device}/rp_filter"));
    of("all").max(of(device))
}

/// Whether a device takes packets whose source is one of this namespace's own addresses.
pub fn accept_local(device: &str) -> bool {
    let of = |device: &str| number(&format!("ipv4/conf/{device}/accept_local"));
    of("all").max(of(device)) != 0
}

/// Whether packets of that address's family are forwarded that arrive at a device.
pub fn forwards(addr: IpAddr, device: &str) -> bool {
    let is_on = |key: &str| number(key) != 0;
    match addr {
        IpAddr::V4(_) => is_on(&format!("ipv4/conf/{device}/forwarding")),
        // The device's own since Linux 6.17.
        IpAddr::V6(_) => {
            is_on("ipv6/conf/all/forwarding")
                || is_on(&format!("ipv6/conf/{device}/force_forwarding"))
        }
    }
}

/// The ports from which this namespace sends requests of its own; none where that cannot be read.
pub fn ephemeral_ports() -> EphemeralPorts {
    let range = text("ipv4/ip_local_port_range");
    let mut range = range
        .split_whitespace()
        .filter_map(|port| port.parse().ok());
    let (Some(first), Some(last)) = (range.next(), range.next()) else {
        // The range is port 0 alone, from which nothing is sent.
        return EphemeralPorts::default();
    };
    let reserved = text("ipv4/ip_local_reserved_ports");
    let reserved = reserved.trim().split(',').filter_map(|ports| {
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        Some((first.parse().ok()?, last.parse().ok()?))
    });
    EphemeralPorts {
        first,
        last,
        reserved: reserved.collect(),
    }
}

/// Zero where there is no such setting.
fn number(key: &str) -> u32 {
    text(key).trim().parse().unwrap_or(0)
}

/// Empty where there is no such setting.
fn text(key: &str) -> String {
    fs::read_to_string(format!("/proc/sys/net/{key}")).unwrap_or_default()
}
