//! Devices for tests.

use crate::doctor::facts::{BackendFacts, DeviceFacts, Facts, HostFacts, InterfaceFacts, Trial};
use crate::model::{
    Adjacency, Backend, Counter, FeatureSource, Features, LinkState, Match, Mode, Outcome,
    Outcomes, Policy, Proto, Purpose, Remote, Rewrite, Rule, XdpFeatures,
};

/// A device attached natively, and a backend behind another one.
pub fn redirecting(from: DeviceFacts, to: DeviceFacts) -> Facts {
    let ifindex = to.features.ifindex;
    let mut facts = attached_to(from, Mode::Native);
    let backend = backend(ifindex, Rewrite::default());
    facts.backends.push(BackendFacts::new(&backend));
    facts.devices.insert(ifindex, to);
    facts
}

/// A device attached in a mode.
pub fn attached_to(device: DeviceFacts, mode: Mode) -> Facts {
    let mut facts = Facts::default();
    attach(&mut facts, device, mode);
    facts
}

/// Attaches one more device.
pub fn attach(facts: &mut Facts, device: DeviceFacts, mode: Mode) {
    let ifindex = device.features.ifindex;
    facts.attached.push(ifindex);
    facts.interfaces.push(InterfaceFacts {
        ifindex,
        name: device.name().to_string(),
        mode,
        purpose: Purpose::Rules,
        reachable: true,
        frags: false,
        sees_links: true,
        skipped: Vec::new(),
        state: LinkState::Attached,
        successor: None,
        foreign: None,
        elsewhere: None,
        addresses: Vec::new(),
        answers: true,
        mac: None,
        policy: Policy::Pass,
        sessions: Vec::new(),
    });
    facts.devices.insert(ifindex, device);
}

/// With a rule for UDP.
pub fn with_rule(mut facts: Facts) -> Facts {
    facts.rules.push(rule(Proto::Udp, 9, Rewrite::default()));
    facts
}

/// Packets that passed, by the names of outcomes.
pub fn outcomes(passed: &[(&'static str, u64)]) -> Outcomes {
    let outcome = |&(name, packets): &(_, _)| Outcome {
        name,
        action: "pass",
        counter: Counter { packets, bytes: 0 },
    };
    Outcomes(passed.iter().map(outcome).collect())
}

/// A host that lacks nothing.
pub fn host() -> Facts {
    let host = HostFacts {
        program: Trial::Loaded,
        ledger: Trial::Loaded,
        links: Trial::Loaded,
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
    let can = Some(true);
    let features = Features {
        ifname: format!("nic{ifindex}"),
        ifindex,
        driver: Some("ixgbe".into()),
        mtu: 1500,
        up: true,
        xdp: XdpFeatures {
            source: FeatureSource::Kernel,
            native: can,
            redirect: can,
            redirect_target: can,
            multi_buffer_rx: can,
            multi_buffer_tx: can,
            zero_copy: can,
        },
        ..Features::default()
    };
    DeviceFacts {
        features,
        enabled: true,
        promiscuous: false,
        in_service: true,
        other_end_is_back: false,
        completes_checksum: true,
        rx_queues: None,
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
    let rule = Rule::new(Match {
        proto,
        ..Match::example(7999)
    });
    rule.with(vec![backend(ifindex, rewrite)])
}

fn backend(ifindex: u32, rewrite: Rewrite) -> Backend {
    let example = Adjacency::example([10, 0, 0, 2]);
    Backend {
        rewrite,
        ..Backend::new(Adjacency { ifindex, ..example })
    }
}
