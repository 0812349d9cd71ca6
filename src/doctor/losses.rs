//! Why frames were lost, in words.

use crate::model::{Command, Failures, Loss, Reason, Remedy, Tool};

/// The reasons for which frames were lost at a device.
pub fn reasons(failures: &Failures, device: &str) -> Vec<Reason> {
    let takes_frames =
        Remedy::from("GRO on at a veth's peer, or a native program there or on a NIC (")
            + Command::Name("doctor")
            + " names it), or attach in skb mode";
    let set_up = Tool::new("ip link set dev").arg(device).words("up");
    let set_up = Remedy::from(set_up) + ", and the same at a veth's peer";
    let add = Remedy::from(Command::Name("rule add")) + " the backend again";
    let mtu = "raise it, or lower the senders'";
    let queue = "a faster reader, or the same MTU at both ends";
    let look_up = "look that error up in the device's driver, or attach in skb mode";
    let all: [(Loss, Remedy); 6] = [
        (Loss::NotSupported, takes_frames),
        (Loss::Mtu, mtu.into()),
        (Loss::LinkDown, set_up),
        (Loss::NoDevice, add),
        (Loss::QueueFull, queue.into()),
        (Loss::Other, look_up.into()),
    ];
    let reasons = all
        .into_iter()
        .map(|(loss, remedy)| reason(failures, loss, remedy));
    reasons.filter(|reason| reason.frames > 0).collect()
}

fn reason(failures: &Failures, loss: Loss, remedy: Remedy) -> Reason {
    let why = match loss {
        Loss::NotSupported => "it, or its peer, takes no redirected frames",
        Loss::Mtu => "longer than its MTU",
        Loss::LinkDown => "it or its peer is down",
        Loss::NoDevice => "it went away",
        Loss::QueueFull => "its queue was full, or its peer's MTU is smaller",
        Loss::Other => "for a reason that is not listed",
    };
    let errors = failures.errors.get(&loss).into_iter();
    Reason {
        loss,
        frames: failures.frames(loss),
        why,
        errors: errors.flat_map(|errors| errors.keys().cloned()).collect(),
        remedy,
    }
}
