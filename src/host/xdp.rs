//! What drivers can do with XDP, as the kernel tells it.

use std::collections::HashMap;

use anyhow::Result;
use netlink_packet_core::{parse_u32, parse_u64};

use super::genetlink::{self, Message};
use crate::model::{FeatureSource, XdpFeatures};

/// Linux uapi: linux/netdev.h, since 6.3.
const FAMILY: &str = "netdev";
const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;

const NETDEV_XDP_ACT_BASIC: u64 = 1;
const NETDEV_XDP_ACT_REDIRECT: u64 = 2;
const NETDEV_XDP_ACT_NDO_XMIT: u64 = 4;
const NETDEV_XDP_ACT_XSK_ZEROCOPY: u64 = 8;
const NETDEV_XDP_ACT_RX_SG: u64 = 32;
const NETDEV_XDP_ACT_NDO_XMIT_SG: u64 = 64;

/// Whether this kernel (6.3) tells. One that doesn't redirects no frame in several buffers natively, to
/// no device: it drops them before any tracepoint.
pub fn is_reported() -> Result<bool> {
    Ok(genetlink::family(FAMILY)?.is_some())
}

/// The features of one device; None where this kernel (before 6.3) doesn't tell.
pub fn of(ifindex: u32) -> Result<Option<XdpFeatures>> {
    let ifindex = (NETDEV_A_DEV_IFINDEX, ifindex.to_ne_bytes().to_vec());
    let answer = genetlink::get(FAMILY, NETDEV_CMD_DEV_GET, vec![ifindex])?;
    Ok(answer.as_ref().and_then(read).map(|(_, features)| features))
}

/// The features of all devices of this namespace, by ifindex; None where this kernel doesn't tell.
pub fn all() -> Result<Option<HashMap<u32, XdpFeatures>>> {
    let answers = genetlink::dump(FAMILY, NETDEV_CMD_DEV_GET)?;
    Ok(answers.map(|answers| answers.iter().filter_map(read).collect()))
}

fn read(answer: &Message) -> Option<(u32, XdpFeatures)> {
    let ifindex = parse_u32(answer.attribute(NETDEV_A_DEV_IFINDEX)?).ok()?;
    let bits = parse_u64(answer.attribute(NETDEV_A_DEV_XDP_FEATURES)?).ok()?;
    Some((ifindex, features(bits)))
}

fn features(bits: u64) -> XdpFeatures {
    let has = |bit| Some(bits & bit != 0);
    XdpFeatures {
        source: FeatureSource::Kernel,
        native: has(NETDEV_XDP_ACT_BASIC),
        redirect: has(NETDEV_XDP_ACT_REDIRECT),
        redirect_target: has(NETDEV_XDP_ACT_NDO_XMIT),
        multi_buffer_rx: has(NETDEV_XDP_ACT_RX_SG),
        multi_buffer_tx: has(NETDEV_XDP_ACT_NDO_XMIT_SG),
        zero_copy: has(NETDEV_XDP_ACT_XSK_ZEROCOPY),
    }
}
