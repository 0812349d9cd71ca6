//! What a driver can probably do with XDP, where the kernel (before 6.3) doesn't tell.

use super::device::Device;
use super::ethtool::Driver;
use crate::model::{FeatureSource, Peer, XdpFeatures};

/// Kinds that hand frames on to other devices, and drivers of NICs, that have no XDP of their own.
const WITHOUT_XDP: [&str; 15] = [
    "802.1Q VLAN Support",
    "bridge",
    "dummy",
    "e1000",
    "e1000e",
    "gre",
    "gretap",
    "ifb",
    "ipvlan",
    "macvlan",
    "r8169",
    "sit",
    "tg3",
    "vrf",
    "vxlan",
];

/// Drivers that run XDP and, for as long as a program runs there, take redirected frames.
const NICS: [&str; 13] = [
    "bnxt_en",
    "ena",
    "fsl_dpaa2_eth",
    "i40e",
    "ice",
    "igb",
    "igc",
    "ixgbe",
    "mlx5_core",
    "mvneta",
    "qede",
    "sfc",
    "virtio_net",
];

const ZERO_COPY: [&str; 5] = ["i40e", "ice", "igc", "ixgbe", "mlx5_core"];

pub fn xdp(device: &Device, driver: &Driver, peer: Option<&Peer>) -> XdpFeatures {
    let name = driver.name.as_deref().unwrap_or_default();
    match name {
        "veth" => veth(peer),
        // A tun device carries no Ethernet frames.
        "tun" => software(driver.bus.as_deref() == Some("tap")),
        _ if driver.name.is_none() || WITHOUT_XDP.contains(&name) => software(false),
        _ if NICS.contains(&name) => XdpFeatures {
            redirect_target: Some(device.native_program),
            zero_copy: Some(ZERO_COPY.contains(&name)),
            ..known(Some(true))
        },
        _ => known(None),
    }
}

/// Redirected frames go to the peer's NAPI, which it has with GRO (Linux 5.13) or a program.
fn veth(peer: Option<&Peer>) -> XdpFeatures {
    let receives = match peer.map(|peer| (peer.gro, peer.native_program)) {
        Some((Some(true), _) | (_, Some(true))) => Some(true),
        Some((Some(false), Some(false))) => Some(false),
        _ => None,
    };
    XdpFeatures {
        redirect_target: receives,
        // Linux 5.18.
        multi_buffer_rx: Some(true),
        // A kernel that leaves one to guess redirects no such frame, to no device.
        multi_buffer_tx: Some(false),
        zero_copy: Some(false),
        ..known(Some(true))
    }
}

/// One buffer a frame, and a copy.
fn software(xdp: bool) -> XdpFeatures {
    XdpFeatures {
        redirect_target: Some(xdp),
        multi_buffer_rx: Some(false),
        multi_buffer_tx: Some(false),
        zero_copy: Some(false),
        ..known(Some(xdp))
    }
}

fn known(native: Option<bool>) -> XdpFeatures {
    XdpFeatures {
        source: FeatureSource::Guess,
        native,
        redirect: native,
        redirect_target: None,
        multi_buffer_rx: None,
        multi_buffer_tx: Some(false),
        zero_copy: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Remote;

    fn guess(name: Option<&str>, bus: Option<&str>, program: bool) -> XdpFeatures {
        let driver = Driver {
            name: name.map(String::from),
            bus: bus.map(String::from),
        };
        let device = Device {
            native_program: program,
            ..Device::default()
        };
        xdp(&device, &driver, None)
    }

    fn behind(gro: Option<bool>, native_program: Option<bool>) -> Option<bool> {
        let device = Remote {
            ifindex: 1,
            ifname: None,
            nsid: None,
            netns: None,
        };
        let peer = Peer {
            device,
            mac: None,
            mtu: None,
            up: None,
            gro,
            tso: None,
            tx_udp_segmentation: None,
            native_program,
        };
        veth(Some(&peer)).redirect_target
    }

    #[test]
    fn a_veth_is_as_good_a_target_as_its_peer_makes_it() {
        assert_eq!(behind(Some(true), Some(false)), Some(true));
        assert_eq!(behind(Some(false), Some(true)), Some(true));
        assert_eq!(behind(Some(false), Some(false)), Some(false));
        assert_eq!(behind(None, None), None);
    }

    #[test]
    fn a_tap_has_xdp_and_a_tun_has_not() {
        let (tap, tun) = (
            guess(Some("tun"), Some("tap"), false),
            guess(Some("tun"), Some("tun"), false),
        );
        assert_eq!((tap.native, tap.redirect_target), (Some(true), Some(true)));
        assert_eq!(
            (tun.native, tun.redirect_target),
            (Some(false), Some(false))
        );
    }

    #[test]
    fn a_nic_is_a_target_while_a_program_runs_there() {
        for program in [false, true] {
            let nic = guess(Some("ixgbe"), Some("0000:00:05.0"), program);
            assert_eq!(nic.redirect_target, Some(program));
            assert_eq!((nic.native, nic.zero_copy), (Some(true), Some(true)));
        }
    }

    #[test]
    fn of_a_driver_that_it_does_not_know_it_says_nothing() {
        let unknown = guess(Some("tomorrow"), None, false);
        assert_eq!((unknown.native, unknown.redirect_target), (None, None));
        assert_eq!(unknown.multi_buffer_tx, Some(false));
        assert_eq!(unknown.source, FeatureSource::Guess);
        for none in [None, Some("bridge"), Some("e1000e")] {
            assert_eq!(guess(none, None, false).native, Some(false));
        }
    }
}
