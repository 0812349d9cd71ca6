//! The grammar of `explain`: a packet that is described, or a file of them.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueHint};
use xdpredir::control::TcpFlag;
use xdpredir::model::{Mac, Proto, VlanId};

use super::rule::{one_of, proto};

/// The options that describe a packet.
const HEADERS: [&str; 11] = [
    "src",
    "dst",
    "proto",
    "sport",
    "port",
    "vlan",
    "inner_vlan",
    "ttl",
    "len",
    "tcp_flags",
    "dst_mac",
];

#[derive(Args)]
#[command(group = ArgGroup::new("what").args(["dst", "file"]).required(true))]
pub struct Explain {
    /// Explain the frames of this file instead: pcap, pcapng, or hexadecimal digits with a blank line
    /// between frames; - is standard input
    #[arg(value_hint = ValueHint::FilePath, conflicts_with_all = HEADERS)]
    pub file: Option<PathBuf>,

    /// Interface where the packet arrives, which is attached [default: the only one that is]
    #[arg(long = "in", value_name = "IFACE", value_hint = ValueHint::Other)]
    pub ingress: Option<String>,

    /// Source address
    #[arg(long, value_name = "ADDR", requires = "dst")]
    pub src: Option<IpAddr>,

    /// Destination address
    #[arg(long, value_name = "ADDR", requires = "src")]
    pub dst: Option<IpAddr>,

    /// Protocol of the packet
    #[arg(long, default_value = "udp", value_parser = proto())]
    pub proto: Proto,

    /// Source port
    #[arg(long, value_name = "N", default_value = "40000")]
    pub sport: u16,

    /// Destination port
    #[arg(long, value_name = "N", default_value = "7999")]
    pub port: u16,

    /// VLAN identifier of the outer tag [default: the frame has no tag]
    #[arg(long, value_name = "N")]
    pub vlan: Option<VlanId>,

    /// VLAN identifier of the second tag
    #[arg(long, value_name = "N", requires = "vlan")]
    pub inner_vlan: Option<VlanId>,

    /// TTL or hop limit
    #[arg(long, value_name = "N", default_value = "64")]
    pub ttl: u8,

    /// Bytes of the frame, with its Ethernet header and without its checksum [default: its headers and 8 bytes]
    #[arg(long, value_name = "N")]
    pub len: Option<usize>,

    /// Flags of the TCP segment
    #[arg(long, value_name = "FLAG,…", value_parser = one_of(TcpFlag::ALL, TcpFlag::name), value_delimiter = ',', default_value = "syn")]
    pub tcp_flags: Vec<TcpFlag>,

    /// Destination MAC address [default: that of the interface]
    #[arg(long, value_name = "MAC")]
    pub dst_mac: Option<Mac>,
}
