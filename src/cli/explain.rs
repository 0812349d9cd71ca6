//! Errors in the words of the command line: what was typed wrong, by its option, and what helps.

use std::error::Error;

use xdpredir::control::{self, Field};
use xdpredir::datapath::{self, NoBpffs, Remedy};
use xdpredir::error::{Exit, Failure, join_lines};
use xdpredir::host::discovery;
use xdpredir::model::Mode;

use super::grammar::Command;
use super::needs;

/// An error on one line, with what the command needs where the kernel or the file system refused.
pub fn line(error: &anyhow::Error, command: &Command) -> String {
    let line = causes(error);
    if datapath::is_refused(error) {
        return format!("{line}: {}", needs::of(command));
    }
    line
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
        Error::NoDevice(_) => format!("--{error}; `ip link` lists them"),
        Error::NoRule(_) => format!("{error}; `xdpredir rule list` shows what there is"),
    }
}

fn option(field: Field) -> &'static str {
    match field {
        Field::Server => "--server",
        Field::Src => "--src",
        Field::Snat => "--snat",
        Field::Device | Field::Origin => "--dev",
        Field::Pid => "--pid",
        Field::Netns => "--server-netns",
        Field::Container => "--container",
    }
}

fn datapath(error: &datapath::Error) -> String {
    use datapath::Error;
    match error {
        Error::NoBpffs(why) | Error::NotAttached(why) => format!("{error}{}", outside(why)),
        Error::Dotted(_) => format!("--pin-dir {error}"),
        Error::Untrusted { .. } => format!("{error} (--pin-dir)"),
        Error::Impassable { .. } => {
            format!("--group: {error} with --pin-dir, or leave --pin-dir out")
        }
        Error::Occupied { .. } => format!("{error}, or replace it with --force"),
        Error::OtherMode { device, .. } => {
            format!("{error}: to change it, `xdpredir detach {device} --keep-rules` first")
        }
        Error::MasterFirst { device, master, .. } => format!(
            "{error}; `xdpredir detach {master} --keep-rules` first, then attach {device} and {master} at once"
        ),
        Error::Refused {
            mode: Mode::Native,
            exit: Exit::Unsupported,
            ..
        } => format!("{error}; --mode skb works on any device"),
        Error::Refused { .. } => error.to_string(),
        Error::Ledger { .. } => format!("{error}; attach --no-ledger goes without"),
    }
}

/// Why there is no bpffs, and what helps.
pub fn no_bpffs(why: &NoBpffs) -> String {
    format!("{why}{}", outside(why))
}

/// What does outside of `ip netns exec` what that does.
fn outside(why: &NoBpffs) -> &'static str {
    match why.remedy {
        Remedy::OtherMounts => ", with --netns",
        Remedy::OtherDirectory => " with --pin-dir",
        Remedy::Mount => "",
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
