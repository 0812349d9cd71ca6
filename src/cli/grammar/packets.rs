//! Which packets `capture` and `dump` are for.

use clap::Args;
use xdpredir::model::{Ports, Prefix, Proto, VlanId};

use super::rule::proto;

/// Which packets. What is not given is not compared: without options, all frames are meant.
#[derive(Args)]
#[command(next_help_heading = "Which packets")]
pub struct PacketFilter {
    /// Only packets to this address or prefix
    #[arg(long, value_name = "ADDR[/LEN]")]
    pub dst: Option<Prefix>,

    /// Only packets from this address or prefix
    #[arg(long, value_name = "ADDR[/LEN]")]
    pub src: Option<Prefix>,

    /// Only packets of this protocol; icmp is ICMPv6 for IPv6
    #[arg(long, value_parser = proto())]
    pub proto: Option<Proto>,

    /// Only packets to this destination port, or one of this range
    #[arg(long, value_name = "N|A-B|any")]
    pub port: Option<Ports>,

    /// Only packets whose outer VLAN tag has this identifier
    #[arg(long, value_name = "N")]
    pub vlan: Option<VlanId>,

    /// Only packets whose second tag has this one
    #[arg(long, value_name = "N", requires = "vlan")]
    pub inner_vlan: Option<VlanId>,
}
