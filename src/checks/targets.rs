//! Egress devices that take no frames from native programs, or none in several buffers.

use super::{Link, Setup, Target, mends};
use crate::model::{Backend, Finding, Fix, Peer, Rule, Source};

pub fn check(setup: &Setup) -> Vec<Finding> {
    if setup.native().next().is_none() {
        return Vec::new();
    }
    let refuses = |link: &&Link| link.features.xdp.redirect_target == Some(false);
    let refused = setup.egress().filter(refuses);
    let refused = refused.map(|link| finding(setup, link));
    refused.chain(multi_buffer(setup)).collect()
}

/// Of devices that take frames in one buffer.
fn multi_buffer(setup: &Setup) -> impl Iterator<Item = Finding> {
    let from = setup.native().find(|interface| interface.frags);
    let one_alone = |link: &&Link| {
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
                mends::reattach(from, " --mode skb")
            ));
        Some(finding)
    })
}

fn finding(setup: &Setup, link: &Link) -> Finding {
    let natives = setup.native_names();
    let skb = mends::natives_to_skb(setup);
    let guess = match link.features.xdp.source {
        Source::Kernel => "",
        Source::Guess => ", as far as can be told on this kernel",
    };
    let (check, evidence, mend, fix) = match &link.features.peer {
        Some(peer) if link.is("veth") => (
            "peer-napi",
            lacking(peer),
            format!("{}, or {skb}", gro_on(peer)),
            gro(peer),
        ),
        _ => (
            "redirect-target",
            format!(
                "its driver {} takes no redirected frames (NDO_XMIT)",
                driver(link)
            ),
            match by_device_below(setup, link) {
                Some(better) => format!("{better}, or {skb}"),
                None => skb,
            },
            None,
        ),
    };
    let redirect = if natives.len() > 1 {
        "redirect"
    } else {
        "redirects"
    };
    let natives = natives.join(" and ");
    Finding::problem(check, link.name())
        .consequence(format!(
            "what {natives} {redirect} to it in native mode is lost"
        ))
        .evidence(format!("{evidence}{guess}"))
        .mend(mend)
        .fix(fix)
}

/// The rule for the device below, where that takes what native programs redirect to it.
fn by_device_below(setup: &Setup, link: &Link) -> Option<String> {
    let on = link.features.ifindex;
    let uses = |rule: &&Rule| rule.backends.iter().any(|backend| backend.ifindex == on);
    let mut rules = setup.rules.iter().filter(uses);
    let rule = rules.next()?;
    let mut backends = rule.backends.iter().filter(|backend| backend.ifindex == on);
    let backend = backends.next()?;
    let (lower, tag) = below(setup, link, backend)?;
    if setup.below.get(&lower)?.xdp.redirect_target != Some(true) {
        return None;
    }
    let lower = &setup.below.get(&lower)?.ifname;
    let words = mends::words(&rule.matches);
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
fn below(setup: &Setup, link: &Link, backend: &Backend) -> Option<(u32, String)> {
    if link.is("bridge") {
        let is_it = |target: &&Target| {
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
            let rewriting = mends::rewriting(&backend.rewrite);
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

fn driver(link: &Link) -> &str {
    link.features.driver.as_deref().unwrap_or("(none)")
}

#[cfg(test)]
mod tests {
    use super::super::testing::{ingress, nic, rule, vlan};
    use super::*;
    use crate::model::{Mode, Proto, Rewrite};

    /// The remedy for a backend by a VLAN device.
    fn remedy(lower_takes: bool, rewrite: Rewrite) -> String {
        let mut lower = nic(1);
        lower.features.xdp.redirect_target = Some(lower_takes);
        let (upper, from) = (vlan(2, &lower), nic(3));
        let mut setup = Setup::default();
        setup.interfaces.push(ingress(&from, Mode::Native));
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
            push_vlan: Some(7),
            ..Rewrite::default()
        };
        assert_eq!(remedy(true, pushes), "");
    }
}
