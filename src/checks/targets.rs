//! Egress devices that take no frames from native programs, or none in several buffers.

use super::{Link, Setup, mends};
use crate::model::{Finding, Fix, Mode, Peer, Source};

pub fn check(setup: &Setup) -> Vec<Finding> {
    if setup.native().next().is_none() {
        return Vec::new();
    }
    let takes_none = setup.egress().filter_map(|link| finding(setup, link));
    takes_none.chain(multi_buffer(setup)).collect()
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

/// None where the device takes frames. Not to know it is no yes.
fn finding(setup: &Setup, link: &Link) -> Option<Finding> {
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

fn id(link: &Link) -> &'static str {
    if link.is("veth") && link.features.peer.is_some() {
        "peer-napi"
    } else {
        "redirect-target"
    }
}

fn of_veth(setup: &Setup, link: &Link, peer: &Peer) -> (String, String, Option<Fix>) {
    let mend = format!("{}, or {}", gro_on(peer), mends::natives_to_skb(setup));
    (lacking(peer) + guess(link), mend, gro(peer))
}

fn of_driver(setup: &Setup, link: &Link) -> (String, String, Option<Fix>) {
    let skb = mends::natives_to_skb(setup);
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
    let Some(attach) = attach_there(setup, link) else {
        return (evidence, skb, None);
    };
    let evidence = format!("{evidence}; some drivers do while an XDP program runs there");
    (evidence, format!("{attach}, or {skb}"), None)
}

fn guess(link: &Link) -> &'static str {
    match (link.features.xdp.redirect_target, link.features.xdp.source) {
        (Some(_), Source::Guess) => ", as far as can be told on this kernel",
        _ => "",
    }
}

/// A command that has the program run there too, where the driver may then take frames: it runs XDP, as
/// far as is known, and no program yet. A tap wants none.
fn attach_there(setup: &Setup, link: &Link) -> Option<String> {
    if link.features.xdp.redirect == Some(false) || link.is("tun") {
        return None;
    }
    let (name, ifindex) = (link.name(), link.features.ifindex);
    let mut interfaces = setup.interfaces.iter();
    match interfaces.find(|interface| interface.ifindex == ifindex) {
        Some(interface) if interface.mode == Mode::Native => None,
        Some(_) => Some(mends::reattach(name, " --mode native")),
        None if setup.attached.contains(&ifindex) => None,
        None => Some(format!("`xdpredir attach {name} --mode native` too")),
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
    use super::super::testing::{attached, nic, redirecting};
    use super::*;
    use crate::model::Severity;

    /// Of a NIC that takes frames or not, natively redirected to.
    fn found(takes: Option<bool>, redirect: Option<bool>) -> (Setup, Vec<Finding>) {
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
