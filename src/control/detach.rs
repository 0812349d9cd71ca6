//! Detaches the program from interfaces.

use anyhow::Result;

use crate::datapath::{self, Interface, Lock, Pins};
use crate::doctor::{self, Reverted};
use crate::error::{Exit, failure};
use crate::host::device;
use crate::model::{Purpose, Refusal, Remedy, Verb};

/// Where to detach.
#[derive(Clone, Debug)]
pub struct DetachRequest {
    /// The names of devices; None: all that are attached.
    pub interfaces: Option<Vec<String>>,
    /// Rules and counters stay after the last interface.
    pub keep_rules: bool,
    /// Those of the names that are attached are meant.
    pub if_exists: bool,
}

/// What was done, whatever failed after it.
pub struct DetachReport {
    pub detached: Vec<String>,
    /// Those of them where answers arrive that rules still have translated, and that the program sees nowhere else.
    pub untranslated: Vec<String>,
    /// What fixes had changed for the sake of rules, which are gone now.
    pub reverted: Reverted,
    /// An error where not everything was done; a refusal where an empty directory has to stay.
    pub cleared: Result<Option<Refusal>>,
    /// What is pinned still.
    pub left: Left,
}

/// What is left after interfaces are detached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    Nothing,
    /// The rules and counters that were to be kept.
    Rules,
    /// Other interfaces, or what could not be removed.
    More,
}

/// Detaches from the interfaces that are meant. With the last one that rules are for go those for answers,
/// and the rules, unless these are to be kept.
pub fn detach(pins: &Pins, request: &DetachRequest) -> Result<DetachReport> {
    let keep_rules = request.keep_rules;
    let lock = Lock::take_to_detach(pins)?;
    let all = datapath::interfaces(pins)?;
    let mut which = match &request.interfaces {
        None => all.clone(),
        Some(names) if request.if_exists => {
            let names = names.iter().filter(|name| is_one_of(&all, name));
            named(all.clone(), &names.cloned().collect::<Vec<_>>())?
        }
        Some(names) => named(all.clone(), names)?,
    };
    let is_last = !all
        .iter()
        .any(|other| serves_rules(other) && !has(&which, other));
    let mut reverted = Reverted::default();
    if is_last && !keep_rules {
        // What was changed for the sake of rules stays as long as they.
        reverted = revert(pins, &lock);
    }
    if is_last {
        which = datapath::interfaces(pins)?;
    }
    let mut detached = Vec::new();
    let done = which.iter().try_for_each(|interface| {
        datapath::detach(pins, interface)?;
        detached.push(interface.name());
        Ok(())
    });
    let untranslated = match is_last {
        true => Vec::new(),
        false => datapath::unseen_at(pins, &lock, &which)?,
    };
    let cleared = done.and_then(|()| datapath::clear(pins, keep_rules));
    let left = if !pins.root().exists() {
        Left::Nothing
    } else if keep_rules && datapath::attached(pins).is_ok_and(|all| all.is_empty()) {
        Left::Rules
    } else {
        Left::More
    };
    Ok(DetachReport {
        detached,
        untranslated,
        reverted,
        cleared,
        left,
    })
}

fn serves_rules(interface: &Interface) -> bool {
    interface.purpose == Purpose::Rules
}

fn has(all: &[Interface], interface: &Interface) -> bool {
    all.iter().any(|other| other.ifindex == interface.ifindex)
}

/// What cannot be reverted keeps nobody from detaching.
fn revert(pins: &Pins, lock: &Lock) -> Reverted {
    doctor::undo(pins, lock).unwrap_or_else(|error| Reverted {
        errors: vec![error],
        ..Reverted::default()
    })
}

/// The interfaces with these names, each of which has to be attached.
pub(super) fn named(mut all: Vec<Interface>, names: &[String]) -> Result<Vec<Interface>> {
    for name in names {
        if !is_one_of(&all, name) {
            let status = Remedy::from(Verb::Plain("status")) + " shows what is";
            return Err(failure(
                Exit::NotFound,
                (format!("{name}: not attached"), status),
            ));
        }
    }
    all.retain(|interface| names.iter().any(|name| is_named(interface, name)));
    Ok(all)
}

fn is_one_of(all: &[Interface], name: &str) -> bool {
    all.iter().any(|interface| is_named(interface, name))
}

/// `attach` takes any name of a device (`ip link property add … altname`), so this does, too.
fn is_named(interface: &Interface, name: &str) -> bool {
    let is_here = || device::by_name(name).is_ok_and(|device| device.ifindex == interface.ifindex);
    interface.answers_to(name) || !interface.moved && is_here()
}
