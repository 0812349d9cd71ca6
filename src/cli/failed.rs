//! Errors in the words of the command line: what was typed wrong, by its option, and what helps.

use std::error::Error;

use xdpredir::control::{self, Field};
use xdpredir::datapath;
use xdpredir::error::{self, Failure, join_lines};
use xdpredir::host::{capability, discovery};
use xdpredir::model::Refusal;

use super::grammar::{Chain, Command, Doctor};

/// An error on one line, with what the command needs where the kernel or the file system refused.
pub fn failed(error: &anyhow::Error, command: &Command) -> Refusal {
    let refusal = explained(error);
    if !datapath::is_refused(error) {
        return refusal;
    }
    let needs = needs(command);
    (format!("{}: {}", refusal.why, needs.why), needs.remedy).into()
}

/// An error on one line, and its remedy.
pub fn explained(error: &anyhow::Error) -> Refusal {
    (causes(error), error::remedy(error)).into()
}

/// The whole chain of causes on one line.
pub fn causes(error: &anyhow::Error) -> String {
    let causes: Vec<String> = error.chain().map(cause).collect();
    join_lines(&causes.join(": "))
}

fn cause(error: &(dyn Error + 'static)) -> String {
    let failure = error.downcast_ref::<Failure>();
    let explained = failure.and_then(|failure| {
        let discovery = failure.typed().map(discovery);
        let control = || failure.typed().map(control);
        let datapath = || failure.typed().map(datapath);
        discovery.or_else(control).or_else(datapath)
    });
    explained.unwrap_or_else(|| error.to_string())
}

fn control(error: &control::Error) -> String {
    use control::Error;
    match error {
        Error::Value { field, value, why } => format!("{} {value}: {why}", option(*field)),
        Error::WhichBackend => "which backend? --server ADDR is missing; --container, --pid, \
            --server-netns, or --dev of a veth find it"
            .into(),
        Error::WhichSource => format!("{error}: give it with each server, or with --src"),
        Error::KeepsIp(proto) => {
            let why = control::why_not_rewritten(*proto);
            format!("--proto {proto}: {why}: redirect them with --keep-ip")
        }
        Error::NoDevice(_) | Error::NoGroup(_) => format!("--{error}"),
        Error::NoRule(_) | Error::NoConnection(_) | Error::HasBackends(..) | Error::Taken(_) => {
            error.to_string()
        }
    }
}

fn option(field: Field) -> &'static str {
    match field {
        Field::Server => "--server",
        Field::Dst => "--dst",
        Field::Src => "--src",
        Field::Proto => "--proto",
        Field::Port => "--port",
        Field::InnerVlan => "--inner-vlan",
        Field::Forward => "--forward",
        Field::Snat => "--snat",
        Field::Reply => "--reply",
        Field::Announce => "--announce",
        Field::Hash => "--hash",
        Field::Device | Field::Origin => "--dev",
        Field::Pid => "--pid",
        Field::Netns => "--server-netns",
        Field::Container => "--container",
    }
}

fn datapath(error: &datapath::Error) -> String {
    use datapath::Error;
    match error {
        Error::Dotted(_) => format!("--pin-dir {error}"),
        Error::Untrusted { .. } => format!("{error} (--pin-dir)"),
        Error::Impassable { .. } => {
            format!("--group: {error} with --pin-dir, or leave --pin-dir out")
        }
        Error::Ledger { .. } => format!("{error}; attach --no-ledger goes without"),
    }
}

fn discovery(error: &discovery::Error) -> String {
    use discovery::Error;
    let (option, remedy) = match error {
        Error::OwnAddress(_) => ("--server ", "name another host's"),
        Error::NoRoute(_) => ("--server ", "give --mac and --dev"),
        Error::LinkLocal(_) => ("--server ", "name that with --dev"),
        Error::NoEthernet { .. } => (
            "--server ",
            "use an address that an Ethernet device leads to, or give --mac and --dev",
        ),
        Error::NoAnswer { .. } => ("--server ", "is it up? Or give --mac"),
        Error::UnknownPort { .. } => ("--server ", "is it up? Or give --dev"),
        Error::OwnNamespace { .. } => ("", "give --server and --dev"),
        Error::NoPeer { .. } => ("", "give --server with --mac and --dev"),
        Error::NotAPair { .. } => ("--dev ", "give --server, too"),
        Error::SeveralAddresses { .. } => ("", "name one with --server"),
        Error::NoEngine { .. } => ("", "give --pid or --server-netns"),
    };
    format!("{option}{error}: {remedy}")
}

/// What this process lacks for a command, and the remedy.
fn needs(command: &Command) -> Refusal {
    match command {
        Command::Rule(_)
        | Command::Flow(_)
        | Command::History
        | Command::Rollback(_)
        | Command::Stats(_)
        | Command::Status
        | Command::Policy(_)
        | Command::Doctor(Doctor {
            fix: false,
            undo: false,
            ..
        })
        | Command::Apply(_)
        | Command::Diff(_)
        | Command::Export(_)
        | Command::Chain(Chain::List { .. }) => {
            "needs root, or membership in the group that attach was given with --group".into()
        }
        Command::Features(_) => "needs root (CAP_SYS_ADMIN) to enter network namespaces".into(),
        Command::Attach(_) | Command::Upgrade => capability::refused_to_attach()
            .unwrap_or_else(|| "needs root, or write access to the pin directory".into()),
        Command::Detach(_) => "needs root, or write access to the pin directory".into(),
        Command::Dump(_) => capability::refused_to_attach()
            .unwrap_or_else(|| "needs root (CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF)".into()),
        Command::Explain(_) | Command::Capture(_) | Command::Chain(_) => {
            "needs root (CAP_SYS_ADMIN, CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON)".into()
        }
        Command::Lab(_) => "needs root (CAP_SYS_ADMIN, CAP_NET_ADMIN)".into(),
        Command::Doctor(_) | Command::Completions { .. } => "needs root".into(),
    }
}
