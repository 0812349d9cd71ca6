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
            .consequence("a local sender's TCP segments are not redirected, and pass")
            .evidence("in skb mode they arrive in bundles that no device carries")
            .mend("`ethtool -K DEV tso off gso off` at the sender")
    })
    .collect()
}
