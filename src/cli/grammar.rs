//! The grammar of the command line. The doc comments are the texts of `--help`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{ArgAction, ArgGroup, Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;
use xdpredir::control::PolicySpec;
use xdpredir::lab;
use xdpredir::model::{Mac, Port, Ports, Prefix, Proto, TooLong, VlanId, Weight};

/// Redirect and load-balance packets with XDP.
///
/// There is no server process. All state lives in the kernel, in pinned BPF maps and links, and every
/// run of this command is short.
#[derive(Parser)]
#[command(version, arg_required_else_help = true, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 failed at run time; 2 wrong usage; 3 not found or not attached; 4 conflict; \
5 no permission; 6 not supported by this kernel, device or version; 7 doctor found problems";

#[derive(Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Work in this network namespace: a name under /run/netns, or a path such as /proc/PID/ns/net. The
    /// mounts stay those of this shell, so the pins are the same ones
    #[arg(long, global = true, value_name = "NAME|PATH")]
    pub netns: Option<String>,

    /// Keep the pinned maps and links in this directory of a bpffs [default: /sys/fs/bpf/xdpredir]
    #[arg(long, global = true, value_name = "DIR")]
    pub pin_dir: Option<PathBuf>,

    /// Print JSON instead of text
    #[arg(long, global = true)]
    pub json: bool,

    /// Print libbpf's and the verifier's messages to standard error
    #[arg(short, long, global = true)]
    pub verbose: bool,
}

#[derive(Subcommand)]
pub enum Command {
    /// Load the program and attach it to interfaces
    Attach(Attach),
    /// Show or change what becomes of the frames that no rule matches
    Policy(Policy),
    /// Detach the program from interfaces; after the last one, nothing is left behind
    Detach(Detach),
    /// Show the attached interfaces, their modes and program ids, and the number of rules
    Status,
    /// Show what devices can do with XDP and what they are connected to
    Features(Features),
    /// Find out why packets do not arrive.
    ///
    /// Each finding says what goes wrong, how doctor knows, and which command helps. A problem means
    /// that packets are lost, or not redirected, now; any problem makes the exit code 7. A warning
    /// means that this can happen, or has happened.
    Doctor(Doctor),
    /// Add, delete, list and load rules, and find their backends again
    #[command(subcommand)]
    Rule(Rule),
    /// Show packets and bytes by interface, outcome and backend
    Stats(Stats),
    /// Make, show and remove a test bed of network namespaces.
    ///
    /// The host's own network is not touched.
    #[command(subcommand)]
    Lab(Lab),
    /// Print completions for a shell
    Completions {
        /// The shell to complete for
        shell: Shell,
    },
}

#[derive(Args)]
pub struct Attach {
    /// Interfaces to attach to. The program sees the packets that arrive there
    #[arg(required = true, value_name = "IFACE", value_hint = ValueHint::Other)]
    pub interfaces: Vec<String>,

    /// Where the program runs
    #[arg(long, value_enum, default_value = "auto")]
    pub mode: ModeChoice,

    /// Let members of this group run `rule`, `stats`, `status` and `doctor` without root
    #[arg(long, value_hint = ValueHint::Other)]
    pub group: Option<String>,

    /// Replace an XDP program of somebody else that is attached there
    #[arg(long)]
    pub force: bool,

    /// Do not count the frames that the kernel loses after the redirect
    #[arg(long)]
    pub no_ledger: bool,

    /// What becomes of frames that no rule matches, whatever is in them: they go to the host's network
    /// stack, are dropped, or leave by another device as they are [default: pass]
    #[arg(long, value_name = "pass|drop|forward:DEV", value_hint = ValueHint::Other)]
    pub policy: Option<PolicySpec>,
}

#[derive(Args)]
pub struct Policy {
    /// The interface, which is attached
    #[arg(value_name = "IFACE", value_hint = ValueHint::Other)]
    pub interface: String,

    /// What becomes of frames that arrive there and that no rule matches, from now on. ARP, broadcasts
    /// and frames that are not IP are among them [default: show what it is]
    #[arg(value_name = "pass|drop|forward:DEV", value_hint = ValueHint::Other)]
    pub policy: Option<PolicySpec>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ModeChoice {
    /// Native on NICs; generic on bridges (they have no native mode), on veths (generic is faster for
    /// what sockets send) and on taps (generic delivers to
    /// containers without further setup)
    Auto,
    /// In the driver, before the kernel makes an skb
    Native,
    /// Generic XDP: in the network stack, on any Ethernet device
    Skb,
}

#[derive(Args)]
pub struct Detach {
    /// Interfaces to detach from. A device that is gone is named as it was
    #[arg(
        required_unless_present = "all",
        conflicts_with = "all",
        value_name = "IFACE", value_hint = ValueHint::Other
    )]
    pub interfaces: Vec<String>,

    /// Detach from all interfaces of this network namespace
    #[arg(long)]
    pub all: bool,

    /// Keep the rules and their counters after the last interface
    #[arg(long)]
    pub keep_rules: bool,
}

#[derive(Args)]
pub struct Features {
    /// Devices to show in full [default: a table of all devices of this network namespace]
    #[arg(value_name = "IFACE", value_hint = ValueHint::Other)]
    pub interfaces: Vec<String>,
}

#[derive(Args)]
pub struct Doctor {
    /// Make the changes that can be undone: put a program that passes all on a veth's peer, or switch
    /// GRO on there, set links up, and bring devices, addresses and checksum features of backends up
    /// to date. Lists the changes and asks first. `detach` of the last interface undoes them
    #[arg(long)]
    pub fix: bool,

    /// Do not ask before the changes
    #[arg(long, requires = "fix")]
    pub yes: bool,

    /// Undo what --fix changed
    #[arg(long, conflicts_with = "fix")]
    pub undo: bool,
}

#[derive(Subcommand)]
pub enum Rule {
    /// Add a backend to the rule for a match, or update it; or add a rule that forwards, passes or drops.
    ///
    /// Of several rules that match a packet, the most specific one takes it. Matches are compared by
    /// destination prefix, source prefix, port (one, a range, any), protocol, inner VLAN and interface, in
    /// this order.
    ///
    /// The same server again is an update: its counters are kept, and so are the options that you do
    /// not give. If you give the server alone, its MAC address and device are found again, the way they
    /// were found before; `rule refresh` does that for all backends but those with --mac. Any option for
    /// rewriting replaces all rewriting that the backend had, except that --snat and --keep-ttl of the
    /// rule's other backends hold for this one, too. A rule has up to 255 backends.
    ///
    /// With --forward, --pass or --drop the rule has no backends. If neither address is given, it is added
    /// for IPv4 and for IPv6. A rule with backends does not become such a rule: delete it first.
    Add(RuleAdd),
    /// Delete one backend, a rule with all its backends, or all rules.
    ///
    /// The match must be the one that the rule was added with; without options it is UDP to port 7999
    /// from any source to any destination. Without addresses, the rules of both IP versions are meant. An
    /// interface that is gone is named by its index. Where there is nothing to delete, the exit code is 3.
    Del(RuleDel),
    /// List rules with their backends and counters, one backend a row, and their states.
    ///
    /// Of the rules that match a packet, the first one takes it, IPv4 and IPv6 apart.
    /// The column of states is left out while all backends are up. Options narrow the list; if no
    /// backend is left, the exit code is 3.
    List(Filter),
    /// Find backends again, the way they were found when they were added.
    ///
    /// What has changed, such as the device and the MAC address of a container that was restarted, is
    /// updated in place; counters are kept. Options narrow the list of backends. Backends that you gave
    /// with --mac are not changed. A backend that cannot be found stays as it is, and the exit code is 1
    /// after the others are refreshed.
    Refresh(Filter),
    /// Add many rules at once from a file.
    ///
    /// The file has one JSON object a line, or an array of objects, with the keys of `rule list --json`:
    /// src, proto, port, server, mac, ifindex and, where needed, dst, vlan, inner_vlan, in, action, weight,
    /// to_port, snat, keep_ip, decrement_ttl, push_vlan, pop_vlans, too_long and origin. All lines and the limits are checked before the
    /// first rule is loaded. A rule that exists is replaced; the counters of backends that stay are kept.
    /// If the load is interrupted, some of the rules are loaded, each of them whole: run it again. At
    /// the end it warns, as `rule add` does, of what keeps packets from arriving.
    Load {
        /// The file to read; - is standard input
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
}

/// Which packets a rule is for.
#[derive(Args)]
pub struct Match {
    /// Destination address or prefix, IPv4 or IPv6 [default: any destination]
    #[arg(long, value_name = "ADDR[/LEN]")]
    pub dst: Option<Prefix>,

    /// Source address or prefix, IPv4 or IPv6 [default: any source]
    #[arg(long, value_name = "ADDR[/LEN]")]
    pub src: Option<Prefix>,

    /// Protocol of the packets; icmp is ICMPv6 for IPv6
    #[arg(long, default_value = "udp", value_parser = proto())]
    pub proto: Proto,

    /// Destination ports of the packets: one, a range, or any. With --proto any, a port is that of UDP,
    /// TCP and SCTP [default: 7999; any with --proto icmp and --proto any]
    #[arg(long, value_name = "N|A-B|any")]
    pub port: Option<Ports>,

    /// VLAN identifier of the outer tag (802.1Q or 802.1ad), 1 to 4094 [default: untagged frames]
    #[arg(long, value_name = "N")]
    pub vlan: Option<VlanId>,

    /// VLAN identifier of the second tag [default: it is not compared, and frames with two tags are
    /// redirected only if both tags stay]
    #[arg(long, value_name = "N", requires = "vlan")]
    pub inner_vlan: Option<VlanId>,

    /// Interface where the packets arrive [default: any]
    #[arg(long = "in", value_name = "IFACE", value_hint = ValueHint::Other)]
    pub ingress: Option<String>,
}

#[derive(Args)]
#[command(group = ArgGroup::new("namespace").conflicts_with_all(["mac", "ifindex", "dev"]))]
pub struct RuleAdd {
    #[command(flatten)]
    pub matches: Match,

    /// Address of the backend, the new destination of the packets [default: the address in the
    /// namespace that --container, --pid, --server-netns or --dev leads to]
    #[arg(long, value_name = "ADDR")]
    pub server: Option<IpAddr>,

    /// MAC address of the backend [default: from the neighbour table, or asked for by ARP or neighbour
    /// discovery]. With --forward, the destination that frames get [default: MAC addresses stay]
    #[arg(long)]
    pub mac: Option<Mac>,

    /// Egress device by its index [default: from the route and the bridge's forwarding table]
    #[arg(long, value_name = "N", conflicts_with = "dev", value_parser = parse_number)]
    pub ifindex: Option<u32>,

    /// Egress device by its name. For a veth, address and MAC address are those of its peer
    #[arg(long, value_name = "NAME", value_hint = ValueHint::Other)]
    pub dev: Option<String>,

    /// Find address, MAC address and device through the network namespace of this process
    #[arg(long, value_name = "PID", group = "namespace", value_parser = parse_number)]
    pub pid: Option<u32>,

    /// The same through this network namespace: a name under /run/netns, or a path
    #[arg(long, value_name = "NAME|PATH", group = "namespace")]
    pub server_netns: Option<String>,

    /// The same through the network namespace of this docker or podman container
    #[arg(long, value_name = "NAME", group = "namespace", value_hint = ValueHint::Other)]
    pub container: Option<String>,

    /// Share of the flows, relative to the rule's other backends, 1 to 65535 [default: 1; for an update,
    /// the weight that the backend has]
    #[arg(long, value_name = "N")]
    pub weight: Option<Weight>,

    /// What becomes of packets that are longer than the egress device's MTU [default: icmp, or as the
    /// rule has it]
    #[arg(long, value_name = "ACTION", value_parser = too_long(), conflicts_with_all = ["pass", "drop"])]
    pub too_long: Option<TooLong>,

    #[command(flatten)]
    pub action: Action,

    #[command(flatten)]
    pub rewrite: Rewrite,
}

/// What becomes of packets if they are not redirected to a backend.
#[derive(Args)]
#[command(next_help_heading = "Instead of a backend")]
#[command(group = ArgGroup::new("action").conflicts_with_all(BACKEND_OPTIONS))]
pub struct Action {
    /// Send the frames out by this device, as they are
    #[arg(long, value_name = "DEV", value_hint = ValueHint::Other, group = "action")]
    pub forward: Option<String>,

    /// Let the packets pass to the host
    #[arg(long, group = "action", conflicts_with = "mac")]
    pub pass: bool,

    /// Drop the packets
    #[arg(long, group = "action", conflicts_with = "mac")]
    pub drop: bool,
}

/// What only a backend has.
const BACKEND_OPTIONS: [&str; 14] = [
    "server",
    "ifindex",
    "dev",
    "pid",
    "server_netns",
    "container",
    "weight",
    "to_port",
    "snat",
    "keep_ip",
    "keep_ttl",
    "decrement_ttl",
    "push_vlan",
    "pop_vlan",
];

/// What is rewritten in a packet besides its destination address.
#[derive(Args)]
#[command(next_help_heading = "Rewriting")]
pub struct Rewrite {
    /// Give the packets this destination port
    #[arg(long, value_name = "N")]
    pub to_port: Option<Port>,

    /// Give the packets this source address (for all backends of the rule)
    #[arg(long, value_name = "ADDR")]
    pub snat: Option<IpAddr>,

    /// Change the MAC addresses only, not the destination address: the server has that address itself
    /// (direct server return)
    #[arg(long, conflicts_with_all = ["to_port", "snat"])]
    pub keep_ip: bool,

    /// Keep the TTL or hop limit as it is (for all backends of the rule). Without this option each
    /// redirect decrements it, as a router does, and a packet whose TTL is 1 is not redirected; nothing
    /// else ends a loop between hosts that redirect to each other
    #[arg(long)]
    pub keep_ttl: bool,

    /// Take --keep-ttl back (for all backends of the rule)
    #[arg(long, conflicts_with = "keep_ttl")]
    pub decrement_ttl: bool,

    /// Add an 802.1Q tag; with --pop-vlan it replaces the outer tag
    #[arg(long, value_name = "N")]
    pub push_vlan: Option<VlanId>,

    /// Remove the outer VLAN tag from frames that have one; twice: the two outer tags
    #[arg(long, action = ArgAction::Count, value_parser = clap::value_parser!(u8).range(..=2))]
    pub pop_vlan: u8,
}

#[derive(Args)]
pub struct RuleDel {
    #[command(flatten)]
    pub matches: Match,

    /// Delete only this backend of the rule
    #[arg(long, value_name = "ADDR")]
    pub server: Option<IpAddr>,

    /// Delete all rules
    #[arg(long, conflicts_with_all = ["dst", "src", "proto", "port", "vlan", "inner_vlan", "ingress", "server"])]
    pub all: bool,

    /// Exit with 0 also where there is nothing to delete
    #[arg(long)]
    pub if_exists: bool,
}

/// Narrows a list of rules and backends; without options, all are meant.
#[derive(Args)]
pub struct Filter {
    /// Only rules with this destination address or prefix
    #[arg(long, value_name = "ADDR[/LEN]")]
    pub dst: Option<Prefix>,

    /// Only rules with this source address or prefix
    #[arg(long, value_name = "ADDR[/LEN]")]
    pub src: Option<Prefix>,

    /// Only rules with this protocol
    #[arg(long, value_parser = proto())]
    pub proto: Option<Proto>,

    /// Only rules with this destination port, this range, or any port
    #[arg(long, value_name = "N|A-B|any")]
    pub port: Option<Ports>,

    /// Only rules with this VLAN identifier
    #[arg(long, value_name = "N")]
    pub vlan: Option<VlanId>,

    /// Only rules with this VLAN identifier of the second tag
    #[arg(long, value_name = "N")]
    pub inner_vlan: Option<VlanId>,

    /// Only rules for this interface; one that is gone is named by its index
    #[arg(long = "in", value_name = "IFACE", value_hint = ValueHint::Other)]
    pub ingress: Option<String>,

    /// Only backends with this address
    #[arg(long, value_name = "ADDR")]
    pub server: Option<IpAddr>,
}

#[derive(Args)]
pub struct Stats {
    /// Repeat every second, or at an interval such as 500ms, and show rates per second
    #[arg(long, value_name = "INTERVAL", num_args = 0..=1, default_missing_value = "1s", value_parser = parse_interval)]
    pub watch: Option<Duration>,

    #[command(flatten)]
    pub filter: Filter,
}

#[derive(Subcommand)]
pub enum Lab {
    /// Make a test bed, and print each command that makes it
    Up {
        /// The bed to make
        #[arg(value_parser = bed(), default_value = "redirect")]
        bed: &'static lab::Bed,
    },
    /// Remove the bed: end what runs in it, and detach what is attached in it
    Down,
    /// Show the hosts of the bed, with their devices, addresses, MAC addresses and ifindexes
    Status,
    /// Open the bed in tmux, one pane a host.
    ///
    /// The first pane ($) is a shell of this host; each other pane is a shell in the namespace of one of
    /// the bed's hosts. If the session exists, this attaches to it. Without a terminal, the session is
    /// made and nothing is attached. `lab down` ends it.
    Tmux,
    /// Run a command in the network namespace of one of the bed's hosts.
    ///
    /// The mounts stay those of this host. The exit code is the command's.
    Exec {
        /// A host, as `lab status` names it
        #[arg(value_hint = ValueHint::Other)]
        host: String,
        /// The command and its arguments
        #[arg(
            required = true,
            trailing_var_arg = true,
            allow_hyphen_values = true,
            value_name = "CMD"
        )]
        command: Vec<std::ffi::OsString>,
    },
}

/// Takes the names of the lab's beds.
fn bed() -> impl TypedValueParser<Value = &'static lab::Bed> {
    let value = |bed: &lab::Bed| PossibleValue::new(bed.name).help(bed.about);
    let values = PossibleValuesParser::new(lab::BEDS.iter().map(value));
    values.try_map(|name| lab::Bed::by_name(&name).ok_or("no such bed"))
}

/// Takes the names of the protocols, and no others; help and completions list them.
fn proto() -> impl TypedValueParser<Value = Proto> {
    let named = |name: String| Proto::ALL.into_iter().find(|proto| proto.name() == name);
    let names = PossibleValuesParser::new(Proto::ALL.map(Proto::name));
    names.map(move |name| named(name).expect("clap takes no other name"))
}

/// Takes the names of what becomes of packets that are too long.
fn too_long() -> impl TypedValueParser<Value = TooLong> {
    let about = |choice| match choice {
        TooLong::Icmp => "The sender is told the MTU, as a router does",
        TooLong::Pass => "They pass to the host",
        TooLong::Drop => "They are dropped",
    };
    let value = |choice: TooLong| PossibleValue::new(choice.name()).help(about(choice));
    let named = |name: String| {
        TooLong::ALL
            .into_iter()
            .find(|choice| choice.name() == name)
    };
    let names = PossibleValuesParser::new(TooLong::ALL.map(value));
    names.map(move |name| named(name).expect("clap takes no other name"))
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
