//! Rules whose answers cannot be translated, because the program does not see them, or do not reach the
//! clients after that.

use std::collections::BTreeSet;

use super::replies::forwarding;
use super::rp_filter::unfiltered;
use super::{remedies, segments};
use crate::doctor::facts::{Asked, DeviceFacts, Facts, InterfaceFacts, ReplyArrival};
use crate::model::{
    AnswerWay, Backend, Finding, LinkState, Mode, Remedy, Reply, Rule, Tool, Verb, Way,
};

/// One finding for each device where answers arrive and the program is not attached.
pub fn check(facts: &Facts) -> Vec<Finding> {
    let mut seen = BTreeSet::new();
    let mut findings = Vec::new();
    for rule in &facts.rules {
        for device in unseen(facts, rule) {
            if seen.insert(device.features.ifindex) {
                findings.push(finding(facts, rule, device));
            }
        }
    }
    findings
}

/// The egress devices of the rule's backends, which the program is not attached to.
fn unseen<'a>(facts: &'a Facts, rule: &'a Rule) -> impl Iterator<Item = &'a DeviceFacts> {
    let translated = |backend: &&_| rule.reply_of(backend) == Reply::Nat;
    let backends = rule.backends.iter().filter(translated);
    let devices = backends.filter_map(|backend| facts.devices.get(&backend.ifindex));
    devices.filter(|device| !sees_answers(facts, device))
}

/// What comes in by a port of a bridge is seen on the bridge, too, where it is meant for this host.
fn sees_answers(facts: &Facts, device: &DeviceFacts) -> bool {
    let master = device.features.master.as_ref();
    let master = master.map(|master| master.ifindex);
    let mut places = [Some(device.features.ifindex), master]
        .into_iter()
        .flatten();
    places.any(|ifindex| facts.attached.contains(&ifindex))
}

fn finding(facts: &Facts, rule: &Rule, device: &DeviceFacts) -> Finding {
    let name = device.name();
    Finding::warning("answers", format!("rule {}", facts.text(&rule.matches)))
        .consequence("clients refuse the answers, which are not translated")
        .evidence(format!(
            "they arrive at {name}, and xdpredir is not attached to it"
        ))
        .remedy(Verb::attach(name))
}

/// How a backend's translated answers get to the clients behind each interface where requests arrive.
pub fn ways(facts: &Facts, rule: &Rule, backend: &Backend) -> Vec<AnswerWay> {
    let is_translated = rule.reply_of(backend) == Reply::Nat;
    let Some(place) = place(facts, backend).filter(|_| is_translated) else {
        return Vec::new();
    };
    let asked = |i: &&InterfaceFacts| {
        rule.matches
            .ingress
            .is_none_or(|wanted| i.ifindex == wanted)
    };
    let way = |client: &InterfaceFacts| AnswerWay {
        ifname: client.name.clone(),
        way: match place.mode == Mode::Native && !client.reachable {
            true => Way::Routed,
            false => Way::Redirected,
        },
    };
    facts.live().filter(asked).map(way).collect()
}

/// The interface where the program sees a backend's answers.
fn place<'a>(facts: &'a Facts, backend: &Backend) -> Option<&'a InterfaceFacts> {
    let master = facts
        .devices
        .get(&backend.ifindex)?
        .features
        .master
        .as_ref();
    let at = |ifindex: u32| {
        let mut all = facts.interfaces.iter();
        all.find(|i| i.ifindex == ifindex && i.state == LinkState::Attached)
    };
    at(backend.ifindex).or_else(|| at(master?.ifindex))
}

/// Answers that this host's stack is to send on, and drops: one finding for each device where they arrive.
pub fn routed(facts: &Facts) -> Vec<Finding> {
    let mut seen = BTreeSet::new();
    let mut findings = Vec::new();
    for rule in &facts.rules {
        for backend in &rule.backends {
            let mut ways = ways(facts, rule, backend).into_iter();
            let Some(routed) = ways.find(|way| way.way == Way::Routed) else {
                continue;
            };
            if let Some((here, (evidence, remedy))) = dropped(facts, backend)
                && seen.insert(here.device.clone())
            {
                let client = &routed.ifname;
                let finding =
                    Finding::warning("answers", format!("rule {}", facts.text(&rule.matches)));
                findings.push(
                    finding
                        .consequence(format!("clients behind {client} get no answers"))
                        .evidence(format!(
                            "{client} takes no frames that are redirected natively, so that this host has to \
                             route the answers, and at {} {evidence}",
                            here.device
                        ))
                        .remedy(remedy),
                );
            }
        }
    }
    findings
}

/// Answers of several segments, which this host's stack is to divide and to send on, and drops: one finding for each
/// device where they arrive. Natively, the kernel has their sender divide them.
pub fn divided(facts: &Facts) -> Vec<Finding> {
    let mut seen = BTreeSet::new();
    let mut findings = Vec::new();
    for rule in &facts.rules {
        let translated = |backend: &&_| rule.reply_of(backend) == Reply::Nat;
        for backend in rule.backends.iter().filter(translated) {
            let found = undivided(facts, rule, backend);
            findings.extend(found.filter(|_| seen.insert(backend.ifindex)));
        }
    }
    findings
}

fn undivided(facts: &Facts, rule: &Rule, backend: &Backend) -> Option<Finding> {
    let place = place(facts, backend).filter(|place| place.mode == Mode::Skb)?;
    // In generic mode nothing else goes that way.
    let outcomes = facts.outcomes.get(&place.ifindex);
    let passed = outcomes.is_some_and(|outcomes| outcomes.packets("answer_passed") > 0);
    let egress = facts.serving(backend.ifindex)?;
    let (large, divide) = segments::of_answers(egress, &rule.matches, passed)?;
    let (here, (evidence, remedy)) = dropped(facts, backend)?;
    Some(
        Finding::warning("answers", format!("rule {}", facts.text(&rule.matches)))
            .consequence("clients get large answers slowly, or not at all")
            .evidence(format!(
                "{large}, so that frames of several segments come, which this host has to route, and at {} {evidence}",
                here.device
            ))
            .remedy(remedy + ", or " + divide),
    )
}

/// Where a backend's translated answers arrive, and why this host does not send them on there.
fn dropped<'a>(
    facts: &'a Facts,
    backend: &Backend,
) -> Option<(&'a ReplyArrival, (String, Remedy))> {
    let known = facts.backends.iter();
    let mut known = known.filter(|b| b.adjacency == backend.adjacency);
    let here = known.find_map(|b| b.answers.as_ref())?;
    Some((here, refused(here)?))
}

/// Why this host does not send translated answers on, which arrive at a device, and what helps.
fn refused(here: &ReplyArrival) -> Option<(String, Remedy)> {
    let (device, Asked { addr, is_own, back }) = (&here.device, here.asked?);
    if !here.forwards {
        return Some(("forwarding is off".into(), forwarding(addr, device).into()));
    }
    if addr.is_ipv6() {
        return None;
    }
    if is_own && !here.accept_local {
        let accept = remedies::of_device(device, "accept_local=1");
        let evidence = format!(
            "{addr}, which is their source, is an address of this host, and accept_local is off"
        );
        return Some((evidence, Tool::new("sysctl -w").arg(accept).into()));
    }
    let mode = here.rp_filter;
    (!is_own && back.is_refused(mode)).then(|| {
        let evidence = format!(
            "rp_filter is {mode}, and the route to {addr}, which is their source, is {back}"
        );
        (evidence, unfiltered(device).into())
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{attach, attached_to, nic, rule};
    use super::*;
    use crate::doctor::facts::{BackendFacts, ReturnRoute};
    use crate::model::{Peer, Proto, Remote, Rewrite};

    #[test]
    fn where_answers_are_not_seen_the_program_is_to_be_attached() {
        let mut facts = attached_to(nic(1), Mode::Skb);
        facts.devices.insert(2, nic(2));
        let mut all = vec![rule(Proto::Udp, 2, Rewrite::default())];
        facts.rules.clone_from(&all);
        assert!(check(&facts).is_empty());

        all[0].reply = Reply::Nat;
        facts.rules = all;
        let [finding] = check(&facts).try_into().expect("one finding");
        assert!(finding.evidence.contains("nic2"));
        attach(&mut facts, nic(2), Mode::Skb);
        assert!(check(&facts).is_empty());
    }

    /// Answers from 203.0.113.7, which arrive at nic2.
    fn arrival() -> ReplyArrival {
        ReplyArrival {
            device: "nic2".into(),
            rp_filter: 0,
            forwards: true,
            accept_local: false,
            back: ReturnRoute::ByArrival,
            asked: Some(Asked {
                addr: [203, 0, 113, 7].into(),
                is_own: false,
                back: ReturnRoute::ByAnother,
            }),
        }
    }

    /// What is said of a host that routes them.
    fn said(change: impl Fn(&mut ReplyArrival, &mut Asked)) -> Option<(String, Remedy)> {
        let mut here = arrival();
        let mut asked = here.asked.expect("an address");
        change(&mut here, &mut asked);
        here.asked = Some(asked);
        let mut facts = attached_to(nic(1), Mode::Native);
        attach(&mut facts, nic(2), Mode::Native);
        let mut rule = rule(Proto::Udp, 2, Rewrite::default());
        rule.reply = Reply::Nat;
        let mut backend = BackendFacts::new(&rule.backends[0]);
        backend.answers = Some(here);
        (facts.rules, facts.backends) = (vec![rule], vec![backend]);
        assert!(routed(&facts).is_empty(), "nic1 takes redirected frames");
        facts.interfaces[0].reachable = false;
        let finding = routed(&facts).pop()?;
        assert!(finding.evidence.starts_with("nic1 takes no frames"));
        Some((finding.evidence, finding.remedy))
    }

    #[test]
    fn a_host_that_is_to_divide_answers_has_to_forward() {
        let said = |mode, tso, proto, forwards| {
            let mut facts = attached_to(nic(1), mode);
            let mut veth = nic(2);
            veth.features.kind = Some("veth".into());
            veth.features.peer = Some(Peer {
                device: Remote::here(3, "eth0"),
                tso: Some(tso),
                tx_udp_segmentation: Some(false),
                ..Peer::default()
            });
            attach(&mut facts, veth, mode);
            let mut rule = rule(proto, 2, Rewrite::default());
            rule.reply = Reply::Nat;
            let mut backend = BackendFacts::new(&rule.backends[0]);
            backend.answers = Some(ReplyArrival {
                forwards,
                ..arrival()
            });
            (facts.rules, facts.backends) = (vec![rule], vec![backend]);
            divided(&facts).pop()
        };
        let found = said(Mode::Skb, true, Proto::Tcp, false).expect("a finding");
        assert!(
            found.evidence.starts_with("TSO is on at eth0"),
            "{}",
            found.evidence
        );
        assert!(
            found.evidence.ends_with("at nic2 forwarding is off"),
            "{}",
            found.evidence
        );
        assert_eq!(said(Mode::Skb, true, Proto::Tcp, true), None);
        assert_eq!(said(Mode::Skb, false, Proto::Tcp, false), None);
        assert_eq!(said(Mode::Skb, true, Proto::Udp, false), None);
        assert_eq!(said(Mode::Native, true, Proto::Tcp, false), None);
    }

    #[test]
    fn a_host_that_is_to_route_answers_has_to_let_them_through() {
        assert_eq!(said(|_, _| ()), None);
        let says = |change: fn(&mut ReplyArrival, &mut Asked), words: &str| {
            let (evidence, _) = said(change).expect("a finding");
            assert!(evidence.contains(words), "{evidence}");
        };
        says(|here, _| here.forwards = false, "forwarding is off");
        says(|here, _| here.rp_filter = 1, "rp_filter is 1");
        says(|_, asked| asked.is_own = true, "accept_local is off");
        assert_eq!(said(|here, _| here.rp_filter = 2), None);
        let accepted = |here: &mut ReplyArrival, asked: &mut Asked| {
            (here.accept_local, asked.is_own) = (true, true);
        };
        assert_eq!(said(accepted), None);
    }
}
