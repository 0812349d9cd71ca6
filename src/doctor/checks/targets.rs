//! Egress devices that take no frames from native programs, or none in several buffers.

use super::remedies;
use crate::doctor::facts::{BackendFacts, DeviceFacts, Facts};
use crate::model::{Backend, FeatureSource, Finding, Fix, Mode, Peer, Rule};

pub fn check(setup: &Facts) -> Vec<Finding> {
    if setup.native().next().is_none() {
        return Vec::new();
    }
    let takes_none = setup.egress().filter_map(|link| finding(setup, link));
    takes_none.chain(multi_buffer(setup)).collect()
}

/// Of devices that take frames in one buffer.
fn multi_buffer(setup: &Facts) -> impl Iterator<Item = Finding> {
    let from = setup.native().find(|interface| interface.frags);
    let one_alone = |link: &&DeviceFacts| {
        let xdp = &link.features.xdp;
        xdp.redirect_target == Some(true) && xdp.multi_buffer_tx == Some(false)
    };
    let links = setup.egress().filter(one_alone);
    links.filter_map(move |link| {
        let from = &from?.name;
        let finding = Finding::problem("multi-buffer", link.name())
            .consequence(format!(
                "long frames that {from} redirects to it in native mode are lost"
            ))
            .evidence("they lie in several buffers, and it takes none such (NDO_XMIT_SG)")
            .mend(format!(
                "{}, or give {from} an MTU whose frames fit one buffer",
                remedies::reattach(from, " --mode skb")
            ));
        Some(finding)
    })
}

/// None where the device takes frames. Not to know it is no yes.
fn finding(setup: &Facts, link: &DeviceFacts) -> Option<Finding> {
    let takes = link.features.xdp.redirect_target;
    let names = setup.native_names();
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
            Finding::problem(id(link), link.name()).consequence(format!("{what} is lost"))
        }
        None => Finding::warning(id(link), link.name()).consequence(format!("{what} may be lost")),
    };
    let (evidence, mend, fix) = match &link.features.peer {
        Some(peer) if link.is("veth") => of_veth(setup, link, peer),
        _ => of_driver(setup, link),
    };
    Some(finding.evidence(evidence).mend(mend).fix(fix))
}

fn id(link: &DeviceFacts) -> &'static str {
    if link.is("veth") && link.features.peer.is_some() {
        "peer-napi"
    } else {
        "redirect-target"
    }
}

fn of_veth(setup: &Facts, link: &DeviceFacts, peer: &Peer) -> (String, String, Option<Fix>) {
    let mend = format!("{}, or {}", gro_on(peer), remedies::natives_to_skb(setup));
    (lacking(peer) + guess(link), mend, gro(peer))
}

fn of_driver(setup: &Facts, link: &DeviceFacts) -> (String, String, Option<Fix>) {
    let skb = remedies::natives_to_skb(setup);
    let driver = driver(link);
    let evidence = match link.features.xdp.redirect_target {
        Some(_) => format!(
            "its driver {driver} takes no redirected frames (NDO_XMIT){}",
            guess(link)
        ),
        None => {
            format!("this kernel doesn't tell whether its driver {driver} takes redirected frames")
        }
    };
    if let Some(below) = by_device_below(setup, link) {
        return (evidence, format!("{below}, or {skb}"), None);
    }
    let Some(attach) = attach_there(setup, link) else {
        return (evidence, skb, None);
    };
    let evidence = format!("{evidence}; some drivers do while an XDP program runs there");
    (evidence, format!("{attach}, or {skb}"), None)
}

fn guess(link: &DeviceFacts) -> &'static str {
    match (link.features.xdp.redirect_target, link.features.xdp.source) {
        (Some(_), FeatureSource::Guess) => ", as far as can be told on this kernel",
        _ => "",
    }
}

/// A command that has the program run there too, where the driver may then take frames: it runs XDP, as
/// far as is known, and no program yet. A tap wants none.
fn attach_there(setup: &Facts, link: &DeviceFacts) -> Option<String> {
    if link.features.xdp.redirect == Some(false) || link.is("tun") {
        return None;
    }
    let (name, ifindex) = (link.name(), link.features.ifindex);
    let mut interfaces = setup.interfaces.iter();
    match interfaces.find(|interface| interface.ifindex == ifindex) {
        Some(interface) if interface.mode == Mode::Native => None,
        Some(_) => Some(remedies::reattach(name, " --mode native")),
        None if setup.attached.contains(&ifindex) => None,
        None => Some(format!("`xdpredir attach {name} --mode native` too")),
    }
}

/// The rule for the device below, where that takes what native programs redirect to it.
fn by_device_below(setup: &Facts, link: &DeviceFacts) -> Option<String> {
    let on = link.features.ifindex;
    let uses = |rule: &&Rule| rule.backends.iter().any(|backend| backend.ifindex == on);
    let mut rules = setup.rules.iter().filter(uses);
    let rule = rules.next()?;
    let mut backends = rule.backends.iter().filter(|backend| backend.ifindex == on);
    let backend = backends.next()?;
    let (lower, tag) = below(setup, link, rule, backend)?;
    if setup.below.get(&lower)?.xdp.redirect_target != Some(true) {
        return None;
    }
    let lower = &setup.below.get(&lower)?.ifname;
    let words = remedies::words(&rule.matches);
    let others = match rules.count() + backends.count() {
        0 => "",
        _ => ", and so for its other backends there",
    };
    Some(format!(
        "`xdpredir rule add {words} --server {} --dev {lower}{tag}`{others}",
        backend.server
    ))
}

/// The device that a backend can be reached by instead, and the tag that its packets need there. What
/// is rewritten is said again where something of it is said.
fn below(
    setup: &Facts,
    link: &DeviceFacts,
    rule: &Rule,
    backend: &Backend,
) -> Option<(u32, String)> {
    if link.is("bridge") {
        let is_it = |target: &&BackendFacts| {
            (target.server, target.ifindex, target.mac)
                == (backend.server, backend.ifindex, backend.mac)
        };
        let target = setup.backends.iter().find(is_it)?;
        return Some((target.port?, String::new()));
    }
    let lower = link.features.lower.as_ref();
    let lower = lower.filter(|lower| lower.nsid.is_none())?.ifindex;
    match link.features.vlan {
        None => Some((lower, String::new())),
        Some(_) if backend.rewrite.push_vlan.is_some() => None,
        Some(vlan) => {
            let rewriting = remedies::rewriting(rule, &backend.rewrite);
            Some((lower, format!(" --push-vlan {vlan}{rewriting}")))
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

fn gro_on(peer: &Peer) -> String {
    let device = &peer.device;
    let gro = |word| device.command(&format!("ethtool -K {} gro {word}", device.name()));
    match peer.gro {
        Some(true) => format!("{} and then `gro on`", gro("off")),
        _ => gro("on"),
    }
}

fn gro(peer: &Peer) -> Option<Fix> {
    let device = Some(&peer.device).filter(|device| device.is_within_reach())?;
    (peer.gro == Some(false)).then(|| Fix::Gro(device.clone()))
}

fn driver(link: &DeviceFacts) -> &str {
    link.features.driver.as_deref().unwrap_or("(none)")
}

#[cfg(test)]
mod tests {
    use super::super::testing::{attached, nic, redirecting, rule, vlan};
    use super::*;
    use crate::model::{Proto, Rewrite, Severity, VlanId};

    /// The remedy for a backend by a VLAN device.
    fn remedy(lower_takes: bool, rewrite: Rewrite) -> String {
        let mut lower = nic(1);
        lower.features.xdp.redirect_target = Some(lower_takes);
        let (upper, from) = (vlan(2, &lower), nic(3));
        let mut setup = Facts::default();
        setup.interfaces.push(attached(&from, Mode::Native));
        setup.rules.push(rule(Proto::Udp, 2, rewrite));
        setup.below.insert(1, lower.features);
        by_device_below(&setup, &upper).unwrap_or_default()
    }

    #[test]
    fn a_vlan_s_frames_go_by_the_device_below_with_their_tag() {
        let keep_ip = Rewrite {
            keep_ip: true,
            ..Rewrite::default()
        };
        assert_eq!(
            remedy(true, keep_ip),
            "`xdpredir rule add --src 0.0.0.0/0 --proto udp --port 7999 --server 10.0.0.2 --dev nic1 --push-vlan 100 --keep-ip`"
        );
        assert_eq!(remedy(false, keep_ip), "");
        let pushes = Rewrite {
            push_vlan: VlanId::new(7),
            ..Rewrite::default()
        };
        assert_eq!(remedy(true, pushes), "");
    }

    /// Of a NIC that takes frames or not, natively redirected to.
    fn found(takes: Option<bool>, redirect: Option<bool>) -> (Facts, Vec<Finding>) {
        let mut egress = nic(2);
        egress.features.xdp.redirect_target = takes;
        egress.features.xdp.redirect = redirect;
        let setup = redirecting(nic(1), egress);
        let findings = check(&setup);
        (setup, findings)
    }

    #[test]
    fn a_nic_that_may_want_a_program_is_to_be_attached_first() {
        assert!(found(Some(true), Some(true)).1.is_empty());
        let (mut setup, findings) = found(Some(false), Some(true));
        assert_eq!(findings[0].severity, Severity::Problem);
        let mend = "`xdpredir attach nic2 --mode native` too, or `xdpredir detach nic1 ";
        assert!(findings[0].mend.starts_with(mend), "{}", findings[0].mend);

        let there = attached(&nic(2), Mode::Skb);
        setup.interfaces.push(there);
        let mend = &check(&setup)[0].mend;
        assert!(
            mend.starts_with("`xdpredir detach nic2 --keep-rules && "),
            "{mend}"
        );
        setup.interfaces[1].mode = Mode::Native;
        let mend = &check(&setup)[0].mend;
        assert!(!mend.contains("attach nic2 --mode native"), "{mend}");
    }

    #[test]
    fn a_device_without_xdp_is_for_generic_mode() {
        let (_, findings) = found(Some(false), Some(false));
        assert!(findings[0].mend.starts_with("`xdpredir detach nic1 "));
    }

    #[test]
    fn not_to_know_whether_a_device_takes_frames_is_no_yes() {
        for redirect in [None, Some(true)] {
            let (_, findings) = found(None, redirect);
            assert_eq!(findings[0].check, "redirect-target");
            assert_eq!(findings[0].severity, Severity::Warning);
            assert!(findings[0].consequence.ends_with("may be lost"));
            assert!(
                findings[0]
                    .mend
                    .contains("attach nic2 --mode native` too, or ")
            );
            assert!(findings[0].mend.ends_with("--mode skb`"));
        }
    }
}
