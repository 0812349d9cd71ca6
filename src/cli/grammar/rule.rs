//! The grammar of `rule`: matches, backends, actions, filters.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{ArgAction, ArgGroup, Args, Subcommand, ValueEnum, ValueHint};
use xdpredir::model::{
    HashOf, Mac, Port, Ports, Prefix, Proto, Reply, Snat, TooLong, VlanId, Weight,
};

#[derive(Subcommand)]
pub enum Rule {
    /// Add a backend to the rule for a match, or update it; or add a rule that forwards, passes, drops or takes
    /// packets for `dump`.
    ///
    /// Of several rules that match a packet, the most specific one takes it. Matches are compared by
    /// destination prefix, source prefix, port (one, a range, any), protocol, inner VLAN and interface, in
    /// this order.
    ///
    /// The same server again is an update: its counters are kept, and so are the options that you do
    /// not give. If you give the server alone, its MAC address and device are found again, the way they
    /// were found before; `rule refresh` does that for all backends but those with --mac. Any option for
    /// rewriting replaces all rewriting that the backend had, except that --reply stays as the rule has it, and
    /// that --snat, --announce and --keep-ttl of the rule's other backends hold for this one, too; --reply nat and
    /// --reply none alone change nothing else. A rule has up to 255 backends.
    ///
    /// With --forward, --pass, --drop or --socket the rule has no backends. If neither address is given, it is added
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
    /// Of the rules that match a packet, the first one in the list takes it. Rules for IPv4 come before those for IPv6.
    /// The column of states is left out while all backends are up. Options narrow the list; if no
    /// backend is left, the exit code is 3.
    List(Filter),
    /// Take a server out of use: no new flows go there, and it is deleted once its connections are over.
    ///
    /// The server gets weight 0 in all of its rules at one moment. Connections that rules remember
    /// (--reply nat, --sticky) stay, and this waits for their end; what rules do not remember goes to other
    /// backends at once. A UDP flow is over 120 seconds after its last datagram, or 300 where it went both
    /// ways. At the timeout, and after Ctrl-C, the server stays as it is then, without new flows and without
    /// this command: run it again to go on, or give the server a weight with `rule add` to take it back.
    /// Options narrow the rules. If no rule has the server, the exit code is 3; if connections are left at
    /// the timeout, 1; after Ctrl-C, 130.
    Drain(RuleDrain),
    /// Say that a server is down, or up again, as a health check has found it.
    ///
    /// While a server is marked down, no packet goes there: new flows go to the other backends of its rules, and
    /// so do those that no rule remembers; its connections end, each with its next packet. Weights stay as they are:
    /// after `up`, the server takes flows as before. `rule add`, `rule refresh` and `rule load` of what `rule list
    /// --json` has printed keep the mark. All rules that have the server are changed at one moment; options narrow
    /// them. If none has it, the exit code is 3.
    Mark(RuleMark),
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
    /// marked_down, to_port, snat, snat_auto, reply, sticky, announce, hash, keep_ip, decrement_ttl, push_vlan, pop_vlans, too_long
    /// and origin. All lines and the limits are checked before the first rule is loaded. A rule that exists is
    /// replaced; the counters of backends that stay are kept. All rules are loaded at one moment: if the load is
    /// interrupted before, none is. At the end it warns, as `rule add` does, of what keeps packets from
    /// arriving.
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

    /// Share of the flows, relative to the rule's other backends, 0 to 65535; with 0 no new flow goes there,
    /// and connections that stand go on [default: 1; for an update, the weight that the backend has]
    #[arg(long, value_name = "N")]
    pub weight: Option<Weight>,

    /// What chooses one of the rule's backends (for all of them) [default: flow, or as the rule has it]
    #[arg(long, value_name = "OF", value_parser = hash())]
    pub hash: Option<HashOf>,

    /// What becomes of packets that are longer than the egress device's MTU [default: icmp, or as the
    /// rule has it]
    #[arg(long, value_name = "ACTION", value_parser = too_long(), conflicts_with_all = ["pass", "drop", "socket"])]
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

    /// Take the packets away from the host as long as `dump --rules` reads them at the interface where they
    /// arrive; otherwise they pass
    #[arg(long, group = "action", conflicts_with = "mac")]
    pub socket: bool,
}

/// What only a backend has.
const BACKEND_OPTIONS: [&str; 20] = [
    "server",
    "ifindex",
    "dev",
    "pid",
    "server_netns",
    "container",
    "weight",
    "hash",
    "to_port",
    "snat",
    "keep_ip",
    "reply",
    "sticky",
    "no_sticky",
    "announce",
    "no_announce",
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

    /// Give the packets this source address (for all backends of the rule); auto is the one by which this
    /// host reaches each backend. With --reply nat, which auto means, they also get a source port of their
    /// own: see `attach --snat-ports`
    #[arg(long, value_name = "ADDR|auto")]
    pub snat: Option<Snat>,

    /// Change the MAC addresses only, not the destination address: the server has that address itself
    /// (direct server return)
    #[arg(long, conflicts_with_all = ["to_port", "snat"])]
    pub keep_ip: bool,

    /// How answers come back; none and nat are for all backends of the rule [default: nat for UDP and TCP
    /// where this host can see the answers, otherwise none; for a rule that is there, as it is]
    #[arg(long, value_name = "HOW", value_parser = reply())]
    pub reply: Option<Reply>,

    /// Keep each flow at its backend when backends join, weights change or another backend leaves (for all
    /// backends of the rule). The program remembers flows of UDP and TCP for that; TCP with --reply nat is
    /// kept without this option, too
    #[arg(long)]
    pub sticky: bool,

    /// Take --sticky back (for all backends of the rule)
    #[arg(long, conflicts_with = "sticky")]
    pub no_sticky: bool,

    /// Answer ARP requests, neighbour solicitations and pings for the destination where the packets arrive,
    /// with the interface's MAC address: it is an address of the link there that no host has (for all
    /// backends of the rule)
    #[arg(long, requires = "dst")]
    pub announce: bool,

    /// Take --announce back (for all backends of the rule)
    #[arg(long, conflicts_with = "announce")]
    pub no_announce: bool,

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

#[derive(Args)]
pub struct RuleDrain {
    /// Address of the server
    #[arg(long, value_name = "ADDR")]
    pub server: IpAddr,

    /// Wait so long for the end of connections; 0 does not wait
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = parse_timeout)]
    pub timeout: Duration,

    #[command(flatten)]
    pub rules: RuleFilter,
}

#[derive(Args)]
pub struct RuleMark {
    /// What the server is
    #[arg(value_name = "down|up")]
    pub mark: ServerMark,

    /// Address of the server
    #[arg(long, value_name = "ADDR")]
    pub server: IpAddr,

    #[command(flatten)]
    pub rules: RuleFilter,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ServerMark {
    /// No packet goes there
    Down,
    /// It is a backend as before
    Up,
}

/// Narrows a list of rules and backends; without options, all are meant.
#[derive(Args)]
pub struct Filter {
    #[command(flatten)]
    pub rules: RuleFilter,

    /// Only backends with this address
    #[arg(long, value_name = "ADDR")]
    pub server: Option<IpAddr>,
}

/// Narrows a list of rules.
#[derive(Args)]
pub struct RuleFilter {
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
}

/// Takes the names of the protocols, and no others; help and completions list them.
pub(super) fn proto() -> impl TypedValueParser<Value = Proto> {
    one_of(Proto::ALL, Proto::name)
}

/// Takes the names of the ways in which answers come back.
fn reply() -> impl TypedValueParser<Value = Reply> {
    choice(Reply::ALL, Reply::name, |reply| match reply {
        Reply::None => {
            "With the server's own address, as it sends them: for senders that want no answer"
        }
        Reply::Nat => {
            "With the address and port that the client asked. The program is attached by itself where the \
             server's answers arrive at this host, and detached with the last rule that needs it there"
        }
        Reply::Direct => "The server has the address that the client asked: the same as --keep-ip",
    })
}

/// Takes the names of what chooses backends.
fn hash() -> impl TypedValueParser<Value = HashOf> {
    choice(HashOf::ALL, HashOf::name, |hash| match hash {
        HashOf::Flow => "All packets of a flow go to one: addresses, protocol, ports and VLAN",
        HashOf::Source => {
            "All flows of a source address go to one, whatever their ports: for games, TFTP, RTP, QUIC"
        }
        HashOf::Packet => {
            "Each datagram goes to any of them, for syslog and statsd: UDP alone, not sticky, and with --reply none, \
             which is then the default, or direct"
        }
    })
}

/// Takes the names of what becomes of packets that are too long.
fn too_long() -> impl TypedValueParser<Value = TooLong> {
    choice(TooLong::ALL, TooLong::name, |too_long| match too_long {
        TooLong::Icmp => "The sender is told the MTU, as a router does",
        TooLong::Pass => "They pass to the host",
        TooLong::Drop => "They are dropped",
    })
}

/// Takes the names of these values, and no others; help says something about each.
fn choice<T: Copy + Send + Sync + 'static, const N: usize>(
    all: [T; N],
    name: fn(T) -> &'static str,
    about: fn(T) -> &'static str,
) -> impl TypedValueParser<Value = T> {
    let value = |choice: T| PossibleValue::new(name(choice)).help(about(choice));
    values(all, name, all.map(value))
}

/// The same where the names say enough.
pub(super) fn one_of<T: Copy + Send + Sync + 'static, const N: usize>(
    all: [T; N],
    name: fn(T) -> &'static str,
) -> impl TypedValueParser<Value = T> {
    values(all, name, all.map(name).map(PossibleValue::new))
}

fn values<T: Copy + Send + Sync + 'static, const N: usize>(
    all: [T; N],
    name: fn(T) -> &'static str,
    values: [PossibleValue; N],
) -> impl TypedValueParser<Value = T> {
    let names = PossibleValuesParser::new(values);
    let named = move |given: String| all.into_iter().find(|choice| name(*choice) == given);
    names.map(move |given| named(given).expect("clap takes no other name"))
}

/// A time such as 5m; a number alone is seconds.
fn parse_timeout(text: &str) -> Result<Duration, String> {
    let seconds = || text.parse().ok().map(Duration::from_secs);
    let parsed = humantime::parse_duration(text).ok().or_else(seconds);
    let timeout = parsed.ok_or("a time such as 5m or 30s is needed")?;
    match timeout <= Duration::from_secs(7 * 24 * 60 * 60) {
        true => Ok(timeout),
        false => Err("longer than a week".into()),
    }
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
