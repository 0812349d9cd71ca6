//! TCP in generic mode.

use super::{Link, Setup};
use crate::model::{Finding, Mode, Proto, Remote};

pub fn check(setup: &Setup) -> Vec<Finding> {
    let tcp = |target: &super::Target| target.protos.contains(&Proto::Tcp);
    if !setup.backends.iter().any(tcp) {
        return Vec::new();
    }
    let skb = setup.live().filter(|i| i.mode == Mode::Skb);
    skb.map(|interface| {
        Finding::warning("segments", &interface.name)
            .consequence("what a local sender hands over as one large TCP segment is not redirected, and passes")
            .evidence("in skb mode it arrives undivided (TSO, GSO), longer than any device carries")
            .mend(undivided(setup.devices.get(&interface.ifindex).and_then(Link::peer)))
    })
    .collect()
}

fn undivided(sender: Option<&Remote>) -> String {
    let off = |device: &str| format!("ethtool -K {device} tso off gso off");
    match sender {
        Some(sender) => sender.command(&off(&sender.name())),
        None => format!("`{}` at the sender", off("DEV")),
    }
}
