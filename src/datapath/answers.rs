//! Interfaces that are attached for answers alone. Where rules have answers translated, the program has to
//! see them: a change of the rules attaches it where they arrive before it is published, and takes it away
//! again once no rule needs it there.

use std::collections::BTreeSet;

use anyhow::{Context, Error, Result};

use super::attach::attach_for_answers;
use super::bpffs::remove_tree;
use super::interface::{Interface, interfaces};
use super::log::{Notice, say};
use super::{Lock, Pins, RuleStore, detach};
use crate::error::{Exit, failure, one_line};
use crate::host::capability;
use crate::host::device::{self, Device};
use crate::model::{AnswerInterface, ForAnswers, LinkState, Purpose, Refusal, Remedy, Verb};

/// What a change attaches. It is taken away again if the change is not published.
pub struct Attaching<'a> {
    pins: &'a Pins,
    lock: &'a Lock,
    new: Vec<AnswerInterface>,
}

impl<'a> Attaching<'a> {
    pub fn new(pins: &'a Pins, lock: &'a Lock) -> Self {
        let new = Vec::new();
        Attaching { pins, lock, new }
    }

    /// Has the program see the answers that arrive at a device. A device that is gone has none.
    pub fn see(&mut self, ifindex: u32) -> Result<()> {
        let Some(device) = device::by_index(ifindex)? else {
            return Ok(());
        };
        if is_seen(self.pins, &device)? {
            return Ok(());
        }
        let attached = may_attach(&device)
            .and_then(|()| attach_for_answers(self.pins, self.lock, &device))
            .with_context(|| format!("answers arrive at {}, unseen", device.name))?;
        self.new.push(AnswerInterface {
            ifname: device.name,
            ifindex,
            mode: attached.mode,
            reason: attached.reason,
        });
        Ok(())
    }

    /// Keeps what was attached.
    pub fn keep(mut self) -> Vec<AnswerInterface> {
        std::mem::take(&mut self.new)
    }
}

impl Drop for Attaching<'_> {
    fn drop(&mut self) {
        let all = match self.new[..] {
            [] => return,
            _ => interfaces(self.pins).unwrap_or_default(),
        };
        let is_new = |i: &&Interface| self.new.iter().any(|new| new.ifindex == i.ifindex);
        for interface in all.iter().filter(is_new) {
            let _ = take_away(self.pins, interface);
        }
    }
}

/// What comes in by a port of a bridge is seen on the bridge, too, where it is meant for this host. An
/// interface that rules are for stays the user's, in whatever state it is.
fn is_seen(pins: &Pins, device: &Device) -> Result<bool> {
    let places = places(device);
    for interface in interfaces(pins)? {
        if !places.contains(&interface.ifindex) {
            continue;
        }
        // Members of a group can't ask for the state.
        let state = interface.ids(pins).map(|ids| ids.state);
        let is_there = state.map_or(true, |state| state == LinkState::Attached);
        if is_there || interface.purpose == Purpose::Rules {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The interfaces that see what arrives at a device.
fn places(device: &Device) -> BTreeSet<u32> {
    BTreeSet::from_iter([Some(device.ifindex), device.master].into_iter().flatten())
}

/// Those that see what arrives at some devices.
fn places_of(devices: &BTreeSet<u32>) -> Result<BTreeSet<u32>> {
    let mut all = devices.clone();
    for &ifindex in devices {
        let device = device::by_index(ifindex)?;
        all.extend(device.iter().flat_map(places));
    }
    Ok(all)
}

/// Exit 5 before anything is tried that members of a group may not do.
fn may_attach(device: &Device) -> Result<()> {
    let Some(Refusal { why, .. }) = capability::refused_to_attach() else {
        return Ok(());
    };
    let why = format!("to attach it there needs root: {why}");
    let attach = Remedy::from("let root run ") + Verb::attach(&device.name);
    Err(failure(Exit::Permission, (why, attach)))
}

/// Notes which interfaces a change may leave without a rule, before it is published: should this run be
/// killed, the next change looks at them.
pub fn expect_less(pins: &Pins, devices: &BTreeSet<u32>) -> Result<()> {
    let serving = serving(pins)?;
    if devices.is_empty() || serving.is_empty() {
        return Ok(());
    }
    let places = places_of(devices)?;
    let mut fewer = serving.iter().filter(|i| places.contains(&i.ifindex));
    fewer.try_for_each(|interface| interface.set_unsettled(pins, true))
}

/// Takes away the interfaces that no rule needs any more, of those that changes have noted. `needed` are
/// devices that the change has just made rules need. The rest of the rules is read only where that is
/// not enough. The names of those that are detached. The rules are published: what fails is no failure of
/// theirs.
pub fn settle(store: &RuleStore, pins: &Pins, needed: &BTreeSet<u32>) -> Vec<String> {
    let settled = try_to_settle(store, pins, needed);
    settled.unwrap_or_else(|error| {
        let why = one_line(&error);
        say(Notice::Warning(format!(
            "cannot tell which interfaces are needed for answers: {why}"
        )));
        Vec::new()
    })
}

fn try_to_settle(store: &RuleStore, pins: &Pins, needed: &BTreeSet<u32>) -> Result<Vec<String>> {
    let mut unsettled = Vec::new();
    for interface in serving(pins)? {
        // Another device may have the index of one that was moved.
        let is_gone = interface.moved || device::name_of(interface.ifindex).is_none();
        if is_gone || interface.is_unsettled(pins)? {
            unsettled.push(interface);
        }
    }
    if unsettled.is_empty() {
        return Ok(Vec::new());
    }
    let mut places = places_of(needed)?;
    if !unsettled.iter().all(|i| places.contains(&i.ifindex)) {
        places = places_of(&store.answers_by()?)?;
    }
    let mut detached = Vec::new();
    for interface in unsettled {
        if places.contains(&interface.ifindex) && !is_lost(pins, &interface) {
            interface.set_unsettled(pins, false)?;
            continue;
        }
        let name = interface.name();
        match take_away(pins, &interface) {
            Ok(()) => detached.push(name),
            Err(error) => say(still_attached(&name, &error)),
        }
    }
    Ok(detached)
}

/// Whether its device is gone or moved.
fn is_lost(pins: &Pins, interface: &Interface) -> bool {
    let ids = interface.ids(pins);
    ids.is_ok_and(|ids| matches!(ids.state, LinkState::Gone | LinkState::Moved))
}

/// The rules are as they are to be all the same.
fn still_attached(name: &str, error: &Error) -> Notice {
    let why = one_line(error);
    Notice::Warning(format!(
        "{name} stays attached for answers, which no rule needs any more: {why}"
    ))
}

/// Attaches where the rules need it that were kept when nothing was attached any more. Where that fails,
/// doctor says so.
pub fn attach_again(pins: &Pins, lock: &Lock) -> Result<ForAnswers> {
    let store = RuleStore::open(pins)?;
    let needed = store.answers_by()?;
    let mut attaching = Attaching::new(pins, lock);
    for &ifindex in &needed {
        let _ = attaching.see(ifindex);
    }
    let attached = attaching.keep();
    let detached = settle(&store, pins, &needed);
    Ok(ForAnswers { attached, detached })
}

/// The indexes of the interfaces where rules need the program for answers.
pub fn needed_for_answers(pins: &Pins, _: &Lock) -> Result<BTreeSet<u32>> {
    places_of(&RuleStore::open(pins)?.answers_by()?)
}

/// The interfaces that are attached for answers alone.
fn serving(pins: &Pins) -> Result<Vec<Interface>> {
    let mut all = interfaces(pins)?;
    all.retain(|interface| interface.purpose == Purpose::Answers);
    Ok(all)
}

fn take_away(pins: &Pins, interface: &Interface) -> Result<()> {
    detach::detach(pins, interface)?;
    remove_tree(&pins.interface(interface.ifindex))
}
