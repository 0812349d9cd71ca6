//! The grammar of `dump`.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

use super::packets::PacketFilter;

#[derive(Args)]
pub struct Dump {
    /// The interface where the frames arrive
    #[arg(value_name = "IFACE", value_hint = ValueHint::Other)]
    pub interface: String,

    /// The queue whose frames are taken; those of other queues stay where they are
    #[arg(long, value_name = "N|all", default_value = "all", value_parser = parse_queue)]
    pub queue: Queue,

    /// Read what rules take for sockets there (`rule add --socket`), in place of other frames
    #[arg(long, conflicts_with_all = ["mode", "dst", "src", "proto", "port", "vlan", "inner_vlan"])]
    pub rules: bool,

    /// Where frames are taken, at an interface that is not attached [default: auto, as `attach` has it]
    #[arg(long, value_enum)]
    pub mode: Option<XdpMode>,

    /// End after so many frames
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,

    /// Write the frames to this file, as pcapng, instead of showing them; - is standard output, for
    /// `tcpdump -r -` or Wireshark
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "json")]
    pub write: Option<PathBuf>,

    /// Show the bytes of the frames as hexadecimal digits, which `explain -` reads
    #[arg(long, conflicts_with_all = ["write", "json"])]
    pub hex: bool,

    #[command(flatten)]
    pub filter: PacketFilter,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum XdpMode {
    /// In the driver, before the kernel makes an skb; without a copy where the driver can do that
    Native,
    /// Generic XDP: in the network stack, on any Ethernet device
    Skb,
}

/// Queues of a device.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Queue {
    All,
    One(u32),
}

fn parse_queue(text: &str) -> Result<Queue, String> {
    match (text, text.parse()) {
        ("all", _) => Ok(Queue::All),
        (_, Ok(number)) => Ok(Queue::One(number)),
        _ => Err("it must be a number from 0, or all".into()),
    }
}
