//! Why frames were lost, in words.

use crate::model::{Command, Failures, Loss, Reason, Remedy, Tool};

/// The reasons for which frames were lost at a device.
pub fn reasons(failures: &Failures, device: &str) -> Vec<Reason> {
    let lost = failures;
    let takes_frames = Remedy::from("GRO on at a veth's peer, or a native program on a NIC (")
        + Command::Name("doctor")
        + " names it), or attach in skb mode";
    let set_up = Tool::new("ip link set dev").arg(device).words("up");
    let set_up = Remedy::from(set_up) + ", and the same at a veth's peer";
    let add = Remedy::from(Command::Name("rule add")) + " the backend again";
    let mtu = "raise it, or lower the senders'";
    let queue = "a faster reader, or the same MTU at both ends";
    let number = "the kernel's tracepoint xdp:xdp_redirect_err has its number";
    let all = [
        reason(Loss::NotSupported, lost.not_supported, takes_frames),
        reason(Loss::Mtu, lost.mtu, mtu),
        reason(Loss::LinkDown, lost.link_down, set_up),
        reason(Loss::NoDevice, lost.no_device, add),
        reason(Loss::QueueFull, lost.queue_full, queue),
        reason(Loss::Other, lost.other, number),
    ];
    all.into_iter().filter(|reason| reason.frames > 0).collect()
}

fn reason(loss: Loss, frames: u64, remedy: impl Into<Remedy>) -> Reason {
    let why = match loss {
        Loss::NotSupported => "it, or its peer, takes no redirected frames",
        Loss::Mtu => "longer than its MTU",
        Loss::LinkDown => "it or its peer is down",
        Loss::NoDevice => "it went away",
        Loss::QueueFull => "its queue was full, or its peer's MTU is smaller",
        Loss::Other => "for a reason that is not listed",
    };
    let remedy = remedy.into();
    Reason {
        loss,
        frames,
        why,
        remedy,
    }
}
