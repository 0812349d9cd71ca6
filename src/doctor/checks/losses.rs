//! What the ledger counted.

use super::{link, mtu, multi_buffer, peer_mtu, redirect_target, remedies};
use crate::doctor::facts::{DeviceFacts, Facts};
use crate::doctor::losses;
use crate::model::{Failures, Finding, Loss, Reason, Remedy, Tool};

pub fn check(facts: &Facts) -> Vec<Finding> {
    let lost = facts.losses.iter();
    lost.flat_map(|(ifindex, failures)| of_device(facts, *ifindex, failures))
        .collect()
}

fn of_device(facts: &Facts, ifindex: u32, failures: &Failures) -> Vec<Finding> {
    let device = facts.devices.get(&ifindex);
    let gone = || format!("ifindex {ifindex}");
    let name = device.map_or_else(gone, |device| device.name().into());
    let reasons = losses::reasons(failures, &name).into_iter();
    reasons
        .map(|reason| finding(facts, device, &name, reason))
        .collect()
}

fn finding(facts: &Facts, device: Option<&DeviceFacts>, name: &str, reason: Reason) -> Finding {
    let frames = if reason.frames == 1 {
        "frame was"
    } else {
        "frames were"
    };
    let finding = Finding::warning("losses", name).consequence(format!(
        "{} {frames} lost there since the backends were added",
        reason.frames
    ));
    let cause = cause(facts, device, reason.loss);
    if cause.is_none() && may_lack_queues(device, reason.loss) {
        return finding
            .evidence(format!("{}, or not on every CPU", reason.evidence()))
            .remedy(
                Remedy::from(
                    "nothing, if the count no longer grows; otherwise more queues there (a NIC's: ",
                ) + Tool::new("ethtool -L").arg(name).words("combined N")
                    + "), or "
                    + to_skb(facts),
            );
    }
    if cause.is_none() && is_over(facts, device, reason.loss) {
        return finding
            .evidence(format!("{}: the cause is gone", reason.evidence()))
            .remedy("nothing to do; to reset the count, delete the backend and add it again");
    }
    let evidence = reason.evidence();
    let remedy = cause.map_or(reason.remedy, |cause| cause.remedy);
    finding.evidence(evidence).remedy(remedy)
}

/// What was lost natively may have been lost by interfaces that are in generic mode by now.
fn to_skb(facts: &Facts) -> Remedy {
    match facts.native().next() {
        Some(_) => remedies::natives_to_skb(facts),
        None => "attach in skb mode".into(),
    }
}

/// What another check finds there, that loses frames so.
fn cause(facts: &Facts, device: Option<&DeviceFacts>, loss: Loss) -> Option<Finding> {
    let device = device.filter(|device| device.in_service)?;
    match loss {
        Loss::NotSupported => {
            redirect_target::check(facts, device).or_else(|| multi_buffer::check(facts, device))
        }
        Loss::Mtu => mtu::check(facts, device).or_else(|| peer_mtu::check(facts, device)),
        Loss::LinkDown => link::finding(device),
        Loss::NoDevice | Loss::QueueFull | Loss::Other => None,
    }
}

/// Whether its driver may have queues for redirected frames, but fewer than this host has CPUs. A
/// veth has one for all.
fn may_lack_queues(device: Option<&DeviceFacts>, loss: Loss) -> bool {
    let takes = |device: &DeviceFacts| device.features.xdp.redirect_target == Some(true);
    loss == Loss::NotSupported && device.is_some_and(|device| !device.is("veth") && takes(device))
}

/// Whether all is well there by now, as far as no other check finds a cause. False where that can't
/// be told.
fn is_over(facts: &Facts, device: Option<&DeviceFacts>, loss: Loss) -> bool {
    let Some(device) = device else {
        return loss != Loss::NoDevice;
    };
    match loss {
        Loss::NotSupported => takes_all(facts, device),
        Loss::Mtu | Loss::LinkDown => true,
        Loss::NoDevice => device.in_service,
        Loss::QueueFull | Loss::Other => false,
    }
}

/// What comes from native programs; from generic ones, any device takes frames.
fn takes_all(facts: &Facts, device: &DeviceFacts) -> bool {
    let xdp = &device.features.xdp;
    facts.native().all(|interface| {
        xdp.redirect_target == Some(true) && (!interface.frags || xdp.multi_buffer_tx == Some(true))
    })
}
