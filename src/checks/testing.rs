//! Devices for tests.

use super::Link;
use crate::model::{Features, Offloads, Source, XdpFeatures};

/// A NIC that can do everything.
pub fn nic(ifindex: u32) -> Link {
    let xdp = XdpFeatures {
        source: Source::Kernel,
        native: Some(true),
        redirect: Some(true),
        redirect_target: Some(true),
        multi_buffer_rx: Some(true),
        multi_buffer_tx: Some(true),
        zero_copy: Some(true),
    };
    let features = Features {
        ifname: format!("nic{ifindex}"),
        ifindex,
        kind: None,
        driver: Some("ixgbe".into()),
        bus: None,
        mac: None,
        mtu: 1500,
        up: true,
        xdp,
        offloads: Offloads::default(),
        master: None,
        ports: Vec::new(),
        vlan: None,
        vnet_header: false,
        lower: None,
        upper: Vec::new(),
        peer: None,
    };
    Link {
        features,
        enabled: true,
        promiscuous: false,
        in_service: true,
        completes_checksum: true,
        there: None,
        below: Vec::new(),
    }
}
