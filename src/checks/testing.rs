//! Devices for tests.

use super::{Ingress, Link, Setup, Target};
use crate::model::{Features, LinkState, Mac, Mode, Offloads, Source, XdpFeatures};

/// A device attached natively, and a backend behind another one.
pub fn redirecting(from: Link, to: Link) -> Setup {
    let (ingress, ifindex) = (attached(&from, Mode::Native), to.features.ifindex);
    Setup {
        attached: vec![ingress.ifindex],
        interfaces: vec![ingress],
        backends: vec![target(ifindex)],
        devices: [from, to].map(|link| (link.features.ifindex, link)).into(),
        ..Setup::default()
    }
}

pub fn attached(link: &Link, mode: Mode) -> Ingress {
    Ingress {
        ifindex: link.features.ifindex,
        name: link.name().to_string(),
        mode,
        frags: false,
        state: LinkState::Attached,
        successor: None,
        foreign: None,
        elsewhere: None,
    }
}

fn target(ifindex: u32) -> Target {
    Target {
        server: [10, 1, 1, 1].into(),
        mac: Mac([2, 0, 0, 0, 0, 1]),
        source_mac: Mac([2, 0, 0, 0, 0, 2]),
        completes_checksum: true,
        ifindex,
        keep_ip: false,
        push_vlan: false,
        found: false,
        followed: false,
        by_route: false,
        has_route: false,
        by_hand: (0, None),
        protos: Vec::new(),
        lost: Vec::new(),
        sources: Vec::new(),
        neighbour: None,
        other_port: None,
        there: None,
        answers: None,
    }
}

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
