//! Interfaces that are attached for answers alone. Where rules have answers translated, the program has to
//! see them: a change of the rules attaches it where they arrive before it is published, and takes it away
//! again once no rule needs it there.

use std::collections::BTreeSet;

use anyhow::{Context, Error, Result};

use super::attach::attach_for_answers;
use super::interface::Interface;
use super::log::{Notice, say};
use super::program::Exchange;
use super::stances::{Stances, interfaces};
use super::{Lock, Pins, RuleStore, attachment, detach};
use crate::error::{Exit, failure, one_line};
use crate::host::capability;
use crate::host::device::{self, Device};
use crate::model::{AnswerInterface, LinkState, Policy, Purpose, Refusal, Remedy, Verb};

/// What a change attaches. It is taken away again if the change is not published.
pub(super) struct Attaching<'a> {
    pins: &'a Pins,
    lock: &'a Lock,
    /// What else the change makes of interfaces.
    pub stances: Stances,
    new: Vec<AnswerInterface>,
    /// Those where rules are for no longer, and answers still arrive.
    kept: Vec<AnswerInterface>,
}

impl<'a> Attaching<'a> {
    pub fn new(pins: &'a Pins, lock: &'a Lock, stances: Stances) -> Self {
        Attaching {
            pins,
            lock,
            stances,
            new: Vec::new(),
            kept: Vec::new(),
        }
    }

    /// Has the program see the answers that arrive at a device. A device that is gone has none.
    pub fn see(&mut self, ifindex: u32) -> Result<()> {
        let Some(device) = device::by_index(ifindex)? else {
            return Ok(());
        };
        let interfaces = self.stances.interfaces(self.pins)?;
        if is_seen(self.pins, &interfaces, &device)? {
            return Ok(());
        }
        let unseen = || format!("answers arrive at {}, unseen", device.name);
        if self.stances.ends(ifindex) {
            return self.keep_seeing(&device).with_context(unseen);
        }
        let mode = may_attach(&device)
            .and_then(|()| attach_for_answers(self.pins, self.lock, &device, &interfaces))
            .with_context(unseen)?;
        self.new.push(AnswerInterface {
            ifname: device.name,
            ifindex,
            mode: mode.0,
            reason: mode.1,
        });
        Ok(())
    }

    /// Keeps an interface that the change would end, for answers alone.
    fn keep_seeing(&mut self, device: &Device) -> Result<()> {
        let all = interfaces(self.pins)?;
        let ended = all.iter().find(|i| i.ifindex == device.ifindex);
        let ended = ended.context("an interface that ends is attached")?;
        Exchange::for_answers(self.pins, ended.ifindex)?.make(self.pins)?;
        self.stances
            .set(ended.ifindex, &Policy::Pass, Purpose::Answers);
        self.kept.push(AnswerInterface {
            ifname: device.name.clone(),
            ifindex: ended.ifindex,
            mode: ended.mode,
            reason: "it was attached for rules before".into(),
        });
        Ok(())
    }

    /// Keeps what was attached.
    pub fn keep(mut self) -> Vec<AnswerInterface> {
        let mut all = std::mem::take(&mut self.new);
        all.append(&mut self.kept);
        all
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
fn is_seen(pins: &Pins, interfaces: &[Interface], device: &Device) -> Result<bool> {
    let places = places(device);
    for interface in interfaces {
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

/// Those of some interfaces, from which the program was taken, where answers arrive that it sees nowhere else.
pub fn unseen_at(pins: &Pins, _: &Lock, detached: &[Interface]) -> Result<Vec<String>> {
    let mut left = interfaces(pins)?;
    left.retain(|other| detached.iter().all(|i| i.ifindex != other.ifindex));
    let mut unseen = BTreeSet::new();
    for ifindex in RuleStore::open(pins)?.answers_by()? {
        let Some(device) = device::by_index(ifindex)? else {
            continue;
        };
        if !is_seen(pins, &left, &device)? {
            unseen.extend(places(&device));
        }
    }
    let unseen = detached.iter().filter(|i| unseen.contains(&i.ifindex));
    Ok(unseen.map(Interface::name).collect())
}

/// The interfaces that are attached for answers alone.
fn serving(pins: &Pins) -> Result<Vec<Interface>> {
    let mut all = interfaces(pins)?;
    all.retain(|interface| interface.purpose == Purpose::Answers);
    Ok(all)
}

fn take_away(pins: &Pins, interface: &Interface) -> Result<()> {
    detach::detach(pins, interface)?;
    attachment::remove_pins(pins, interface.ifindex)
}
