//! Settings of the current network namespace.

use std::fs;
use std::net::IpAddr;

/// Linux: Documentation/networking/ip-sysctl.rst: the larger of the two counts.
pub fn rp_filter(device: &str) -> u32 {
    let of = |device: &str| number(&format!("ipv4/conf/{device}/rp_filter"));
    of("all").max(of(device))
}

/// Whether this namespace forwards packets of that address's family.
pub fn forwards(addr: IpAddr) -> bool {
    let key = match addr {
        IpAddr::V4(_) => "ipv4/ip_forward",
        IpAddr::V6(_) => "ipv6/conf/all/forwarding",
    };
    number(key) != 0
}

/// Zero where there is no such setting.
fn number(key: &str) -> u32 {
    let text = fs::read_to_string(format!("/proc/sys/net/{key}"));
    text.ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0)
}
