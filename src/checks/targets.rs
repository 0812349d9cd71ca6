//! Egress devices that take no frames from native programs.

use super::{Link, Setup};
use crate::model::{Finding, Fix, Peer, Source};

pub fn check(setup: &Setup) -> Vec<Finding> {
    if setup.native().next().is_none() {
        return Vec::new();
    }
    let refuses = |link: &&Link| link.features.xdp.redirect_target == Some(false);
    let natives = setup.native_names();
    setup
        .egress()
        .filter(refuses)
        .map(|link| finding(link, &natives))
        .collect()
}

fn finding(link: &Link, natives: &str) -> Finding {
    let guess = match link.features.xdp.source {
        Source::Kernel => "",
        Source::Guess => ", as far as can be told on this kernel",
    };
    let (check, evidence, mend, fix) = match &link.features.peer {
        Some(peer) if link.is("veth") => (
            "peer-napi",
            format!(
                "its peer {} has neither GRO nor a native XDP program",
                peer.device
            ),
            format!(
                "`ethtool -K {} gro on` there, or attach {natives} with --mode skb",
                peer.device.name()
            ),
            gro(peer),
        ),
        _ => (
            "redirect-target",
            format!(
                "its driver {} takes no redirected frames (NDO_XMIT)",
                driver(link)
            ),
            format!("attach {natives} with --mode skb"),
            None,
        ),
    };
    Finding::problem(check, link.name())
        .consequence(format!(
            "what {natives} redirects to it in native mode is lost"
        ))
        .evidence(format!("{evidence}{guess}"))
        .mend(mend)
        .fix(fix)
}

fn gro(peer: &Peer) -> Option<Fix> {
    let device = Some(&peer.device).filter(|device| device.is_within_reach())?;
    (peer.gro == Some(false)).then(|| Fix::Gro(device.clone()))
}

fn driver(link: &Link) -> &str {
    link.features.driver.as_deref().unwrap_or("(none)")
}
