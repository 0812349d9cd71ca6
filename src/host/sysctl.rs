//! Settings of the current network namespace.

use std::fs;
use std::net::IpAddr;

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

/// Zero where there is no such setting.
fn number(key: &str) -> u32 {
    let text = fs::read_to_string(format!("/proc/sys/net/{key}"));
    text.ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0)
}
