//! The grammar of the command line. The doc comments are the texts of `--help`.

mod apply;
mod capture;
mod chain;
mod dump;
mod explain;
mod flow;
mod packets;
mod rule;

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;
use xdpredir::lab;
use xdpredir::model::{PolicySpec, SourcePorts, TableSize};

pub use self::apply::{Apply, Diff, Export, Format, Reading};
pub use self::capture::{Capture, Packets, Stage};
pub use self::chain::{Chain, ChainAdd};
pub use self::dump::{Dump, Queue, XdpMode};
pub use self::explain::Explain;
pub use self::flow::{Flow, FlowDel, FlowFilter};
pub use self::packets::PacketFilter;
pub use self::rule::{
    Action, Filter, Match, Rewrite, Rule, RuleAdd, RuleDel, RuleDrain, RuleFilter, RuleMark,
    ServerMark,
};

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
5 no permission; 6 not supported by this kernel, device or version; 7 doctor found problems, diff a difference, \
or explain a packet that would not be redirected; \
130 Ctrl-C ended `rule drain`, or a run whose output nobody reads";

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
    /// Take over what another version of this command attached, without losing a packet.
    ///
    /// The programs of all interfaces are replaced by those of this version, in one step for each, on the
    /// same maps: rules, connections and counters stay. `attach` does so, too. It is refused where this
    /// version would misread the maps.
    Upgrade,
    /// Show the attached interfaces, their modes and program ids, and how many rules and connections there are
    Status,
    /// Show what devices can do with XDP and what they are connected to
    Features(Features),
    /// Make the network namespace what files say: its interfaces, their policies and its rules.
    ///
    /// Rules that are in no file are deleted. Where a file says which interfaces there are, others are detached; where
    /// none does, interfaces stay as they are. All is checked and found before the first change, and packets see the
    /// rules as they were or as they are to be. Counters and connections of backends that stay are kept. Prints what
    /// has changed.
    ///
    /// A file is TOML or JSON: `export` prints one, `export --schema` its schema. What `rule list --json` prints is
    /// taken, too, and arrays of objects with server, mac and ifindex. Backends are found again by their container,
    /// network namespace or route, or by the name of their device, so that files outlive a reboot.
    Apply(Apply),
    /// Show what `apply` would change, and change nothing. If all is as the files say, the exit code is 0, otherwise 7
    Diff(Diff),
    /// Print what there is as a file for `apply`
    Export(Export),
    /// Find out why packets do not arrive.
    ///
    /// Each finding says what goes wrong, how doctor knows, and which command helps. A problem means
    /// that packets are lost, or not redirected, now; any problem makes the exit code 7. A warning
    /// means that this can happen, or has happened.
    Doctor(Doctor),
    /// Show what would become of a packet, and why.
    ///
    /// The interface's own program decides about it, on the rules and connections that there are, and nothing is
    /// counted, learned or sent. Frames of a file are explained in their order: each meets the connections that
    /// those before it would have begun. With --json, each is one object on a line. The exit code is 0 where
    /// packets would be redirected or forwarded, and 7 where one would not.
    Explain(Explain),
    /// Show packets as they arrive at interfaces, as they leave, and which of those the kernel loses.
    ///
    /// tcpdump does not see redirected packets. Each line has the time, the stage, the device, the packet, and what
    /// became of it; with --json it is an object. With --write, Wireshark shows the rest, too: the outcome, the rule
    /// and the backend stand in each frame's comment, and devices have their stages in their names. `--write - |
    /// tcpdump -r -` works, and so does `wireshark -k -i -`.
    ///
    /// Packets go their way as without a capture. It lasts until Ctrl-C, or --count, and nothing of it is left then, or
    /// when it is killed. What comes faster than it is read is left out, and counted at the end.
    Capture(Capture),
    /// Take frames away from the host, and show them, until Ctrl-C.
    ///
    /// The frames that arrive at an interface, or those of them that options name, are taken by sockets (AF_XDP), one
    /// for each queue, before any rule and the host's network stack see them. All others go their way, and once this
    /// run has ended, in whatever way, all of them do. The interface may be attached or not. Each frame is a line
    /// with the time when it was read, in UTC, and its queue. At the end it says how many frames came faster than they
    /// were read: these are lost.
    Dump(Dump),
    /// Add, delete, list and load rules, and find their backends again
    #[command(subcommand)]
    Rule(Rule),
    /// List, count and end the connections that rules remember
    #[command(subcommand)]
    Flow(Flow),
    /// Show the changes of rules and interfaces: when, who, and what; the last one first
    History,
    /// Make rules and interfaces what they were after an earlier change, or before the last one
    Rollback(Rollback),
    /// Have other people's XDP programs asked before ours on an interface.
    ///
    /// A packet that one passes is handed on to the next one, and at last to ours; anything else is its verdict. They
    /// are called by an entry program that takes our program's place while there are some, in one step.
    #[command(subcommand)]
    Chain(Chain),
    /// Show packets and bytes by interface, outcome and backend, and what became of connections
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

    /// Let members of this group change and show rules and policies without root, and take changes back: `rule`,
    /// `policy`, `apply`, `diff`, `export`, `flow`, `history`, `rollback`, `stats`, `status` and `doctor`
    #[arg(long, value_hint = ValueHint::Other)]
    pub group: Option<String>,

    /// Replace an XDP program of somebody else that is attached there
    #[arg(long)]
    pub force: bool,

    /// Have an XDP program of somebody else that is attached there asked before ours, as `chain add` does. Ours takes
    /// its place in one step, so that packets meet it all the time, and `detach` puts it back in one step
    #[arg(long, conflicts_with = "force")]
    pub chain_foreign: bool,

    /// The priority of ours among the programs of libxdp's dispatcher (`xdp-loader`), which ours joins where it is
    /// attached: programs with a lower one come before ours [default: 50]
    #[arg(long, value_name = "N", conflicts_with_all = ["force", "chain_foreign"],
        value_parser = clap::value_parser!(u32).range(1..))]
    pub priority: Option<u32>,

    /// Do not count the frames that the kernel loses after the redirect
    #[arg(long)]
    pub no_ledger: bool,

    /// What becomes of frames that no rule matches, whatever is in them: they go to the host's network
    /// stack, are dropped, or leave by another device as they are [default: pass]
    #[arg(long, value_name = "pass|drop|forward:DEV", value_hint = ValueHint::Other)]
    pub policy: Option<PolicySpec>,

    /// Remember so many connections at most, for all interfaces of this network namespace: up to 4,194,304, rounded
    /// up to 8,192 times a power of two. A million take 264 MiB of memory, from the first rule that remembers
    /// connections [default: 262,144, which take 66 MiB]
    #[arg(long, value_name = "N")]
    pub connections: Option<TableSize>,

    /// The source ports that connections get whose source becomes another address (`rule add --snat`), or
    /// that the server could not tell from others. It is for all interfaces, and at once. This host's own
    /// connections should have no port of it (net.ipv4.ip_local_port_range) [default: 10000-32767, or as it is]
    #[arg(long, value_name = "A-B")]
    pub snat_ports: Option<SourcePorts>,
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
    /// tc: in the network stack, behind generic XDP, on any Ethernet device. Large segments of local
    /// senders and VMs are redirected whole
    Tc,
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

    /// Exit with 0 also where there is nothing to detach from
    #[arg(long)]
    pub if_exists: bool,
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

#[derive(Args)]
pub struct Rollback {
    /// The number of the change after which all was as you want it again, from `history` [default: the change before
    /// the last one]
    #[arg(value_name = "REVISION")]
    pub revision: Option<u64>,

    /// Take back the change that `apply --confirm` made with this TOKEN, unless somebody has confirmed it, or taken it
    /// back. The timer that `apply` starts runs this
    #[arg(long, value_name = "TOKEN", conflicts_with = "revision")]
    pub unless_confirmed: Option<u64>,
}

#[derive(Args)]
pub struct Stats {
    /// Repeat every second, or at an interval such as 500ms, and show rates per second. On a terminal, backends that
    /// lose packets come first, then the busiest; / filters rows, s sorts them, arrows scroll, and q ends it
    #[arg(long, value_name = "INTERVAL", num_args = 0..=1, default_missing_value = "1s", value_parser = parse_interval)]
    pub watch: Option<Duration>,

    /// Show what each CPU has counted, too
    #[arg(long)]
    pub per_cpu: bool,

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

fn parse_interval(text: &str) -> Result<Duration, String> {
    let seconds = || Duration::try_from_secs_f64(text.parse().ok()?).ok();
    let parsed = humantime::parse_duration(text).ok().or_else(seconds);
    let interval = parsed.ok_or("a time such as 1s or 500ms is needed")?;
    if interval < Duration::from_millis(10) {
        return Err("shorter than 10ms".into());
    }
    if interval > Duration::from_secs(24 * 60 * 60) {
        return Err("longer than a day".into());
    }
    Ok(interval)
}
