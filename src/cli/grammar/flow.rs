//! The grammar of `flow`: which connections are meant.

use std::net::IpAddr;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgGroup, Args, Subcommand, ValueHint};
use xdpredir::model::{Ports, Prefix, Proto, VlanId};

#[derive(Subcommand)]
pub enum Flow {
    /// List connections: who asked what, which server answers, and what went each way.
    ///
    /// Only connections that are remembered: those of rules with --reply nat or --sticky. They are in no order, and
    /// those whose time is over are left out. Options narrow the list. A prefix selects the addresses in
    /// it, and a range the ports in it, unlike the options of `rule list`, which have to be the rule's. If
    /// no connection is left, the exit code is 3.
    List(FlowFilter),
    /// Count connections by their state
    Count(FlowFilter),
    /// End connections.
    ///
    /// The next packet of a client begins a new connection, which may get another backend; answers from
    /// the server pass to the host, untranslated, until then. If no connection is like that, the exit code
    /// is 3.
    Del(FlowDel),
}

/// Narrows a list of connections.
#[derive(Args)]
pub struct FlowFilter {
    /// Only connections to this address, or to an address in this prefix, as clients ask it
    #[arg(long, value_name = "ADDR[/LEN]")]
    pub dst: Option<Prefix>,

    /// Only connections from this address, or from an address in this prefix
    #[arg(long, value_name = "ADDR[/LEN]")]
    pub src: Option<Prefix>,

    /// Only connections of this protocol
    #[arg(long, value_parser = proto())]
    pub proto: Option<Proto>,

    /// Only connections to this port, or to a port in this range, as clients ask it
    #[arg(long, value_name = "N|A-B|any")]
    pub port: Option<Ports>,

    /// Only connections with this VLAN identifier
    #[arg(long, value_name = "N")]
    pub vlan: Option<VlanId>,

    /// Only connections whose packets arrive at this interface; one that is gone is named by its index
    #[arg(long = "in", value_name = "IFACE", value_hint = ValueHint::Other)]
    pub ingress: Option<String>,

    /// Only connections that have this backend
    #[arg(long, value_name = "ADDR")]
    pub server: Option<IpAddr>,
}

const OPTIONS: [&str; 7] = ["dst", "src", "proto", "port", "vlan", "ingress", "server"];

#[derive(Args)]
#[command(group = ArgGroup::new("which").args(OPTIONS).arg("all").required(true).multiple(true))]
pub struct FlowDel {
    #[command(flatten)]
    pub filter: FlowFilter,

    /// End all connections
    #[arg(long, conflicts_with_all = OPTIONS)]
    pub all: bool,
}

/// Takes the names of the protocols whose flows are remembered.
fn proto() -> impl TypedValueParser<Value = Proto> {
    let names = PossibleValuesParser::new([Proto::Udp, Proto::Tcp].map(Proto::name));
    names.map(|name| match name.as_str() {
        "udp" => Proto::Udp,
        _ => Proto::Tcp,
    })
}
