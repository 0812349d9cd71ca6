//! Frames of several segments, which arrive undivided: longer than any device carries, they pass.

use super::{mtu, peer_mtu, remedies};
use crate::doctor::facts::{DeviceFacts, Facts, InterfaceFacts};
use crate::model::{Features, Finding, Match, Mode, Proto, Remedy, Remote, Tool};

/// Where QUIC is spoken: HTTP/3 and DNS, and what people take instead of their ports.
const QUIC: [u16; 5] = [443, 784, 853, 4433, 8443];

/// Most senders of UDP hand over each datagram alone: their rules count on QUIC's ports, and where
/// frames that were too long have passed.
pub fn check(facts: &Facts) -> Vec<Finding> {
    let live = facts.live();
    live.filter_map(|interface| of_interface(facts, interface, rules(facts, interface)))
        .collect()
}

fn rules(facts: &Facts, interface: &InterfaceFacts) -> Protos {
    let passed = passed(facts, interface).is_some_and(|frames| frames > 0);
    let any = |wanted: &dyn Fn(&Match) -> bool| facts.matches().any(wanted);
    Protos {
        tcp: any(&|rule| rule.proto == Proto::Tcp),
        udp: any(&|rule| rule.proto == Proto::Udp && (passed || QUIC.contains(&rule.port.get()))),
    }
}

/// How many frames that were too long have passed there; None where nobody has looked.
fn passed(facts: &Facts, interface: &InterfaceFacts) -> Option<u64> {
    let outcomes = facts.outcomes.get(&interface.ifindex);
    outcomes.map(|outcomes| outcomes.packets("too_long"))
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Protos {
    tcp: bool,
    udp: bool,
}

impl Protos {
    fn and(self, other: Protos) -> Protos {
        Protos {
            tcp: self.tcp && other.tcp,
            udp: self.udp && other.udp,
        }
    }
}

/// Who makes large frames, of what.
enum Maker {
    /// A device whose senders leave it to the device to divide what they send.
    Sender(Remote, Protos),
    /// A VM behind a tap, whose own offloads nobody here can see.
    Vm(String, Protos),
    /// A device that joins TCP segments of others (GRO).
    Joiner(Remote),
    /// A tunnel's other end, from which frames that were too long have passed.
    OtherEnd(Protos),
}

impl Maker {
    fn protos(&self) -> Protos {
        match self {
            Maker::Sender(_, protos) | Maker::Vm(_, protos) | Maker::OtherEnd(protos) => *protos,
            Maker::Joiner(_) => Protos {
                tcp: true,
                udp: false,
            },
        }
    }

    fn evidence(&self) -> String {
        match self {
            Maker::Sender(device, protos) => {
                let (what, is) = match protos {
                    Protos { udp: false, .. } => ("TSO", "is"),
                    Protos { tcp: false, .. } => ("tx-udp-segmentation", "is"),
                    _ => ("TSO and tx-udp-segmentation", "are"),
                };
                // Nobody looks into a namespace that can't be entered.
                let is = if device.ifname.is_none() {
                    "may be"
                } else {
                    is
                };
                format!("{what} {is} on at {device}")
            }
            Maker::Vm(tap, _) => format!("a VM behind {tap} may leave dividing to others"),
            Maker::Joiner(device) => format!("GRO of {device} joins TCP segments"),
            Maker::OtherEnd(_) => {
                "some have passed that the tunnel's other end did not divide".into()
            }
        }
    }

    fn remedy(&self) -> Remedy {
        match self {
            Maker::Sender(device, protos) => {
                remedies::at_device(device, |name| undivided(name, *protos))
            }
            Maker::Vm(tap, protos) => {
                let libvirt = match protos.tcp {
                    true => ", or for TCP <host tso4='off' tso6='off'/> in its libvirt XML",
                    false => "",
                };
                Remedy::from(format!("in the VM behind {tap} "))
                    + remedies::elsewhere(undivided("DEV", *protos))
                    + libvirt
            }
            Maker::Joiner(device) => {
                let gro = Tool::new("ethtool -K").arg(device.name());
                gro.words("gro off").beside(device)
            }
            Maker::OtherEnd(protos) => {
                Remedy::from("at the tunnel's other end ")
                    + remedies::elsewhere(undivided("DEV", *protos))
            }
        }
    }
}

fn undivided(device: &str, protos: Protos) -> Tool {
    let tcp = if protos.tcp { "tso off" } else { "" };
    let udp = if protos.udp {
        "tx-udp-segmentation off"
    } else {
        ""
    };
    Tool::new("ethtool -K").arg(device).words(tcp).words(udp)
}

/// Whether frames that are too long have no other reason.
fn fits(facts: &Facts) -> bool {
    mtu::check(facts).is_empty() && peer_mtu::check(facts).is_empty()
}

fn of_interface(facts: &Facts, interface: &InterfaceFacts, rules: Protos) -> Option<Finding> {
    let features = &facts.devices.get(&interface.ifindex)?.features;
    let mut makers = match interface.mode {
        Mode::Skb => makers(facts, features, rules),
        // Drivers divide what comes to native programs, or switch it off, but for that of taps.
        Mode::Native => behind_tap(features, rules).into_iter().collect(),
    };
    let passed = passed(facts, interface);
    // Nobody here knows what a VM does, but what has come of it.
    makers.retain(|maker| passed != Some(0) || !matches!(maker, Maker::Vm(..)));
    let has_passed = passed.is_some_and(|frames| frames > 0) && fits(facts);
    if is_tunnel(features) && has_passed && rules != Protos::default() {
        makers.push(Maker::OtherEnd(rules));
    }
    let any = |of: fn(Protos) -> bool| makers.iter().any(|maker| of(maker.protos()));
    let what = match (any(|protos| protos.tcp), any(|protos| protos.udp)) {
        (false, false) => return None,
        (true, false) => "large TCP segments",
        (false, true) => "UDP datagrams that a sender hands over together, as QUIC's do,",
        (true, true) => {
            "large TCP segments, and UDP datagrams that a sender hands over together, as QUIC's do,"
        }
    };
    let evidence: Vec<String> = makers.iter().map(Maker::evidence).collect();
    let remedies = Remedy::all(makers.iter().map(Maker::remedy));
    Some(
        Finding::warning("segments", &interface.name)
            .consequence(format!("{what} are not redirected, and pass to this host"))
            .evidence(format!(
                "they arrive undivided, longer than any device carries: {}",
                evidence.join("; ")
            ))
            .remedy(remedies + instead(facts, interface, features)),
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
            Remedy::from(", or ") + remedies::reattach(&[name], Some(Mode::Native))
        }
        (Some(lower), Some(vlan)) => {
            format!(", or attach to {lower}, with rules for VLAN {vlan}").into()
        }
        (Some(lower), None) => format!(", or attach to {lower}").into(),
        _ => Remedy::default(),
    }
}

/// Those whose frames arrive in generic mode at an attached device itself, where the kernel joins
/// none, and by those below it.
fn makers(facts: &Facts, features: &Features, rules: Protos) -> Vec<Maker> {
    let sender = sender(features).map(|(device, on)| (device, on.and(rules)));
    let sender = sender.filter(|(_, protos)| *protos != Protos::default());
    let sender = sender.map(|(device, protos)| Maker::Sender(device, protos));
    let here = sender.into_iter().chain(behind_tap(features, rules));
    here.chain(from_below(facts, features, rules)).collect()
}

/// Where a device's frames are sent, if that is on this host, and what may come undivided from there.
fn sender(features: &Features) -> Option<(Remote, Protos)> {
    let (device, tso, udp) = match &features.peer {
        Some(peer) => (peer.device.clone(), peer.tso, peer.tx_udp_segmentation),
        None if is_loopback(features) => {
            let offloads = &features.offloads;
            let here = Remote::here(features.ifindex, &features.ifname);
            (here, offloads.tso, offloads.tx_udp_segmentation)
        }
        None => return None,
    };
    let protos = Protos {
        tcp: tso != Some(false),
        udp: udp != Some(false),
    };
    Some((device, protos))
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
    (features.vnet_header && rules != Protos::default())
        .then(|| Maker::Vm(features.ifname.clone(), rules))
}

/// The ports of a bridge, and the device that a VLAN or macvlan stands on; but for those that are
/// attached themselves, and so looked at for their own sake.
fn from_below(facts: &Facts, features: &Features, rules: Protos) -> Vec<Maker> {
    let (here, elsewhere): (Vec<&Remote>, Vec<&Remote>) = features
        .lower
        .iter()
        .partition(|lower| lower.nsid.is_none());
    let here = here.iter().map(|lower| lower.ifindex);
    let here = here.filter_map(|ifindex| facts.below.get(&ifindex));
    let ports = features.ports.iter();
    let ports = ports.filter_map(|port| facts.below.get(&port.ifindex));
    let below = ports
        .filter(|port| !leads_to_server(facts, port))
        .chain(here);
    let below = below.filter(|below| !facts.attached.contains(&below.ifindex));
    let mut makers: Vec<Maker> = below
        .flat_map(|below| as_below(facts, below, rules))
        .collect();
    let elsewhere = elsewhere.into_iter().filter(|_| rules.tcp);
    makers.extend(elsewhere.map(|lower| Maker::Joiner(lower.clone())));
    makers
}

fn as_below(facts: &Facts, features: &Features, rules: Protos) -> Vec<Maker> {
    let mut makers = makers(facts, features, rules);
    if rules.tcp && joins(features) {
        let here = Remote::here(features.ifindex, &features.ifname);
        makers.push(Maker::Joiner(here));
    }
    makers
}

/// And to nobody else, as a container's veth and a VM's tap do.
fn leads_to_server(facts: &Facts, port: &Features) -> bool {
    facts.is_egress(port.ifindex) && (port.peer.is_some() || port.vnet_header)
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
    use super::super::testing::{attached, nic, rule, vlan};
    use super::*;
    use crate::model::{Counter, Outcome, Outcomes, Rewrite};

    /// What is said of a NIC, or of a VLAN device on it, in generic mode.
    fn found(on_vlan: bool, gro: bool, proto: Proto) -> Option<Finding> {
        let mut lower = nic(1);
        lower.features.offloads.gro = Some(gro);
        let upper = vlan(2, &lower);
        let on = if on_vlan { &upper } else { &lower };
        let mut facts = Facts::default();
        facts.interfaces.push(attached(on, Mode::Skb));
        facts.attached.push(on.features.ifindex);
        facts.rules.push(rule(proto, 9, Rewrite::default()));
        facts.below.insert(1, lower.features.clone());
        facts.devices.insert(1, lower);
        facts.devices.insert(2, upper);
        check(&facts).pop()
    }

    #[test]
    fn above_a_nic_its_gro_is_named_and_the_nic_itself_to_attach_to() {
        let finding = found(true, true, Proto::Tcp).expect("a finding");
        assert!(finding.evidence.ends_with("GRO of nic1 joins TCP segments"));
        let gro = Tool::new("ethtool -K nic1 gro off");
        let remedy = Remedy::from(gro) + ", or attach to nic1, with rules for VLAN 100";
        assert_eq!(finding.remedy, remedy);
        assert_eq!(found(true, false, Proto::Tcp), None);
    }

    #[test]
    fn on_a_nic_itself_nothing_arrives_undivided() {
        assert_eq!(found(false, true, Proto::Tcp), None);
        assert_eq!(found(false, true, Proto::Udp), None);
        assert_eq!(found(true, true, Proto::Udp), None);
    }

    #[test]
    fn what_a_tunnels_other_end_did_not_divide_is_known_once_it_has_passed() {
        let found = |packets| {
            let mut tunnel = nic(1);
            tunnel.features.kind = Some("vxlan".into());
            let mut facts = Facts::default();
            facts.interfaces.push(attached(&tunnel, Mode::Skb));
            facts.rules.push(rule(Proto::Tcp, 9, Rewrite::default()));
            facts.devices.insert(1, tunnel);
            let too_long = Outcome {
                name: "too_long",
                action: "pass",
                counter: Counter { packets, bytes: 0 },
            };
            facts.outcomes.insert(1, Outcomes(vec![too_long]));
            check(&facts).pop()
        };
        assert_eq!(found(0), None);
        let tso = remedies::elsewhere(Tool::new("ethtool -K DEV tso off"));
        let remedy = Remedy::from("at the tunnel's other end ") + tso;
        assert_eq!(found(3).expect("a finding").remedy, remedy);
    }
}
