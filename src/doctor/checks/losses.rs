//! What the ledger counted.

use super::{link, mtu, targets};
use crate::doctor::facts::{DeviceFacts, Facts};
use crate::model::{Failures, Finding, Loss, Reason};

pub fn check(setup: &Facts) -> Vec<Finding> {
    let lost = setup.losses.iter();
    lost.flat_map(|(ifindex, failures)| of_device(setup, *ifindex, failures))
        .collect()
}

fn of_device(setup: &Facts, ifindex: u32, failures: &Failures) -> Vec<Finding> {
    let link = setup.devices.get(&ifindex);
    let gone = || format!("ifindex {ifindex}");
    let name = link.map_or_else(gone, |link| link.name().into());
    let reasons = failures.reasons(&name).into_iter();
    let lost = reasons.filter(|reason| reason.frames > 0);
    lost.map(|reason| finding(setup, link, &name, reason))
        .collect()
}

fn finding(setup: &Facts, link: Option<&DeviceFacts>, name: &str, reason: Reason) -> Finding {
    let frames = if reason.frames == 1 {
        "frame was"
    } else {
        "frames were"
    };
    let finding = Finding::warning("losses", name).consequence(format!(
        "{} {frames} lost there since the backends were added",
        reason.frames
    ));
    let cause = cause(setup, name, reason.loss);
    if cause.is_none() && may_lack_queues(link, reason.loss) {
        return finding
            .evidence(format!("{}, or not on every CPU", reason.why))
            .mend(format!(
                "nothing, if the count no longer grows; otherwise more queues there (a NIC's: \
                 `ethtool -L {name} combined N`), or attach with --mode skb"
            ));
    }
    if cause.is_none() && is_over(setup, link, reason.loss) {
        return finding
            .evidence(format!("{}: that is over", reason.why))
            .mend("nothing to mend; the count starts anew with a backend that is deleted and added again");
    }
    let mend = cause.map_or(reason.mend, |cause| cause.mend);
    finding.evidence(reason.why).mend(mend)
}

/// What another check finds there, that loses frames so.
fn cause(setup: &Facts, name: &str, loss: Loss) -> Option<Finding> {
    let found = match loss {
        Loss::NotSupported => targets::check(setup),
        Loss::Mtu => mtu::check(setup),
        Loss::LinkDown => link::check(setup),
        Loss::NoDevice | Loss::QueueFull | Loss::Other => Vec::new(),
    };
    found.into_iter().find(|other| other.subject == name)
}

/// Whether its driver may have queues for redirected frames, but fewer than this host has CPUs. A
/// veth has one for all.
fn may_lack_queues(link: Option<&DeviceFacts>, loss: Loss) -> bool {
    let takes = |link: &DeviceFacts| link.features.xdp.redirect_target == Some(true);
    loss == Loss::NotSupported && link.is_some_and(|link| !link.is("veth") && takes(link))
}

/// Whether all is well there by now, as far as no other check finds a cause. False where that can't
/// be told.
fn is_over(setup: &Facts, link: Option<&DeviceFacts>, loss: Loss) -> bool {
    let Some(link) = link else {
        return loss != Loss::NoDevice;
    };
    match loss {
        Loss::NotSupported => takes_all(setup, link),
        Loss::Mtu | Loss::LinkDown => true,
        Loss::NoDevice => link.in_service,
        Loss::QueueFull | Loss::Other => false,
    }
}

/// What comes from native programs; from generic ones, any device takes frames.
fn takes_all(setup: &Facts, link: &DeviceFacts) -> bool {
    let xdp = &link.features.xdp;
    setup.native().all(|interface| {
        xdp.redirect_target == Some(true) && (!interface.frags || xdp.multi_buffer_tx == Some(true))
    })
}
