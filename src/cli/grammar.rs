//! The command line's grammar. The doc comments are the help.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;
use xdpredir::lab;
use xdpredir::model::{Mac, Port, Prefix, Proto, VlanId, Weight};

/// Redirect and load-balance packets with XDP. No server: all state lives in the kernel, in pinned
/// BPF maps and links.
#[derive(Parser)]
#[command(version, arg_required_else_help = true, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 failed at run time; 2 usage; 3 not found or not attached; 4 conflict; \
5 no permission; 6 not supported by this kernel, device or version; 7 problems found";

#[derive(Args)]
pub struct Global {
    /// Work in this network namespace: a name under /run/netns, or a path such as /proc/PID/ns/net.
    /// The host's mounts stay, so that pins do
    #[arg(
        long,
        global = true,
        value_name = "NAME|PATH",
        help_heading = "Global options"
    )]
    pub netns: Option<String>,

    /// Keep pins in this directory of a bpffs [default: /sys/fs/bpf/xdpredir]
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        help_heading = "Global options"
    )]
    pub pin_dir: Option<PathBuf>,

    /// Print JSON
    #[arg(long, global = true, help_heading = "Global options")]
    pub json: bool,

    /// Print libbpf's and the verifier's messages to standard error
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub verbose: bool,
}

#[derive(Subcommand)]
pub enum Command {
    /// Load the program and attach it to interfaces
    Attach(Attach),
    /// Detach from interfaces; after the last one nothing is left behind
    Detach(Detach),
    /// Show interfaces, modes, program ids and the number of rules
    Status,
    /// Show what devices can do with XDP, and what they are connected to
    Features(Features),
    /// Look for all that keeps packets from arriving, say what it does and how to mend it; exit 7
    /// where there are problems
    Doctor(Doctor),
    /// Add, delete, list, load rules, and find their servers again
    #[command(subcommand)]
    Rule(Rule),
    /// Show packets and bytes by interface and action, and by backend
    Stats(Stats),
    /// Make, show and remove a test bed of network namespaces; the host's own network is not touched
    #[command(subcommand)]
    Lab(Lab),
    /// Print shell completions
    Completions {
        /// The shell to complete for
        shell: Shell,
    },
}

#[derive(Args)]
pub struct Attach {
    /// Interfaces to attach to; the program sees what arrives there
    #[arg(required = true, value_name = "IFACE", value_hint = ValueHint::Other)]
    pub interfaces: Vec<String>,

    /// Where in the receive path to run
    #[arg(long, value_enum, default_value = "auto")]
    pub mode: ModeChoice,

    /// Let members of this group run `rule` and `stats` without root
    #[arg(long, value_hint = ValueHint::Other)]
    pub group: Option<String>,

    /// Replace another program's XDP attachment
    #[arg(long)]
    pub force: bool,

    /// Do not count frames that the kernel loses after they were redirected
    #[arg(long)]
    pub no_ledger: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ModeChoice {
    /// Native on NICs; generic where native is absent (bridges), slower (veths) or delivers less (taps)
    Auto,
    /// In the driver, before an skb exists
    Native,
    /// Generic: in the stack, on any device
    Skb,
}

#[derive(Args)]
pub struct Detach {
    /// Interfaces, by name; a device that is gone by the name it had
    #[arg(
        required_unless_present = "all",
        conflicts_with = "all",
        value_name = "IFACE", value_hint = ValueHint::Other
    )]
    pub interfaces: Vec<String>,

    /// All interfaces of this namespace
    #[arg(long)]
    pub all: bool,

    /// Keep rules and counters after the last interface
    #[arg(long)]
    pub keep_rules: bool,
}

#[derive(Args)]
pub struct Features {
    /// Devices to show in full [default: a table of all in this network namespace]
    #[arg(value_name = "IFACE", value_hint = ValueHint::Other)]
    pub interfaces: Vec<String>,
}

#[derive(Args)]
pub struct Doctor {
    /// Mend what can be put back: GRO at a veth's peer, links that are down, devices, addresses and
    /// checksum features of backends. Asks first; `detach` of the last interface puts it back
    #[arg(long)]
    pub fix: bool,

    /// Do not ask
    #[arg(long, requires = "fix")]
    pub yes: bool,

    /// Put back what --fix changed
    #[arg(long, conflicts_with = "fix")]
    pub undo: bool,
}

#[derive(Subcommand)]
pub enum Rule {
    /// Add a backend to the rule for a match, or update it.
    ///
    /// The same server again is an update: its counters are kept, and so is what isn't given; with
    /// nothing but the server given, MAC address and device are found anew, the way they were found
    /// before. `rule refresh` does that for all backends that were not told by hand. Of the
    /// rewriting, giving any replaces all but what the rule's other backends have in common with it
    /// (--snat, --keep-ttl). A rule has up to 255 backends.
    Add(RuleAdd),
    /// Delete one backend, a rule with all its backends, or all rules; the match must be as it was
    /// added
    Del(RuleDel),
    /// List backends with their counters, one a row; and their states, where not all are up. All, or
    /// those that are told
    List(Filter),
    /// Find backends anew, the way they were found when they were added.
    ///
    /// What is another now, such as the device and MAC address of a container that was restarted, is
    /// changed in place; counters are kept. All backends that were found, or those of the rules that
    /// are told; what was told by hand (--mac) stays. One that can't be found stays as it is: exit 1
    /// once the others are refreshed.
    Refresh(Filter),
    /// Add rules from a file, many at once.
    ///
    /// One JSON object a line, or an array of them, with the keys that `rule list --json` has: src,
    /// proto, port, server, mac, ifindex and, if need be, weight, vlan, to_port, snat, keep_ip,
    /// decrement_ttl, push_vlan, pop_vlan and origin. All lines and the limits are checked before the first
    /// is loaded. A rule that is there is replaced; counters of backends that stay are kept. If the load
    /// is interrupted, the rules loaded by then stand, each of them whole: run it again. Afterwards it
    /// warns, as `rule add` does, of what keeps packets from the backends.
    Load {
        /// The file; - is standard input
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
}

/// What a rule matches.
#[derive(Args)]
pub struct Match {
    /// Source address or prefix, IPv4 or IPv6 [default: any of the server's family]
    #[arg(long, value_name = "ADDR[/LEN]")]
    pub src: Option<Prefix>,

    /// Protocol
    #[arg(long, default_value = "udp", value_parser = proto())]
    pub proto: Proto,

    /// Destination port
    #[arg(long, value_name = "N", default_value = "7999")]
    pub port: Port,

    /// VLAN identifier of the outer tag, 802.1Q or 802.1ad: 1 to 4094 [default: untagged frames]
    #[arg(long, value_name = "N")]
    pub vlan: Option<VlanId>,
}

#[derive(Args)]
#[command(group = ArgGroup::new("namespace").conflicts_with_all(["mac", "ifindex", "dev"]))]
pub struct RuleAdd {
    #[command(flatten)]
    pub matches: Match,

    /// Address of the backend: the packet's new destination [default: as the backend's network
    /// namespace has it]
    #[arg(long, value_name = "ADDR")]
    pub server: Option<IpAddr>,

    /// MAC address of the backend [default: as the neighbour table has it, asked for if need be]
    #[arg(long)]
    pub mac: Option<Mac>,

    /// Egress device by its index [default: as the route and the bridge's forwarding table have it]
    #[arg(long, value_name = "N", conflicts_with = "dev", value_parser = parse_number)]
    pub ifindex: Option<u32>,

    /// Egress device by its name; of a veth, the peer tells the rest
    #[arg(long, value_name = "NAME", value_hint = ValueHint::Other)]
    pub dev: Option<String>,

    /// Find address, MAC address and device in the network namespace of this process
    #[arg(long, value_name = "PID", group = "namespace", value_parser = parse_number)]
    pub pid: Option<u32>,

    /// The same in this network namespace: a name under /run/netns, or a path
    #[arg(long, value_name = "NAME|PATH", group = "namespace")]
    pub server_netns: Option<String>,

    /// The same in the network namespace of this container, of docker or podman
    #[arg(long, value_name = "NAME", group = "namespace", value_hint = ValueHint::Other)]
    pub container: Option<String>,

    /// Share of the flows, relative to the rule's other backends: 1 to 65535 [default: 1, or what
    /// the backend has]
    #[arg(long, value_name = "N")]
    pub weight: Option<Weight>,

    #[command(flatten)]
    pub rewrite: Rewrite,
}

/// What becomes of a packet beside its new destination.
#[derive(Args)]
#[command(next_help_heading = "Rewriting")]
pub struct Rewrite {
    /// New destination port
    #[arg(long, value_name = "N")]
    pub to_port: Option<Port>,

    /// New source address, for all backends of the rule
    #[arg(long, value_name = "ADDR")]
    pub snat: Option<IpAddr>,

    /// Change MAC addresses alone: the server owns the packet's destination address
    #[arg(long, conflicts_with_all = ["to_port", "snat"])]
    pub keep_ip: bool,

    /// Leave the TTL or hop limit as it is, for all backends of the rule. Otherwise each redirect
    /// decrements it, as a router does, and at 1 the packet passes: nothing else ends a loop
    #[arg(long)]
    pub keep_ttl: bool,

    /// Decrement the TTL or hop limit again, for all backends of the rule
    #[arg(long, conflicts_with = "keep_ttl")]
    pub decrement_ttl: bool,

    /// Add an 802.1Q tag; with --pop-vlan, in place of the outer one
    #[arg(long, value_name = "N")]
    pub push_vlan: Option<VlanId>,

    /// Remove the outer VLAN tag, where there is one
    #[arg(long)]
    pub pop_vlan: bool,
}

#[derive(Args)]
pub struct RuleDel {
    #[command(flatten)]
    pub matches: Match,

    /// Only this backend of the rule
    #[arg(long, value_name = "ADDR")]
    pub server: Option<IpAddr>,

    /// All rules
    #[arg(long, conflicts_with_all = ["src", "proto", "port", "vlan", "server"])]
    pub all: bool,

    /// Succeed where there is nothing to delete
    #[arg(long)]
    pub if_exists: bool,
}

/// Which rules and backends are meant; all, where nothing is told.
#[derive(Args)]
pub struct Filter {
    /// Only rules with this source
    #[arg(long, value_name = "ADDR[/LEN]")]
    pub src: Option<Prefix>,

    /// Only rules with this protocol
    #[arg(long, value_parser = proto())]
    pub proto: Option<Proto>,

    /// Only rules with this destination port
    #[arg(long, value_name = "N")]
    pub port: Option<Port>,

    /// Only rules with this VLAN identifier
    #[arg(long, value_name = "N")]
    pub vlan: Option<VlanId>,

    /// Only backends with this address
    #[arg(long, value_name = "ADDR")]
    pub server: Option<IpAddr>,
}

#[derive(Args)]
pub struct Stats {
    /// Repeat, with rates per second: every second, or at an interval such as 500ms
    #[arg(long, value_name = "INTERVAL", num_args = 0..=1, default_missing_value = "1s", value_parser = parse_interval)]
    pub watch: Option<Duration>,

    #[command(flatten)]
    pub filter: Filter,
}

#[derive(Subcommand)]
pub enum Lab {
    /// Make a bed, printing each command
    Up {
        /// Which bed
        #[arg(value_enum, default_value = "redirect")]
        bed: Bed,
    },
    /// Remove the bed, what was attached in it, and end what runs in it
    Down,
    /// Show the bed's hosts with their devices, addresses, MACs and ifindexes
    Status,
    /// Open the bed in tmux, or attach to what is open: a pane for this host's shell ($), and one for
    /// each of the bed's hosts, in its namespace. `lab down` ends it
    Tmux,
    /// Run a command in the network namespace of one of the bed's hosts, with this host's mounts
    Exec {
        /// A host as `lab status` names it
        #[arg(value_hint = ValueHint::Other)]
        host: String,
        /// The command and its arguments
        #[arg(last = true, required = true, value_name = "CMD")]
        command: Vec<std::ffi::OsString>,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Bed {
    /// A vm behind virbr0, a udpserver behind docker0, and the host between them
    Redirect,
    /// veth1 10.2.2.1 in the namespace host, veth2 10.2.2.2 in the namespace xdp, MTU 9000
    Pair,
    /// client, br-lan, xdp, br-wan, server: xdp routes, the host masquerades to an internet
    Gateway,
}

impl From<Bed> for lab::Bed {
    fn from(bed: Bed) -> Self {
        match bed {
            Bed::Redirect => lab::Bed::Redirect,
            Bed::Pair => lab::Bed::Pair,
            Bed::Gateway => lab::Bed::Gateway,
        }
    }
}

/// Takes the names of the protocols, and no others; help and completions list them.
fn proto() -> impl TypedValueParser<Value = Proto> {
    PossibleValuesParser::new(Proto::ALL.map(Proto::name)).try_map(|name| name.parse::<Proto>())
}

/// An ifindex or a process number, which the kernel counts as positive C ints.
fn parse_number(text: &str) -> Result<u32, String> {
    let number = text
        .parse::<i32>()
        .ok()
        .and_then(|number| number.try_into().ok());
    let number = number.filter(|&number| number > 0);
    number.ok_or_else(|| format!("it must be a number from 1 to {}", i32::MAX))
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = humantime::parse_duration(text).or_else(|error| {
        text.parse::<f64>()
            .ok()
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .ok_or(format!("{error}: use 1s or 500ms"))
    })?;
    if interval < Duration::from_millis(10) {
        return Err("shorter than 10ms".into());
    }
    if interval > Duration::from_secs(24 * 60 * 60) {
        return Err("longer than a day".into());
    }
    Ok(interval)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beds_have_the_same_names_here_and_in_the_lab() {
        for bed in Bed::value_variants() {
            let value = bed.to_possible_value().expect("no bed is hidden");
            assert_eq!(lab::Bed::from(*bed).name(), value.get_name());
        }
    }
}
