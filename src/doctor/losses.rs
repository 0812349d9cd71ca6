//! Why frames were lost, in words.

use crate::model::{Command, Failures, Loss, Reason, Remedy, Tool};

/// The reasons for which frames were lost at a device.
pub fn reasons(failures: &Failures, device: &str) -> Vec<Reason> {
    let up = Tool::new("ip link set dev").arg(device).words("up");
    let all: [(Loss, u64, &str, Remedy); 6] = [
        (
            Loss::NotSupported,
            failures.not_supported,
            "it, or its peer, takes no redirected frames",
            Remedy::from("GRO on at a veth's peer, or a native program on a NIC (")
                + Command::Name("doctor")
                + " names it), or attach in skb mode",
        ),
        (
            Loss::Mtu,
            failures.mtu,
            "longer than its MTU",
            "raise it, or lower the senders'".into(),
        ),
        (
            Loss::LinkDown,
            failures.link_down,
            "it or its peer is down",
            Remedy::from(up) + ", and the same at a veth's peer",
        ),
        (
            Loss::NoDevice,
            failures.no_device,
            "it went away",
            Remedy::from(Command::Name("rule add")) + " the backend again",
        ),
        (
            Loss::QueueFull,
            failures.queue_full,
            "its queue was full, or its peer's MTU is smaller",
            "a faster reader, or the same MTU at both ends".into(),
        ),
        (
            Loss::Other,
            failures.other,
            "for a reason that is not listed",
            "the kernel's tracepoint xdp:xdp_redirect_err has its number".into(),
        ),
    ];
    let reason = |(loss, frames, why, remedy)| Reason {
        loss,
        frames,
        why,
        remedy,
    };
    let lost = all.into_iter().filter(|(_, frames, ..)| *frames > 0);
    lost.map(reason).collect()
}
