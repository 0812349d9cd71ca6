//! The grammar of `capture`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum, ValueHint};
use xdpredir::control;

use super::packets::PacketFilter;

#[derive(Args)]
pub struct Capture {
    /// Interfaces where the packets arrive, which are attached [default: all that are]
    #[arg(value_name = "IFACE", value_hint = ValueHint::Other)]
    pub interfaces: Vec<String>,

    /// Only packets with these outcomes
    #[arg(long, value_name = "OUTCOME,…", value_delimiter = ',', value_parser = outcome())]
    pub outcome: Vec<&'static str>,

    /// Only frames at these stages [default: all]
    #[arg(long, value_enum, value_name = "STAGE,…", value_delimiter = ',', hide_default_value = true,
          default_values_t = [Stage::Arrived, Stage::Left, Stage::Lost])]
    pub stage: Vec<Stage>,

    /// Write a capture file (pcapng) in place of lines, as Wireshark and tcpdump read it; - is standard output
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "json")]
    pub write: Option<PathBuf>,

    /// End after so many packets
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,

    /// Take so many bytes of each frame, from its start
    #[arg(long, value_name = "N", default_value_t = control::MAX_SNAPLEN,
          value_parser = clap::value_parser!(u32).range(14..=i64::from(control::MAX_SNAPLEN)))]
    pub snaplen: u32,

    /// Take one packet of N, at random, and all of its stages
    #[arg(long, value_name = "1/N", default_value = "1/1", value_parser = sample, hide_default_value = true)]
    pub sample: u32,

    // The last one: the heading of its options would be that of others behind it, too.
    #[command(flatten)]
    pub packets: Packets,
}

/// Which packets are taken, as they arrive.
#[derive(Args)]
#[command(next_help_heading = "Which packets")]
pub struct Packets {
    /// Only packets that rules took. The options below then select rules, as `rule list` does, in place of packets
    #[arg(long)]
    pub rule: bool,

    #[command(flatten)]
    pub filter: PacketFilter,

    /// With --rule: only packets for this backend
    #[arg(long, value_name = "ADDR", requires = "rule")]
    pub server: Option<IpAddr>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Stage {
    /// As the interface received it
    Arrived,
    /// As it left by a device, or was handed on
    Left,
    /// As it left, and the kernel lost it then, as far as the kernel says so
    Lost,
}

/// Takes the names of outcomes, and no others; help and completions list them.
fn outcome() -> impl TypedValueParser<Value = &'static str> {
    let names: Vec<&'static str> = control::outcome_names().collect();
    let named = move |name: String| control::outcome_names().find(|outcome| *outcome == name);
    let names = PossibleValuesParser::new(names);
    names.map(move |name| named(name).expect("clap takes no other name"))
}

/// "1/1000", or 1000 alone.
fn sample(text: &str) -> Result<u32, String> {
    let number = text.strip_prefix("1/").unwrap_or(text);
    let number: Option<u32> = number.parse().ok();
    let number = number.filter(|number| (1..=1 << 30).contains(number));
    number.ok_or_else(|| "one packet of how many? Such as 1/1000".into())
}
