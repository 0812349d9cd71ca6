//! Frames of several segments, which arrive undivided: longer than any device carries, they pass.

use super::{mtu, peer_mtu, remedies};
use crate::doctor::facts::{DeviceFacts, Facts, InterfaceFacts};
use crate::model::{
    Action, Features, Finding, Match, Mode, Port, Proto, Remedy, Remote, Rule, Tool,
};

/// Where QUIC is spoken: HTTP/3 and DNS, and what people take instead of their ports.
const QUIC: [u16; 5] = [443, 784, 853, 4433, 8443];

/// Of rules that send packets on. Most senders of UDP hand over each datagram alone: their rules count on QUIC's ports, and where
/// frames that were too long have passed.
fn rules(facts: &Facts, passed: bool) -> Protos {
    let sends = |rule: &&Rule| matches!(rule.action, Action::Redirect | Action::Forward { .. });
    let any = |wanted: &dyn Fn(&Match) -> bool| {
        let rules = facts.rules.iter().filter(sends);
        rules.map(|rule| &rule.matches).any(wanted)
    };
    Protos {
        tcp: any(&|rule| protos(rule, passed).tcp),
        udp: any(&|rule| protos(rule, passed).udp),
    }
}

fn protos(rule: &Match, passed: bool) -> Protos {
    let mut ports = QUIC.iter().filter_map(|&port| Port::new(port));
    let is_quic = ports.any(|port| rule.ports.contain(port));
    Protos {
        tcp: rule.proto.covers(Proto::Tcp),
        udp: rule.proto.covers(Proto::Udp) && (passed || is_quic),
    }
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Protos {
    tcp: bool,
    udp: bool,
}

/// Who makes large frames, of what.
struct Maker {
    protos: Protos,
    evidence: String,
    remedy: Remedy,
    /// Nobody here can see a VM's own offloads.
    is_vm: bool,
}

impl Maker {
    fn new(protos: Protos, evidence: String, remedy: Remedy) -> Self {
        Maker {
            protos,
            evidence,
            remedy,
            is_vm: false,
        }
    }

    /// A device whose senders leave it to the device to divide what they send.
    fn sender(device: &Remote, protos: Protos) -> Self {
        let (what, is) = match protos {
            Protos { udp: false, .. } => ("TSO", "is"),
            Protos { tcp: false, .. } => ("tx-udp-segmentation", "is"),
            _ => ("TSO and tx-udp-segmentation", "are"),
        };
        // Nobody looks into a namespace that can't be entered.
        let is = device.ifname.as_ref().map_or("may be", |_| is);
        let remedy = remedies::at_device(device, |name| undivided(name, protos));
        Maker::new(protos, format!("{what} {is} on at {device}"), remedy)
    }

    /// A VM behind a tap.
    fn vm(tap: &str, protos: Protos) -> Self {
        let libvirt = match protos.tcp {
            true => ", or for TCP <host tso4='off' tso6='off'/> in its libvirt XML",
            false => "",
        };
        let there = Remedy::from(format!("in the VM behind {tap} "));
        let remedy = there + remedies::elsewhere(undivided("DEV", protos)) + libvirt;
        Maker {
            is_vm: true,
            ..Maker::new(
                protos,
                format!("a VM behind {tap} may leave dividing to others"),
                remedy,
            )
        }
    }

    /// A device that joins TCP segments of others (GRO).
    fn joiner(device: &Remote) -> Self {
        let gro = Tool::new("ethtool -K").arg(device.name());
        let protos = Protos {
            tcp: true,
            udp: false,
        };
        Maker::new(
            protos,
            format!("GRO of {device} joins TCP segments"),
            gro.words("gro off").beside(device),
        )
    }

    /// A tunnel's other end, from which frames that were too long have passed.
    fn other_end(protos: Protos) -> Self {
        let there = Remedy::from("at the tunnel's other end ");
        Maker::new(
            protos,
            "some have passed that the tunnel's other end did not divide".into(),
            there + remedies::elsewhere(undivided("DEV", protos)),
        )
    }
}

fn undivided(device: &str, protos: Protos) -> Tool {
    let words = match protos {
        Protos { udp: false, .. } => "tso off",
        Protos { tcp: false, .. } => "tx-udp-segmentation off",
        _ => "tso off tx-udp-segmentation off",
    };
    Tool::new("ethtool -K").arg(device).words(words)
}

/// Whether frames that are too long have no other reason.
fn fits(facts: &Facts) -> bool {
    let is_short = |device| {
        mtu::check(facts, device)
            .or(peer_mtu::check(facts, device))
            .is_some()
    };
    !facts.egress().any(is_short)
}

pub fn check(facts: &Facts, interface: &InterfaceFacts, device: &DeviceFacts) -> Option<Finding> {
    let features = &device.features;
    // None where nobody has looked.
    let outcomes = facts.outcomes.get(&interface.ifindex);
    let passed =
        outcomes.map(|outcomes| outcomes.packets("too_long") + outcomes.packets("policy_too_long"));
    let has_passed = passed.is_some_and(|frames| frames > 0);
    let mut rules = rules(facts, has_passed);
    let fate = match interface.policy.device() {
        Some(_) => "are not forwarded, and are dropped",
        None => "are not redirected, and pass to this host",
    };
    if interface.policy.device().is_some() {
        rules.tcp = true;
        rules.udp |= has_passed;
    }
    let mut makers = Vec::new();
    match interface.mode {
        _ if rules == Protos::default() => return None,
        Mode::Skb => add_makers(&mut makers, facts, features, rules),
        // There, they are redirected whole.
        Mode::Tc => return None,
        // Drivers divide what comes to native programs, or switch it off, but for that of taps.
        Mode::Native => makers.extend(behind_tap(features, rules)),
    }
    // Nobody here knows what a VM does, but what has come of it.
    makers.retain(|maker| passed != Some(0) || !maker.is_vm);
    if is_tunnel(features) && has_passed && fits(facts) {
        makers.push(Maker::other_end(rules));
    }
    let any = |of: fn(Protos) -> bool| makers.iter().any(|maker| of(maker.protos));
    let what = match (any(|protos| protos.tcp), any(|protos| protos.udp)) {
        (false, false) => return None,
        (true, false) => "large TCP segments",
        (false, true) => "UDP datagrams that a sender hands over together, as QUIC's do,",
        (true, true) => {
            "large TCP segments, and UDP datagrams that a sender hands over together, as QUIC's do,"
        }
    };
    let evidence: Vec<&str> = makers.iter().map(|maker| &*maker.evidence).collect();
    let evidence = evidence.join("; ");
    Some(
        Finding::warning("segments", &interface.name)
            .consequence(format!("{what} {fate}"))
            .evidence(format!(
                "they arrive undivided, longer than any device carries: {evidence}"
            ))
            .remedy(
                Remedy::all(makers.into_iter().map(|maker| maker.remedy))
                    + instead(facts, interface, features)
                    + at_tc(facts, interface),
            ),
    )
}

/// Another place, or another mode, where nothing arrives undivided.
fn instead(facts: &Facts, interface: &InterfaceFacts, features: &Features) -> Remedy {
    let name = &interface.name;
    let refuses = |device: &DeviceFacts| device.features.xdp.redirect_target == Some(false);
    match (&features.lower, features.vlan) {
        _ if interface.mode == Mode::Native => Remedy::default(),
        // Natively, the kernel switches it off at the peer.
        _ if features.peer.is_some() && features.xdp.redirect == Some(true) => {
            if facts.egress().any(refuses) {
                return Remedy::default();
            }
            Remedy::from(", or ") + remedies::reattach(facts, &[name], Some(Mode::Native))
        }
        (Some(lower), Some(vlan)) => {
            format!(", or attach to {lower}, with rules for VLAN {vlan}").into()
        }
        (Some(lower), None) => format!(", or attach to {lower}").into(),
        _ => Remedy::default(),
    }
}

/// The hook where such frames are redirected as they are.
fn at_tc(facts: &Facts, interface: &InterfaceFacts) -> Remedy {
    let again = remedies::reattach(facts, &[&interface.name], Some(Mode::Tc));
    Remedy::from(", or, to have them redirected whole, ") + again
}

/// Those whose frames arrive in generic mode at an attached device itself, where the kernel joins none, and
/// by those below it: the ports of a bridge, and the device that a VLAN or macvlan stands on. Devices that
/// are attached themselves are looked at for their own sake.
fn add_makers(makers: &mut Vec<Maker>, facts: &Facts, features: &Features, rules: Protos) {
    makers.extend(sender(features, rules));
    makers.extend(behind_tap(features, rules));
    let is_here = |lower: &&Remote| lower.nsid.is_none();
    let lower = features.lower.as_ref();
    let here = lower.filter(is_here).map(|lower| lower.ifindex);
    let ports = features.ports.iter().map(|port| port.ifindex);
    let ports = ports.filter(|port| !leads_to_server(facts, *port));
    let below = ports
        .chain(here)
        .filter(|below| !facts.attached.contains(below));
    for below in below.filter_map(|below| facts.below.get(&below)) {
        add_makers(makers, facts, below, rules);
        if rules.tcp && joins(below) {
            makers.push(Maker::joiner(&Remote::here(below.ifindex, &below.ifname)));
        }
    }
    let elsewhere = lower.filter(|lower| !is_here(lower) && rules.tcp);
    makers.extend(elsewhere.map(Maker::joiner));
}

/// Who makes large frames of the answers to what a rule sends out by a device, and what helps. `passed`: some have gone
/// to the host's stack.
pub fn of_answers(egress: &DeviceFacts, rule: &Match, passed: bool) -> Option<(String, Remedy)> {
    let protos = protos(rule, passed);
    let vm = behind_tap(&egress.features, protos).filter(|_| passed && protos != Protos::default());
    let maker = sender(&egress.features, protos).or(vm)?;
    Some((maker.evidence, maker.remedy))
}

/// Where a device's frames are sent, if that is on this host and they may come undivided from there.
fn sender(features: &Features, rules: Protos) -> Option<Maker> {
    let here = || Remote::here(features.ifindex, &features.ifname);
    let offloads = &features.offloads;
    let (device, tso, udp) = match &features.peer {
        Some(peer) => (peer.device.clone(), peer.tso, peer.tx_udp_segmentation),
        None if is_loopback(features) => (here(), offloads.tso, offloads.tx_udp_segmentation),
        None => return None,
    };
    let protos = Protos {
        tcp: rules.tcp && tso != Some(false),
        udp: rules.udp && udp != Some(false),
    };
    (protos != Protos::default()).then(|| Maker::sender(&device, protos))
}

/// The one device with neither kind nor driver.
fn is_loopback(features: &Features) -> bool {
    features.kind.is_none() && features.driver.is_none()
}

/// What arrives there was sent by another host's tunnel device.
fn is_tunnel(features: &Features) -> bool {
    let kinds = ["vxlan", "geneve", "gretap", "ip6gretap", "erspan"];
    let kind = features.kind.as_deref();
    kind.is_some_and(|kind| kinds.contains(&kind))
}

fn behind_tap(features: &Features, rules: Protos) -> Option<Maker> {
    let is_tap = features.vnet_header;
    is_tap.then(|| Maker::vm(&features.ifname, rules))
}

/// And to nobody else, as a container's veth and a VM's tap do.
fn leads_to_server(facts: &Facts, port: u32) -> bool {
    let has_other_end = |port: &Features| port.peer.is_some() || port.vnet_header;
    facts.is_egress(port) && facts.below.get(&port).is_some_and(has_other_end)
}

/// What has a queue of its own.
fn joins(features: &Features) -> bool {
    let has_queue = match features.kind.as_deref() {
        None => !is_loopback(features),
        kind => kind == Some("veth"),
    };
    has_queue && features.offloads.gro != Some(false)
}

#[cfg(test)]
mod tests {
    use super::super::{Check, testing};
    use super::*;
    use crate::model::Rewrite;

    /// What is said of a device in generic mode, with a rule.
    fn found(
        device: DeviceFacts,
        proto: Proto,
        prepare: impl FnOnce(&mut Facts),
    ) -> Option<Finding> {
        let mut facts = testing::attached_to(device, Mode::Skb);
        facts
            .rules
            .push(testing::rule(proto, 9, Rewrite::default()));
        prepare(&mut facts);
        Check::Interface(check).run(&facts).pop()
    }

    fn at_tc(name: &str) -> Remedy {
        let facts = testing::attached_to(testing::nic(1), Mode::Skb);
        Remedy::from(", or, to have them redirected whole, ")
            + remedies::reattach(&facts, &[name], Some(Mode::Tc))
    }

    #[test]
    fn above_a_nic_its_gro_is_named_and_the_nic_itself_to_attach_to() {
        let found = |gro, proto| {
            let mut lower = testing::nic(1);
            lower.features.offloads.gro = Some(gro);
            let upper = testing::vlan(2, &lower);
            found(upper, proto, |facts| {
                facts.below.insert(1, lower.features);
            })
        };
        let finding = found(true, Proto::Tcp).expect("a finding");
        assert!(finding.evidence.ends_with("GRO of nic1 joins TCP segments"));
        let gro = Tool::new("ethtool -K nic1 gro off");
        let remedy =
            Remedy::from(gro) + ", or attach to nic1, with rules for VLAN 100" + at_tc("v2");
        assert_eq!(finding.remedy, remedy);
        assert_eq!(found(false, Proto::Tcp), None);
        assert_eq!(found(true, Proto::Udp), None);
    }

    #[test]
    fn rules_that_pass_or_drop_miss_nothing() {
        let found = |action| {
            let mut lower = testing::nic(1);
            lower.features.offloads.gro = Some(true);
            found(testing::vlan(2, &lower), Proto::Tcp, |facts| {
                facts.below.insert(1, lower.features);
                facts.rules[0].action = action;
            })
        };
        assert!(found(Action::Redirect).is_some());
        assert_eq!([Action::Pass, Action::Drop].map(found), [None, None]);
    }

    #[test]
    fn on_a_nic_itself_nothing_arrives_undivided() {
        for proto in [Proto::Tcp, Proto::Udp] {
            let mut nic = testing::nic(1);
            nic.features.offloads.gro = Some(true);
            assert_eq!(found(nic, proto, |_| ()), None);
        }
    }

    #[test]
    fn what_a_tunnels_other_end_did_not_divide_is_known_once_it_has_passed() {
        let found = |packets| {
            let mut tunnel = testing::nic(1);
            tunnel.features.kind = Some("vxlan".into());
            found(tunnel, Proto::Tcp, |facts| {
                let passed = testing::outcomes(&[("too_long", packets)]);
                facts.outcomes.insert(1, passed);
            })
        };
        assert_eq!(found(0), None);
        let tso = remedies::elsewhere(Tool::new("ethtool -K DEV tso off"));
        let remedy = Remedy::from("at the tunnel's other end ") + tso + at_tc("nic1");
        assert_eq!(found(3).expect("a finding").remedy, remedy);
    }
}
