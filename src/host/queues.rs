//! The queues that devices receive by, as `ethtool -l` has them.

use netlink_packet_core::{NLA_F_NESTED, parse_u32};

use super::device_features::{FAMILY, header};
use super::genetlink::{self, Message};
use crate::model::RxQueues;

/// Linux uapi: linux/ethtool_netlink.h, since 5.7.
const ETHTOOL_MSG_CHANNELS_GET: u8 = 17;
const ETHTOOL_A_CHANNELS_HEADER: u16 = 1;
const ETHTOOL_A_CHANNELS_RX_MAX: u16 = 2;
const ETHTOOL_A_CHANNELS_COMBINED_MAX: u16 = 5;
const ETHTOOL_A_CHANNELS_RX_COUNT: u16 = 6;
const ETHTOOL_A_CHANNELS_COMBINED_COUNT: u16 = 9;

/// None where the kernel doesn't tell, as of a bridge.
pub fn of(device: &str) -> Option<RxQueues> {
    let header = (ETHTOOL_A_CHANNELS_HEADER | NLA_F_NESTED, header(device));
    let answer = genetlink::get(FAMILY, ETHTOOL_MSG_CHANNELS_GET, vec![header]);
    let answer = answer.ok().flatten()?;
    let sum = |rx, combined| number(&answer, rx) + number(&answer, combined);
    Some(RxQueues {
        now: sum(
            ETHTOOL_A_CHANNELS_RX_COUNT,
            ETHTOOL_A_CHANNELS_COMBINED_COUNT,
        ),
        most: sum(ETHTOOL_A_CHANNELS_RX_MAX, ETHTOOL_A_CHANNELS_COMBINED_MAX),
    })
}

/// What a driver doesn't have is left out.
fn number(answer: &Message, attribute: u16) -> u32 {
    let value = answer.attribute(attribute);
    value.and_then(|value| parse_u32(value).ok()).unwrap_or(0)
}
