//! A frame that a request describes by its headers.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use etherparse::{
    IpHeaders, IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, PacketBuilder, TcpHeader,
};

use crate::error::{Exit, failure};
use crate::model::{Mac, Proto, VlanId};

/// The payload of a frame whose length is not given.
const PAYLOAD: usize = 8;
/// An Ethernet header, two tags, an IPv6 header, and as much as IP can say that follows.
const LONGEST: usize = 14 + 2 * 4 + 40 + u16::MAX as usize;
/// Where a frame comes from whose sender is not given: locally administered (IEEE 802).
const SENDER: Mac = Mac([2, 0, 0, 0, 0, 1]);

/// A frame, all of whose checksums are right.
#[derive(Clone, Debug)]
pub struct FrameSpec {
    /// None: any.
    pub src_mac: Option<Mac>,
    /// None: that of the interface.
    pub dst_mac: Option<Mac>,
    pub vlan: Option<VlanId>,
    pub inner_vlan: Option<VlanId>,
    pub src: IpAddr,
    pub dst: IpAddr,
    pub proto: Proto,
    pub src_port: u16,
    /// The destination port.
    pub port: u16,
    /// TTL or hop limit.
    pub ttl: u8,
    pub tcp_flags: Vec<TcpFlag>,
    /// Bytes of the frame; None: what its headers and a short payload need.
    pub len: Option<usize>,
}

/// A flag of a TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpFlag {
    Fin,
    Syn,
    Rst,
    Psh,
    Ack,
    Urg,
}

impl TcpFlag {
    pub const ALL: [TcpFlag; 6] = [
        TcpFlag::Fin,
        TcpFlag::Syn,
        TcpFlag::Rst,
        TcpFlag::Psh,
        TcpFlag::Ack,
        TcpFlag::Urg,
    ];

    /// Its name in options.
    pub fn name(self) -> &'static str {
        match self {
            TcpFlag::Fin => "fin",
            TcpFlag::Syn => "syn",
            TcpFlag::Rst => "rst",
            TcpFlag::Psh => "psh",
            TcpFlag::Ack => "ack",
            TcpFlag::Urg => "urg",
        }
    }
}

impl FrameSpec {
    /// The frame, for an interface with this MAC address.
    pub fn build(&self, interface: Option<Mac>) -> Result<Vec<u8>> {
        let headers = self.with_payload(interface, 0)?.len();
        let payload = match self.len {
            None => PAYLOAD,
            Some(len) if len > LONGEST => {
                let why = format!("len {len}: no frame has more than {LONGEST} bytes");
                return Err(failure(Exit::Usage, why));
            }
            Some(len) => len.checked_sub(headers).ok_or_else(|| {
                let why = format!("len {len}: the headers of this frame have {headers} bytes");
                failure(Exit::Usage, why)
            })?,
        };
        self.with_payload(interface, payload)
    }

    fn with_payload(&self, interface: Option<Mac>, len: usize) -> Result<Vec<u8>> {
        let src_mac = self.src_mac.unwrap_or(SENDER);
        let dst_mac = self
            .dst_mac
            .or(interface)
            .unwrap_or(Mac([2, 0, 0, 0, 0, 2]));
        let link = PacketBuilder::ethernet2(src_mac.0, dst_mac.0);
        let ip = self.ip()?;
        let vlan = |id: VlanId| etherparse::VlanId::try_new(id.get()).context("a VLAN identifier");
        let ip = match (self.vlan, self.inner_vlan) {
            (None, _) => link.ip(ip),
            (Some(outer), None) => link.single_vlan(vlan(outer)?).ip(ip),
            (Some(outer), Some(inner)) => link.double_vlan(vlan(outer)?, vlan(inner)?).ip(ip),
        };
        let (mut frame, payload) = (Vec::new(), vec![0; len]);
        let is_ipv6 = self.dst.is_ipv6();
        let written = match self.proto {
            Proto::Udp => ip
                .udp(self.src_port, self.port)
                .write_to_vec(&mut frame, &payload),
            Proto::Tcp => ip.tcp_header(self.tcp()).write_to_vec(&mut frame, &payload),
            Proto::Icmp if is_ipv6 => ip
                .icmpv6_echo_request(1, 1)
                .write_to_vec(&mut frame, &payload),
            Proto::Icmp => ip
                .icmpv4_echo_request(1, 1)
                .write_to_vec(&mut frame, &payload),
            Proto::Sctp => ip.write_to_vec(&mut frame, IpNumber::SCTP, &self.sctp(len)),
            Proto::Any => {
                let why = "proto any: a frame has one protocol: udp, tcp, sctp or icmp";
                return Err(failure(Exit::Usage, why.to_string()));
            }
        };
        written
            .map_err(|error| failure(Exit::Usage, format!("there is no such frame: {error}")))?;
        Ok(frame)
    }

    fn ip(&self) -> Result<IpHeaders> {
        let (src, dst, ttl) = (self.src, self.dst, self.ttl);
        let differ = || format!("src {src} and dst {dst} are not of one IP version");
        ensure!(
            src.is_ipv4() == dst.is_ipv4(),
            failure(Exit::Usage, differ())
        );
        Ok(match (src, dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let header = Ipv4Header::new(0, ttl, IpNumber::UDP, src.octets(), dst.octets());
                IpHeaders::Ipv4(header.context("no IPv4 header")?, Default::default())
            }
            (src, dst) => {
                let octets = |addr| match addr {
                    IpAddr::V6(addr) => addr.octets(),
                    IpAddr::V4(addr) => addr.to_ipv6_mapped().octets(),
                };
                let header = Ipv6Header {
                    traffic_class: 0,
                    flow_label: Ipv6FlowLabel::ZERO,
                    payload_length: 0,
                    next_header: IpNumber::UDP,
                    hop_limit: ttl,
                    source: octets(src),
                    destination: octets(dst),
                };
                IpHeaders::Ipv6(header, Default::default())
            }
        })
    }

    fn tcp(&self) -> TcpHeader {
        let has = |flag| self.tcp_flags.contains(&flag);
        TcpHeader {
            fin: has(TcpFlag::Fin),
            syn: has(TcpFlag::Syn),
            rst: has(TcpFlag::Rst),
            psh: has(TcpFlag::Psh),
            ack: has(TcpFlag::Ack),
            urg: has(TcpFlag::Urg),
            ..TcpHeader::new(self.src_port, self.port, 0, u16::MAX)
        }
    }

    /// The common header, and zeros.
    fn sctp(&self, len: usize) -> Vec<u8> {
        const HEADER: usize = 12;
        let mut bytes = vec![0; HEADER + len];
        bytes[..2].copy_from_slice(&self.src_port.to_be_bytes());
        bytes[2..4].copy_from_slice(&self.port.to_be_bytes());
        bytes
    }
}
