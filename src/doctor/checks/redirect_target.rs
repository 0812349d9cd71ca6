//! Egress devices that take no frames from native programs: `redirect-target`, and `peer-napi` where a veth's
//! peer decides it.

use super::remedies;
use crate::doctor::facts::{BackendFacts, DeviceFacts, Facts, PeerFacts};
use crate::model::{
    Backend, Command, FeatureSource, Finding, Fix, Mode, Peer, Proto, Remedy, Rewrite, Rule, Tool,
    Verb, VlanId,
};

/// None where the device takes frames. Not to know it is no yes.
pub fn check(facts: &Facts, device: &DeviceFacts) -> Option<Finding> {
    let names = facts.natives_to(device.features.ifindex);
    let redirect = match names.len() {
        0 => return None,
        1 => "redirects",
        _ => "redirect",
    };
    let (new, are): (fn(_, _) -> _, _) = match device.features.xdp.redirect_target {
        Some(true) => return None,
        Some(false) => (Finding::problem, "is"),
        None => (Finding::warning, "may be"),
    };
    let finding = |check| {
        let names = names.join(" and ");
        let lost = format!("what {names} {redirect} to it in native mode {are} lost");
        let finding: Finding = new(check, device.name());
        finding.consequence(lost)
    };
    Some(match &device.features.peer {
        Some(peer) if device.is("veth") => finding("peer-napi")
            .evidence(lacking(peer) + guess(device))
            .remedy(polling(facts, device, peer) + ", or " + to_skb(facts, device))
            .fix(fix(facts, device, peer)),
        _ => {
            let (evidence, remedy) = of_driver(facts, device);
            finding("redirect-target").evidence(evidence).remedy(remedy)
        }
    })
}

/// Takes those out of native mode that redirect to the device.
fn to_skb(facts: &Facts, device: &DeviceFacts) -> Remedy {
    let natives = facts.natives_to(device.features.ifindex);
    remedies::reattach(facts, &natives, Some(Mode::Skb))
}

fn of_driver(facts: &Facts, device: &DeviceFacts) -> (String, Remedy) {
    let skb = to_skb(facts, device);
    let driver = device.features.driver.as_deref().unwrap_or("(none)");
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
        return (evidence, below + ", or " + skb);
    }
    let Some(attach) = attach_there(facts, device) else {
        return (evidence, skb);
    };
    let evidence = format!("{evidence}; some drivers do while an XDP program runs there");
    (evidence, attach + ", or " + skb)
}

fn guess(device: &DeviceFacts) -> &'static str {
    let xdp = &device.features.xdp;
    match (xdp.redirect_target, xdp.source) {
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
        Some(_) => Some(remedies::reattach(facts, &[name], Some(Mode::Native))),
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

/// Has the peer poll.
fn polling(facts: &Facts, device: &DeviceFacts, peer: &Peer) -> Remedy {
    match fix(facts, device, peer) {
        Some(Fix::Pass(_)) => {
            gro_on(peer)
                + ", or, faster for datagrams, a program there that passes all, as "
                + Verb::DoctorFix
                + " attaches it"
        }
        _ => gro_on(peer),
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

fn fix(facts: &Facts, device: &DeviceFacts, peer: &Peer) -> Option<Fix> {
    let there = Some(&peer.device).filter(|device| device.is_within_reach())?;
    if peer.gro != Some(false) {
        return None;
    }
    Some(match takes_a_pass_program(facts, device) {
        true => Fix::Pass(there.clone()),
        false => Fix::Gro(there.clone()),
    })
}

/// Whether a program pays at a device's peer: none is there, and only datagrams are redirected to it. TCP,
/// which a policy forwards with everything else, wants GRO, and the segmentation offload that a veth loses
/// while its peer runs a program.
fn takes_a_pass_program(facts: &Facts, device: &DeviceFacts) -> bool {
    let is_free = |peer: &PeerFacts| peer.program.is_none() && !peer.redirects;
    let ifindex = device.features.ifindex;
    let leads_there = |rule: &&Rule| rule.backends.iter().any(|b| b.ifindex == ifindex);
    let mut rules = facts.rules.iter().filter(leads_there);
    device.peer_facts.as_ref().is_some_and(is_free)
        && !facts.is_forwarded_to(ifindex)
        && rules.all(|rule| matches!(rule.matches.proto, Proto::Udp | Proto::Icmp))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{attach, attached_to, nic, redirecting, rule, vlan};
    use super::*;
    use crate::model::Severity;

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
        let remedy = |lower_takes, rewrite| {
            let mut lower = nic(1);
            lower.features.xdp.redirect_target = Some(lower_takes);
            let upper = vlan(2, &lower);
            let mut facts = attached_to(nic(3), Mode::Native);
            facts.rules.push(rule(Proto::Udp, 2, rewrite));
            facts.below.insert(1, lower.features);
            by_device_below(&facts, &upper)
        };
        let rule = rule(Proto::Udp, 2, keep_ip);
        let add = Verb::RuleAdd {
            matches: rule.matches,
            server: rule.backends[0].server,
            device: Some("nic1".into()),
            rewriting: Some(rule.rewriting(tagged)),
        };
        assert_eq!(remedy(true, keep_ip), Some(Remedy::from(add) + ""));
        assert_eq!(remedy(false, keep_ip), None);
        assert_eq!(remedy(true, tagged), None);
    }

    /// Of a NIC that takes frames or not, natively redirected to.
    fn found(takes: Option<bool>, redirect: Option<bool>) -> Option<Finding> {
        let mut egress = nic(2);
        egress.features.xdp.redirect_target = takes;
        egress.features.xdp.redirect = redirect;
        let facts = redirecting(nic(1), egress);
        check(&facts, &facts.devices[&2])
    }

    fn nic1_to_skb() -> Remedy {
        remedies::reattach(&Facts::default(), &["nic1"], Some(Mode::Skb))
    }

    fn attach_first() -> Remedy {
        let attach = remedies::attach(&["nic2"], Some(Mode::Native));
        Remedy::from(attach) + " too" + ", or " + nic1_to_skb()
    }

    #[test]
    fn not_to_know_whether_a_device_takes_frames_is_no_yes() {
        let problem = Some((Severity::Problem, "is"));
        let warning = Some((Severity::Warning, "may be"));
        // Whether it takes frames and runs programs that redirect, what is found, and the remedy.
        let cases = [
            (Some(true), Some(true), None, Remedy::default()),
            (Some(false), Some(true), problem, attach_first()),
            (Some(false), Some(false), problem, nic1_to_skb()),
            (None, Some(true), warning, attach_first()),
            (None, None, warning, attach_first()),
        ];
        for (takes, redirect, expected, remedy) in cases {
            let found = found(takes, redirect);
            assert_eq!(found.is_some(), expected.is_some(), "{found:?}");
            if let (Some(found), Some((severity, are))) = (found, expected) {
                assert_eq!(found.check, "redirect-target");
                assert_eq!((found.severity, found.remedy), (severity, remedy));
                assert!(found.consequence.ends_with(&format!("{are} lost")));
            }
        }
    }

    #[test]
    fn a_nic_that_is_attached_already_is_attached_natively_or_all_in_generic_mode() {
        let mut egress = nic(2);
        egress.features.xdp.redirect_target = Some(false);
        let mut facts = redirecting(nic(1), egress.clone());
        attach(&mut facts, egress, Mode::Skb);
        let remedy = |facts: &Facts| check(facts, &facts.devices[&2]).expect("a finding").remedy;
        let again = remedies::reattach(&facts, &["nic2"], Some(Mode::Native));
        assert_eq!(remedy(&facts), again + ", or " + nic1_to_skb());
        facts.interfaces[1].mode = Mode::Native;
        let both = remedies::reattach(&facts, &["nic1", "nic2"], Some(Mode::Skb));
        assert_eq!(remedy(&facts), both);
    }
}
