//! What tc has at a device: the qdisc that filters of arriving and leaving packets need, and these filters.

use anyhow::Result;
use netlink_packet_core::{
    DecodeError, NetlinkDeserializable, NetlinkHeader, NetlinkSerializable, NlasIterator, parse_u32,
};
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::libc::{RTM_GETQDISC, RTM_GETTFILTER, TCA_KIND, TCA_OPTIONS};

use super::netlink::{self, attribute};

/// Linux uapi: linux/rtnetlink.h, linux/pkt_sched.h, linux/pkt_cls.h.
const TCA_CHAIN: u16 = 11;
const TCA_BPF_ID: u16 = 11;
const TC_H_INGRESS: u32 = 0xffff_fff1;
const ARRIVING: u32 = 0xffff_fff2;
const LEAVING: u32 = 0xffff_fff3;
const ETH_P_ALL: u16 = 3;
/// struct tcmsg: family, three bytes of padding, ifindex, handle, parent, info.
const HEADER: usize = 20;

/// A filter of packets that arrive.
pub struct Filter {
    pub priority: u16,
    pub handle: u32,
    /// The id of its program, where it is one of BPF.
    pub program: Option<u32>,
    /// The filters of one priority are of one kind and one protocol.
    pub is_bpf_for_all: bool,
    /// Packets come to the others only from a filter.
    pub is_of_first_chain: bool,
}

/// The filters of packets that arrive at a device.
pub fn arriving(ifindex: u32) -> Result<Vec<Filter>> {
    let found = dump(RTM_GETTFILTER, ifindex, ARRIVING)?;
    Ok(found.iter().map(Message::filter).collect())
}

/// Whether a device has filters of packets that arrive or leave.
pub fn has_filters(ifindex: u32) -> Result<bool> {
    for parent in [ARRIVING, LEAVING] {
        if !dump(RTM_GETTFILTER, ifindex, parent)?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a device has the qdisc that such filters need.
pub fn has_qdisc(ifindex: u32) -> Result<bool> {
    // The kernel tells those of all devices.
    let mut all = dump(RTM_GETQDISC, ifindex, 0)?.into_iter();
    Ok(all.any(|found| found.ifindex == ifindex && found.parent == TC_H_INGRESS))
}

fn dump(kind: u16, ifindex: u32, parent: u32) -> Result<Vec<Message>> {
    netlink::dump(Message {
        kind,
        ifindex,
        parent,
        ..Message::default()
    })
}

/// Any message of tc. What is unknown in it hides no filter.
#[derive(Default)]
struct Message {
    kind: u16,
    ifindex: u32,
    handle: u32,
    parent: u32,
    info: u32,
    attributes: Vec<(u16, Vec<u8>)>,
}

impl Message {
    fn attribute(&self, wanted: u16) -> Option<&[u8]> {
        attribute(&self.attributes, wanted)
    }

    fn filter(&self) -> Filter {
        let is_bpf = self.attribute(TCA_KIND) == Some(b"bpf\0");
        let options = self.attribute(TCA_OPTIONS).filter(|_| is_bpf);
        let options = attributes(options.unwrap_or_default());
        let number = |bytes: &[u8]| parse_u32(bytes).ok();
        let protocol = u16::from_be((self.info & 0xffff) as u16);
        Filter {
            priority: (self.info >> 16) as u16,
            handle: self.handle,
            program: attribute(&options, TCA_BPF_ID).and_then(number),
            is_bpf_for_all: is_bpf && protocol == ETH_P_ALL,
            is_of_first_chain: self.attribute(TCA_CHAIN).and_then(number).unwrap_or(0) == 0,
        }
    }
}

fn attributes(bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let readable = NlasIterator::new(bytes).map_while(Result::ok);
    readable
        .map(|nla| (nla.kind(), nla.value().to_vec()))
        .collect()
}

impl netlink::Message for Message {
    const PROTOCOL: isize = NETLINK_ROUTE;
}

impl NetlinkSerializable for Message {
    fn message_type(&self) -> u16 {
        self.kind
    }

    fn buffer_len(&self) -> usize {
        HEADER
    }

    fn serialize(&self, buffer: &mut [u8]) {
        let words = [0, self.ifindex, self.handle, self.parent, self.info];
        for (bytes, word) in buffer.chunks_exact_mut(4).zip(words) {
            bytes.copy_from_slice(&word.to_ne_bytes());
        }
    }
}

impl NetlinkDeserializable for Message {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        let word = |number: usize| {
            parse_u32(
                payload
                    .get(4 * number..)
                    .unwrap_or_default()
                    .get(..4)
                    .unwrap_or_default(),
            )
        };
        Ok(Message {
            kind: header.message_type,
            ifindex: word(1)?,
            handle: word(2)?,
            parent: word(3)?,
            info: word(4)?,
            attributes: attributes(&payload[HEADER..]),
        })
    }
}
