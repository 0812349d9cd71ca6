//! Changes that end unless somebody confirms them. A timer of systemd takes them back: nobody's session has to
//! live so long.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use nix::unistd::geteuid;

use crate::datapath::{Lock, Pins, RuleStore, Trial, Unconfirmed};
use crate::error::{Exit, failure};
use crate::host::namespaces::Namespaces;
use crate::host::{netns, timer};
use crate::model::{Remedy, Verb};

/// How long a change lives that nobody confirms.
pub struct TrialRequest<'a> {
    pub within: Duration,
    /// The command that takes it back, in the network namespace of this path, or in that of the first process. It is
    /// given what `rollback` takes as `unless_confirmed`.
    pub take_back: &'a dyn Fn(Option<PathBuf>, u64) -> Result<Vec<OsString>>,
}

/// Prepares that a change ends unless somebody confirms it. Fails where nothing would end it.
pub fn trial(pins: &Pins, request: &TrialRequest) -> Result<Trial> {
    if let Some(why) = timer::refusal() {
        return Err(unsupported(why));
    }
    if !geteuid().is_root() {
        let why = "what is not confirmed is taken back by a timer, which only root can start";
        return Err(failure(Exit::Permission, why));
    }
    if !timer::sees(pins.root().parent().unwrap_or(pins.root()))? {
        let why = format!(
            "systemd sees another directory as {}",
            pins.root().display()
        );
        return Err(unsupported(&why));
    }
    let (namespace, within) = (namespace()?, request.within);
    let token = fastrand::u64(1..);
    let argv = (request.take_back)(namespace, token)?;
    let cookie = netns::cookie()?;
    let begin = move |revision: u64| {
        let pid = process::id();
        let unit = format!("xdpredir-netns-{cookie}-revision-{revision}-unless-confirmed-{pid}");
        timer::run_after(&unit, within, &argv)
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let until = (now.unwrap_or_default() + within).as_secs();
    Ok(Trial {
        unconfirmed: Unconfirmed { until, token },
        begin: Box::new(begin),
    })
}

/// The path of this network namespace; None: it is that of the first process, too.
fn namespace() -> Result<Option<PathBuf>> {
    if netns::is_current(&netns::of_process(1)?)? {
        return Ok(None);
    }
    let found = Namespaces::with_name(netns::cookie()?);
    let none = || unsupported("this network namespace has no name by which a timer would find it");
    found.map(Some).ok_or_else(none)
}

fn unsupported(why: &str) -> anyhow::Error {
    let remedy =
        Remedy::from("in a session that nothing cuts off, as in tmux, run `sleep 60` and ")
            + Verb::Plain("rollback")
            + " after it";
    failure(Exit::Unsupported, (why.to_string(), remedy))
}

/// Makes the live revision one that stays, and returns its number.
pub fn confirm(pins: &Pins) -> Result<u64> {
    let lock = Lock::take(pins)?;
    let store = RuleStore::open(pins)?;
    let revision = store.revision()?;
    if store.unconfirmed()?.is_none() {
        let why = format!("revision {revision} needs no confirmation");
        let remedy = Remedy::from(Verb::Plain("history")) + " shows what there is";
        return Err(failure(Exit::NotFound, (why, remedy)));
    }
    store.confirm(&lock)?;
    Ok(revision)
}
