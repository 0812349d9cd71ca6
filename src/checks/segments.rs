//! TCP in generic mode.

use super::Setup;
use crate::model::{Finding, Mode, Proto};

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
            .mend("`ethtool -K DEV tso off gso off` at the sender")
    })
    .collect()
}
