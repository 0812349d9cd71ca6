//! What the ledger counted.

use super::{Link, Setup, links, mtu};
use crate::model::{Failures, Finding, Loss, Reason};

pub fn check(setup: &Setup) -> Vec<Finding> {
    let lost = setup.losses.iter();
    lost.flat_map(|(ifindex, failures)| of_device(setup, *ifindex, failures))
        .collect()
}

fn of_device(setup: &Setup, ifindex: u32, failures: &Failures) -> Vec<Finding> {
    let link = setup.devices.get(&ifindex);
    let gone = || format!("ifindex {ifindex}");
    let name = link.map_or_else(gone, |link| link.name().into());
    let peer = link.and_then(|link| link.features.peer.as_ref());
    let reasons = failures.reasons(&name, peer.map(|peer| &peer.device));
    let lost = reasons.into_iter().filter(|reason| reason.frames > 0);
    let no_peer = link.is_some() && peer.is_none();
    let finding = |mut reason: Reason| {
        if reason.loss == Loss::NotSupported && no_peer {
            reason.mend = setup.natives_to_skb();
        }
        finding(&name, &reason, is_over(setup, link, reason.loss))
    };
    lost.map(finding).collect()
}

fn finding(name: &str, reason: &Reason, is_over: bool) -> Finding {
    let frames = if reason.frames == 1 {
        "frame was"
    } else {
        "frames were"
    };
    let finding = Finding::warning("losses", name).consequence(format!(
        "{} {frames} lost there since the backends were added",
        reason.frames
    ));
    if is_over {
        return finding
            .evidence(format!("{}: that is over", reason.why))
            .mend("nothing to mend; the count starts anew with a backend that is deleted and added again");
    }
    finding.evidence(reason.why).mend(&reason.mend)
}

/// Whether all is well there by now. False where that can't be told.
fn is_over(setup: &Setup, link: Option<&Link>, loss: Loss) -> bool {
    let Some(link) = link else {
        return loss != Loss::NoDevice;
    };
    let is_fine = |found: Vec<Finding>| found.iter().all(|other| other.subject != link.name());
    match loss {
        Loss::NotSupported => takes_all(setup, link),
        Loss::Mtu => is_fine(mtu::check(setup)),
        Loss::LinkDown => is_fine(links::check(setup)),
        Loss::NoDevice => link.in_service,
        Loss::QueueFull | Loss::Other => false,
    }
}

/// What comes from native programs; from generic ones, any device takes frames.
fn takes_all(setup: &Setup, link: &Link) -> bool {
    let xdp = &link.features.xdp;
    setup.native().all(|interface| {
        xdp.redirect_target == Some(true) && (!interface.frags || xdp.multi_buffer_tx == Some(true))
    })
}
