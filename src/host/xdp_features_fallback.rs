//! What a driver can probably do with XDP, where the kernel (before 6.3) doesn't tell.

use super::device::Device;
use super::ethtool::Driver;
use crate::model::{FeatureSource, Peer, XdpFeatures};

pub fn xdp(device: &Device, driver: &Driver, peer: Option<&Peer>) -> XdpFeatures {
    let zero_copy = match driver.name.as_deref() {
        Some("veth") => return veth(peer),
        // A tun device carries no Ethernet frames.
        Some("tun") => return software(driver.bus.as_deref() == Some("tap")),
        // Kinds that hand frames on to other devices, and drivers of NICs, that have no XDP of their own.
        None
        | Some(
            "802.1Q VLAN Support"
            | "bridge"
            | "dummy"
            | "e1000"
            | "e1000e"
            | "gre"
            | "gretap"
            | "ifb"
            | "ipvlan"
            | "macvlan"
            | "r8169"
            | "sit"
            | "tg3"
            | "vrf"
            | "vxlan",
        ) => return software(false),
        Some("i40e" | "ice" | "igc" | "ixgbe" | "mlx5_core") => true,
        Some(
            "bnxt_en" | "ena" | "fsl_dpaa2_eth" | "igb" | "mvneta" | "qede" | "sfc" | "virtio_net",
        ) => false,
        Some(_) => return known(None),
    };
    // NICs run XDP and, for as long as a program runs there, take redirected frames.
    XdpFeatures {
        redirect_target: Some(device.native_program),
        zero_copy: Some(zero_copy),
        ..known(Some(true))
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

    #[test]
    fn a_veth_is_as_good_a_target_as_its_peer_makes_it() {
        for (gro, native_program, receives) in [
            (Some(true), Some(false), Some(true)),
            (Some(false), Some(true), Some(true)),
            (Some(false), Some(false), Some(false)),
            (None, None, None),
        ] {
            let peer = Peer {
                gro,
                native_program,
                ..Peer::default()
            };
            assert_eq!(veth(Some(&peer)).redirect_target, receives);
        }
    }

    #[test]
    fn drivers_are_told_apart() {
        let (yes, no, unknown) = (Some(true), Some(false), None);
        for (name, bus, program, expected) in [
            ("tun", "tap", false, [yes, yes, no]),
            ("tun", "tun", false, [no, no, no]),
            ("ixgbe", "", false, [yes, no, yes]),
            ("ixgbe", "", true, [yes, yes, yes]),
            ("virtio_net", "", true, [yes, yes, no]),
            ("bridge", "", false, [no, no, no]),
            ("e1000e", "", false, [no, no, no]),
            ("tomorrow", "", true, [unknown; 3]),
        ] {
            let xdp = guess(Some(name), Some(bus), program);
            let guessed = [xdp.native, xdp.redirect_target, xdp.zero_copy];
            assert_eq!(guessed, expected, "{name} {bus}");
            assert_eq!(xdp.multi_buffer_tx, no);
            assert_eq!(xdp.source, FeatureSource::Guess);
        }
        assert_eq!(guess(None, None, false).native, no);
    }
}
