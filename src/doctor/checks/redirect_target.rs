//! Egress devices that take no frames from native programs: `redirect-target`, and `peer-napi` where a veth's
//! peer decides it.

use super::remedies;
use crate::doctor::facts::{BackendFacts, DeviceFacts, Facts};
use crate::model::{
    Backend, Command, FeatureSource, Finding, Fix, Mode, Peer, Remedy, Rewrite, Tool, Verb, VlanId,
};

pub fn check(facts: &Facts) -> Vec<Finding> {
    if facts.native().next().is_none() {
        return Vec::new();
    }
    let egress = facts.egress();
    egress.filter_map(|device| finding(facts, device)).collect()
}

/// None where the device takes frames. Not to know it is no yes.
fn finding(facts: &Facts, device: &DeviceFacts) -> Option<Finding> {
    let takes = device.features.xdp.redirect_target;
    let names = facts.native_names();
    let redirect = if names.len() > 1 {
        "redirect"
    } else {
        "redirects"
    };
    let what = format!(
        "what {} {redirect} to it in native mode",
        names.join(" and ")
    );
    let finding = match takes {
        Some(true) => return None,
        Some(false) => {
            Finding::problem(id(device), device.name()).consequence(format!("{what} is lost"))
        }
        None => {
            Finding::warning(id(device), device.name()).consequence(format!("{what} may be lost"))
        }
    };
    let (evidence, remedy, fix) = match &device.features.peer {
        Some(peer) if device.is("veth") => of_veth(facts, device, peer),
        _ => of_driver(facts, device),
    };
    Some(finding.evidence(evidence).remedy(remedy).fix(fix))
}

fn id(device: &DeviceFacts) -> &'static str {
    if device.is("veth") && device.features.peer.is_some() {
        "peer-napi"
    } else {
        "redirect-target"
    }
}

fn of_veth(facts: &Facts, device: &DeviceFacts, peer: &Peer) -> (String, Remedy, Option<Fix>) {
    let remedy = gro_on(peer) + ", or " + remedies::natives_to_skb(facts);
    (lacking(peer) + guess(device), remedy, gro(peer))
}

fn of_driver(facts: &Facts, device: &DeviceFacts) -> (String, Remedy, Option<Fix>) {
    let skb = remedies::natives_to_skb(facts);
    let driver = driver(device);
    let evidence = match device.features.xdp.redirect_target {
        Some(_) => format!(
            "its driver {driver} takes no redirected frames (NDO_XMIT){}",
            guess(device)
        ),
        None => {
            format!("this kernel doesn't tell whether its driver {driver} takes redirected frames")
        }
    };
    if let Some(below) = by_device_below(facts, device) {
        return (evidence, below + ", or " + skb, None);
    }
    let Some(attach) = attach_there(facts, device) else {
        return (evidence, skb, None);
    };
    let evidence = format!("{evidence}; some drivers do while an XDP program runs there");
    (evidence, attach + ", or " + skb, None)
}

fn guess(device: &DeviceFacts) -> &'static str {
    match (
        device.features.xdp.redirect_target,
        device.features.xdp.source,
    ) {
        (Some(_), FeatureSource::Guess) => ", as far as can be told on this kernel",
        _ => "",
    }
}

/// Runs the program there too, where the driver may then take frames: it runs XDP, as far as is known, and
/// no program yet. A tap needs none.
fn attach_there(facts: &Facts, device: &DeviceFacts) -> Option<Remedy> {
    if device.features.xdp.redirect == Some(false) || device.is("tun") {
        return None;
    }
    let (name, ifindex) = (device.name(), device.features.ifindex);
    let mut interfaces = facts.interfaces.iter();
    match interfaces.find(|interface| interface.ifindex == ifindex) {
        Some(interface) if interface.mode == Mode::Native => None,
        Some(_) => Some(remedies::reattach(&[name], Some(Mode::Native))),
        None if facts.attached.contains(&ifindex) => None,
        None => Some(Remedy::from(remedies::attach(&[name], Some(Mode::Native))) + " too"),
    }
}

/// The rule for the device below, where that takes what native programs redirect to it.
fn by_device_below(facts: &Facts, device: &DeviceFacts) -> Option<Remedy> {
    let on = device.features.ifindex;
    let mut all = facts.rules.iter().flat_map(|rule| {
        let backends = rule.backends.iter().filter(move |b| b.ifindex == on);
        backends.map(move |backend| (rule, backend))
    });
    let (rule, backend) = all.next()?;
    let (lower, rewrite) = below(facts, device, backend)?;
    let lower = facts.below.get(&lower)?;
    if lower.xdp.redirect_target != Some(true) {
        return None;
    }
    let add = Verb::RuleAdd {
        matches: rule.matches,
        server: backend.server,
        device: Some(lower.ifname.clone()),
        rewriting: rewrite.map(|rewrite| rule.rewriting(rewrite)),
    };
    let others = match all.next() {
        None => "",
        Some(_) => ", and so for its other backends there",
    };
    Some(Remedy::from(add) + others)
}

/// The device that a backend can be reached by instead, and the rewriting where packets need a tag there.
fn below(facts: &Facts, device: &DeviceFacts, backend: &Backend) -> Option<(u32, Option<Rewrite>)> {
    if device.is("bridge") {
        let identity = (backend.server, backend.ifindex, backend.mac);
        let is_it = |b: &&BackendFacts| (b.server, b.ifindex, b.mac) == identity;
        let backend = facts.backends.iter().find(is_it)?;
        return Some((backend.whereabouts.port?, None));
    }
    let lower = device.features.lower.as_ref();
    let lower = lower.filter(|lower| lower.nsid.is_none())?.ifindex;
    match device.features.vlan {
        None => Some((lower, None)),
        Some(_) if backend.rewrite.push_vlan.is_some() => None,
        Some(vlan) => {
            let rewrite = Rewrite {
                push_vlan: VlanId::new(vlan),
                ..backend.rewrite
            };
            Some((lower, Some(rewrite)))
        }
    }
}

fn lacking(peer: &Peer) -> String {
    let device = &peer.device;
    match peer.gro {
        Some(false) => format!("its peer {device} has neither GRO nor a native XDP program"),
        Some(true) => format!("GRO was switched on at its peer {device} while that was down"),
        None => format!("its peer {device} needs GRO or a native XDP program"),
    }
}

fn gro_on(peer: &Peer) -> Remedy {
    let gro = |words| {
        let ethtool = |name: &str| Tool::new("ethtool -K").arg(name).words(words);
        remedies::at_device(&peer.device, ethtool)
    };
    match peer.gro {
        Some(true) => gro("gro off") + " and then " + Command::Name("gro on"),
        _ => gro("gro on"),
    }
}

fn gro(peer: &Peer) -> Option<Fix> {
    let device = Some(&peer.device).filter(|device| device.is_within_reach())?;
    (peer.gro == Some(false)).then(|| Fix::Gro(device.clone()))
}

fn driver(device: &DeviceFacts) -> &str {
    device.features.driver.as_deref().unwrap_or("(none)")
}

#[cfg(test)]
mod tests {
    use super::super::testing::{attached, nic, redirecting, rule, vlan};
    use super::*;
    use crate::model::{Part, Proto, Severity};

    /// The rewriting in the remedy for a backend by a VLAN device.
    fn rewriting(lower_takes: bool, rewrite: Rewrite) -> Option<Rewrite> {
        let mut lower = nic(1);
        lower.features.xdp.redirect_target = Some(lower_takes);
        let (upper, from) = (vlan(2, &lower), nic(3));
        let mut facts = Facts::default();
        facts.interfaces.push(attached(&from, Mode::Native));
        facts.rules.push(rule(Proto::Udp, 2, rewrite));
        facts.below.insert(1, lower.features);
        match &by_device_below(&facts, &upper)?.0[0] {
            Part::Commands(commands) => match &commands[0] {
                Command::Own(Verb::RuleAdd {
                    device, rewriting, ..
                }) => {
                    assert_eq!(device.as_deref(), Some("nic1"));
                    rewriting.map(|new| new.backend)
                }
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_vlan_s_frames_go_by_the_device_below_with_their_tag() {
        let keep_ip = Rewrite {
            keep_ip: true,
            ..Rewrite::default()
        };
        let tagged = Rewrite {
            push_vlan: VlanId::new(100),
            ..keep_ip
        };
        assert_eq!(rewriting(true, keep_ip), Some(tagged));
        assert_eq!(rewriting(false, keep_ip), None);
        assert_eq!(rewriting(true, tagged), None);
    }

    /// Of a NIC that takes frames or not, natively redirected to.
    fn found(takes: Option<bool>, redirect: Option<bool>) -> (Facts, Vec<Finding>) {
        let mut egress = nic(2);
        egress.features.xdp.redirect_target = takes;
        egress.features.xdp.redirect = redirect;
        let facts = redirecting(nic(1), egress);
        let findings = check(&facts);
        (facts, findings)
    }

    fn to_skb() -> Remedy {
        remedies::reattach(&["nic1"], Some(Mode::Skb))
    }

    fn attach_first() -> Remedy {
        let attach = remedies::attach(&["nic2"], Some(Mode::Native));
        Remedy::from(attach) + " too" + ", or " + to_skb()
    }

    #[test]
    fn a_nic_that_may_want_a_program_is_to_be_attached_first() {
        assert!(found(Some(true), Some(true)).1.is_empty());
        let (mut facts, findings) = found(Some(false), Some(true));
        assert_eq!(findings[0].severity, Severity::Problem);
        assert_eq!(findings[0].remedy, attach_first());

        facts.interfaces.push(attached(&nic(2), Mode::Skb));
        let again = remedies::reattach(&["nic2"], Some(Mode::Native));
        assert_eq!(check(&facts)[0].remedy, again + ", or " + to_skb());
        facts.interfaces[1].mode = Mode::Native;
        let both = remedies::reattach(&["nic1", "nic2"], Some(Mode::Skb));
        assert_eq!(check(&facts)[0].remedy, both);
    }

    #[test]
    fn a_device_without_xdp_is_for_generic_mode() {
        let (_, findings) = found(Some(false), Some(false));
        assert_eq!(findings[0].remedy, to_skb());
    }

    #[test]
    fn not_to_know_whether_a_device_takes_frames_is_no_yes() {
        for redirect in [None, Some(true)] {
            let (_, findings) = found(None, redirect);
            assert_eq!(findings[0].check, "redirect-target");
            assert_eq!(findings[0].severity, Severity::Warning);
            assert!(findings[0].consequence.ends_with("may be lost"));
            assert_eq!(findings[0].remedy, attach_first());
        }
    }
}
