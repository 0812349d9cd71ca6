//! Devices for tests.

use crate::doctor::facts::{BackendFacts, DeviceFacts, Facts, HostFacts, InterfaceFacts, Trial};
use crate::model::{
    Adjacency, Backend, FeatureSource, Features, LinkState, Match, Mode, Offloads, Proto, Remote,
    Rewrite, Rule, XdpFeatures,
};

/// A device attached natively, and a backend behind another one.
pub fn redirecting(from: DeviceFacts, to: DeviceFacts) -> Facts {
    let (ingress, ifindex) = (attached(&from, Mode::Native), to.features.ifindex);
    Facts {
        attached: vec![ingress.ifindex],
        interfaces: vec![ingress],
        backends: vec![BackendFacts::new(&backend(ifindex, Rewrite::default()))],
        devices: [from, to]
            .map(|device| (device.features.ifindex, device))
            .into(),
        ..Facts::default()
    }
}

/// A live interface in a mode.
pub fn attached(device: &DeviceFacts, mode: Mode) -> InterfaceFacts {
    InterfaceFacts {
        ifindex: device.features.ifindex,
        name: device.name().to_string(),
        mode,
        frags: false,
        state: LinkState::Attached,
        successor: None,
        foreign: None,
        elsewhere: None,
    }
}

/// A host that lacks nothing.
pub fn host() -> Facts {
    let host = HostFacts {
        program: Trial::Loaded,
        ledger: Trial::Loaded,
        tells_features: true,
        ..HostFacts::default()
    };
    Facts {
        host,
        ..Facts::default()
    }
}

/// A NIC that can do everything.
pub fn nic(ifindex: u32) -> DeviceFacts {
    let xdp = XdpFeatures {
        source: FeatureSource::Kernel,
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
    DeviceFacts {
        features,
        enabled: true,
        promiscuous: false,
        in_service: true,
        completes_checksum: true,
        peer_facts: None,
        foreign_below: Vec::new(),
    }
}

/// A VLAN device on a NIC.
pub fn vlan(ifindex: u32, lower: &DeviceFacts) -> DeviceFacts {
    let mut device = nic(ifindex);
    let features = &mut device.features;
    features.ifname = format!("v{ifindex}");
    features.kind = Some("vlan".into());
    features.driver = Some("802.1Q VLAN Support".into());
    features.xdp.redirect_target = Some(false);
    features.vlan = Some(100);
    features.lower = Some(Remote::here(lower.features.ifindex, lower.name()));
    device
}

/// A rule for any source with one backend by a device.
pub fn rule(proto: Proto, ifindex: u32, rewrite: Rewrite) -> Rule {
    Rule {
        matches: Match {
            proto,
            ..Match::example(7999)
        },
        snat: None,
        decrement_ttl: true,
        backends: vec![backend(ifindex, rewrite)],
    }
}

fn backend(ifindex: u32, rewrite: Rewrite) -> Backend {
    let example = Adjacency::example([10, 0, 0, 2]);
    Backend {
        rewrite,
        ..Backend::new(Adjacency { ifindex, ..example })
    }
}
