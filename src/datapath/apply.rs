//! Interfaces, their policies and the rules change at one instant.
//!
//! What is slow and what can fail comes first: programs are loaded, and attached where they do nothing yet, and
//! the rules are staged. Then one write publishes all of it. What is taken off is taken off after it, when it
//! does nothing any more. A run that is killed leaves the old state or the new one, and programs that do
//! nothing, which the next one takes off.

use std::collections::{BTreeSet, HashSet};

use anyhow::{Error, Result};
use nix::unistd::Gid;

use super::attach::{Attached, Report};
use super::attachment;
use super::cause::exit_code;
use super::flow_table::{self, Resize};
use super::foreign::Replaced;
use super::interface::Interface;
use super::kernel_layout::LinkLayout;
use super::locate::Mounted;
use super::lock::Lock;
use super::log::{Notice, say};
use super::program::{Exchange, Loaded, Means};
use super::ruleset::slots::Slots;
use super::signals::Uninterrupted;
use super::stances::{self, Stances, interfaces};
use super::state::has_state;
use super::upgrade::take_over;
use super::{Pins, RuleStore, Transaction, detach, permissions, policy};
use crate::error::{Exit, failure, one_line};
use crate::host::device::Device;
use crate::model::{
    Command, ForAnswers, LedgerState, LinkState, Mode, Plan, Policy, Purpose, Remedy, SourcePorts,
    TableSize, Verb,
};

/// An interface as it is to be.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub device: Device,
    /// None: the one that pays, or the one that it has.
    pub mode: Option<Mode>,
    /// Ask the kernel what becomes of redirected frames.
    pub ledger: bool,
    /// What becomes of the frames that no rule matches; None: they pass, or what it is where the program
    /// is attached already.
    pub policy: Option<Policy>,
    pub others: Others,
}

/// What becomes of another XDP program that is attached there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// It stays. If it is libxdp's dispatcher, ours joins its programs, with this priority; otherwise ours is not
    /// attached. With a priority, there has to be a dispatcher.
    Join(Option<u32>),
    Replace,
    /// It is asked before ours.
    Chain,
}

/// The priority of ours where nobody says another one: that of libxdp.
const PRIORITY: u32 = 50;

impl Others {
    /// That in a dispatcher; None: it is not to join one.
    pub fn priority(self) -> Option<u32> {
        match self {
            Others::Join(priority) => Some(priority.unwrap_or(PRIORITY)),
            _ => None,
        }
    }
}

impl Default for Others {
    fn default() -> Self {
        Others::Join(None)
    }
}

/// What the interfaces of a network namespace are to be.
#[derive(Clone, Debug, Default)]
pub struct Interfaces {
    /// Attached, all or none.
    pub wanted: Vec<Wanted>,
    /// The others that rules are for are detached. With the last one of all go those for answers, and the
    /// state, unless there are rules.
    pub only_these: bool,
    /// But for those with these indexes.
    pub spared: BTreeSet<u32>,
    /// Those that are attached already get the policy and the ledger that is wanted; otherwise another policy is
    /// a conflict, and the ledger stays.
    pub change_attached: bool,
    /// Whose members may change rules; None: as it is.
    pub group: Option<Gid>,
    /// How many connections are remembered; None: as many as usual, or as many as before.
    pub connections: Option<TableSize>,
    /// From which connections get source ports; None: as it is.
    pub source_ports: Option<SourcePorts>,
}

/// Changes interfaces and rules at one instant. Packets can be sent to the devices `egress` from then on. `edit` is
/// given the change in the making, which says what rules there are, and makes a plan for them. Mounts a bpffs
/// where the default pin directory needs one.
pub fn apply<T>(
    pins: &Pins,
    wanted: &Interfaces,
    egress: &BTreeSet<u32>,
    edit: impl FnOnce(&mut Transaction) -> Result<(Plan, T)>,
) -> Result<(Report, T)> {
    // Before the lock, which is in there and must be given up before a mount can be undone.
    let mounted = match wanted.wanted[..] {
        [] => None,
        _ => Some(Mounted::where_missing(pins)?),
    };
    let lock = match mounted {
        None => Lock::take(pins)?,
        Some(_) => Lock::take_or_create(pins)?,
    };
    sweep(pins)?;
    let (before, made_room) = make_room(pins, &wanted.wanted)?;
    let taken_over = take_over(pins, &lock)?;
    let fresh = !has_state(pins)?;
    let change = Change {
        pins,
        lock: &lock,
        wanted,
        before: &before,
    };
    let mut links = Links::default();
    let (mut report, result) = change.make(egress, edit, &mut links).map_err(|error| {
        let _ = detach::sweep(pins);
        if fresh {
            let _ = detach::remove(pins);
        }
        with_detached(error, &made_room)
    })?;
    links.replaced.into_iter().for_each(Replaced::forget);
    for attached in &mut report.attached {
        let has_its_place = |old: &Interface| has_place_of(&attached.device, old);
        attached.made_room = made_room.iter().any(has_its_place);
    }
    report.taken_over = taken_over;
    report.mounted = mounted.and_then(Mounted::keep);
    change.clear_up();
    Ok((report, result))
}

/// What is held while programs are linked and nothing is published.
#[derive(Default)]
struct Links {
    /// The programs of others, which are put back if this is dropped.
    replaced: Vec<Replaced>,
    held: Option<Uninterrupted>,
}

struct Change<'a> {
    pins: &'a Pins,
    lock: &'a Lock,
    wanted: &'a Interfaces,
    before: &'a [Interface],
}

impl<'a> Change<'a> {
    fn make<T>(
        &self,
        egress: &BTreeSet<u32>,
        edit: impl FnOnce(&mut Transaction) -> Result<(Plan, T)>,
        links: &mut Links,
    ) -> Result<(Report, T)> {
        let (pins, lock) = (self.pins, self.lock);
        let size = self.wanted.connections;
        let resize = size.map(|size| Resize::prepare(pins, lock, size));
        let resize = resize.transpose()?.flatten();
        let (mut attached, new) = self.look()?;
        let mut stances = self.stances(&attached);
        let (loaded, exchanges) = (self.load(&new)?, self.exchanges(&attached)?);
        if let Some(gid) = self.wanted.group {
            permissions::open_to_group(pins, gid)?;
        }
        self.require_no_loop(&attached, &new, &stances)?;

        // All that is slow of interfaces is done. From here on, a foreign program is off its interface.
        attached.extend(self.link(loaded, links)?);
        for Wanted { device, policy, .. } in &new {
            let policy = policy.unwrap_or_default();
            stances.set(device.ifindex, &policy, Purpose::Rules);
        }
        let ended = stances.clone();
        let store = RuleStore::open(pins)?;
        let mut open = egress.clone();
        open.extend(
            attached
                .iter()
                .filter_map(|done| done.policy.policy.device()),
        );
        if store.remembers()? {
            open.extend(new.iter().map(|wanted| wanted.device.ifindex));
        }
        let mut transaction = store.begin_with(lock, &open, stances)?;
        let (plan, result) = edit(&mut transaction)?;
        let staged = transaction.stage(plan)?;
        resize.map_or(Ok(()), Resize::apply)?;
        exchanges
            .into_iter()
            .try_for_each(|other| other.make(pins))?;
        if let Some(ports) = self.wanted.source_ports {
            flow_table::set_source_ports(pins, lock, ports)?;
        }
        let for_answers = staged.publish()?;
        let report = Report {
            attached,
            detached: self.detached(&ended, &for_answers),
            taken_over: Vec::new(),
            mounted: None,
            for_answers,
            connections: flow_table::size(pins)?,
        };
        Ok((report, result))
    }

    /// Those that are attached already, and those that are not. The kernel takes a program on a port and then on
    /// its bridge, but not the other way round.
    fn look(&self) -> Result<(Vec<Attached>, Vec<&'a Wanted>)> {
        let mut all: Vec<&Wanted> = self.wanted.wanted.iter().collect();
        all.sort_by_key(|wanted| wanted.device.master.is_none());
        let (mut attached, mut new) = (Vec::new(), Vec::new());
        let mut seen = HashSet::new();
        all.retain(|wanted| seen.insert(wanted.device.ifindex));
        for wanted in all {
            match live(self.pins, self.before, wanted.device.ifindex)? {
                Some(interface) => {
                    attached.push(already(self.pins, interface, wanted, self.wanted)?)
                }
                None => new.push(wanted),
            }
        }
        Ok((attached, new))
    }

    /// What becomes of the interfaces that there are.
    fn stances(&self, attached: &[Attached]) -> Stances {
        let mut stances = Stances::default();
        for done in attached.iter().filter(|done| done.is_changed()) {
            stances.set(done.device.ifindex, &done.policy.policy, Purpose::Rules);
        }
        if self.wanted.only_these {
            let ended = self.before.iter().filter(|i| !self.stays(i));
            ended.for_each(|interface| stances.end(interface.ifindex));
        }
        stances
    }

    /// Those for answers go with the last one that rules are for; otherwise the rules say whether they go.
    fn stays(&self, interface: &Interface) -> bool {
        let mut wanted = self.wanted.wanted.iter();
        let (ifindex, spared) = (interface.ifindex, &self.wanted.spared);
        match interface.purpose {
            Purpose::Rules => {
                wanted.any(|w| w.device.ifindex == ifindex) || spared.contains(&ifindex)
            }
            Purpose::Answers => !self.wanted.wanted.is_empty() || !spared.is_empty(),
        }
    }

    /// The names of those that are detached, but for those that rules still need for answers.
    fn detached(&self, stances: &Stances, for_answers: &ForAnswers) -> Vec<String> {
        let is_kept = |i: &Interface| for_answers.attached.iter().any(|n| n.ifindex == i.ifindex);
        let ended = |i: &&Interface| stances.ends(i.ifindex) && !is_kept(i);
        self.before
            .iter()
            .filter(ended)
            .map(Interface::name)
            .collect()
    }

    fn load(&self, new: &[&'a Wanted]) -> Result<Vec<Loaded<'a>>> {
        let links = LinkLayout::of_kernel();
        let means = Means {
            pins: self.pins,
            purpose: Purpose::Rules,
            stance: stances::dormant(),
            links,
            before: self.before,
        };
        new.iter()
            .map(|wanted| Loaded::new(wanted, &means))
            .collect()
    }

    /// Other programs for those that are to have a ledger, or none, from now on.
    fn exchanges(&self, attached: &[Attached]) -> Result<Vec<Exchange>> {
        let mut exchanges = Vec::new();
        for done in attached {
            let ifindex = done.device.ifindex;
            let before = self.before.iter().find(|i| i.ifindex == ifindex);
            if before.is_some_and(|before| before.ledger != done.ledger) {
                exchanges.push(Exchange::of_ledger(self.pins, ifindex, done.ledger)?);
            }
        }
        Ok(exchanges)
    }

    fn require_no_loop(
        &self,
        attached: &[Attached],
        new: &[&Wanted],
        stances: &Stances,
    ) -> Result<()> {
        let changed = attached.iter().filter(|done| done.is_changed());
        let changed = changed.map(|done| (&done.device, done.policy.policy));
        let new = new
            .iter()
            .map(|wanted| (&wanted.device, wanted.policy.unwrap_or_default()));
        let all: Vec<_> = changed
            .chain(new)
            .map(|(device, policy)| (device.ifindex, device.name.clone(), policy))
            .collect();
        policy::require_no_loop(self.pins, &all, |ifindex| stances.ends(ifindex))
    }

    /// Attaches programs, which do nothing until the change is published.
    fn link(&self, loaded: Vec<Loaded>, links: &mut Links) -> Result<Vec<Attached>> {
        if loaded.is_empty() {
            return Ok(Vec::new());
        }
        links.held = Some(Uninterrupted::new()?);
        Slots::open(self.pins)?.set_dormant(true)?;
        loaded
            .into_iter()
            .map(|program| program.link(self.pins, &mut links.replaced))
            .collect()
    }

    /// Takes off what does nothing any more. The change is published: what fails is no failure of it.
    fn clear_up(&self) {
        let swept = sweep(self.pins).and_then(|()| match self.wanted.only_these {
            true => self.end(),
            false => Ok(()),
        });
        if let Err(error) = swept {
            let why = one_line(&error);
            say(Notice::Warning(format!(
                "what was detached does nothing, but is not removed: {why}"
            )));
        }
    }

    /// The state goes with the last interface, unless there are rules.
    fn end(&self) -> Result<()> {
        let is_attached = !stances::attached(self.pins)?.is_empty();
        if is_attached || RuleStore::open(self.pins)?.count()? > 0 {
            return Ok(());
        }
        if let Some(stays) = detach::clear(self.pins, false)? {
            say(Notice::Warning(stays.why));
        }
        Ok(())
    }
}

/// Members of a group may change rules, and not remove what a run that was killed has left.
fn sweep(pins: &Pins) -> Result<()> {
    match detach::sweep(pins) {
        Err(error) if exit_code(&error) == Exit::Permission => Ok(()),
        swept => swept,
    }
}

/// What became of an interface. Members of a group can't ask for that, and take it as it is.
fn state_of(pins: &Pins, interface: &Interface) -> Result<LinkState> {
    match interface.ids(pins) {
        Err(error) if exit_code(&error) == Exit::Permission => Ok(LinkState::Attached),
        ids => Ok(ids?.state),
    }
}

/// A failure, after what was done all the same.
fn with_detached(error: Error, detached: &[Interface]) -> Error {
    if detached.is_empty() {
        return error;
    }
    let names: Vec<String> = detached.iter().map(Interface::name).collect();
    let names = names.join(", ");
    error.context(format!(
        "detached {names} in another network namespace, but attached nothing"
    ))
}

/// Interfaces whose device is gone make room; so do those whose device is in another network
/// namespace, for one that has its name or index now: there the program is taken off.
fn make_room(pins: &Pins, wanted: &[Wanted]) -> Result<(Vec<Interface>, Vec<Interface>)> {
    let (mut there, mut ended) = (Vec::new(), Vec::new());
    for interface in interfaces(pins)? {
        let has_its_place = |wanted: &Wanted| has_place_of(&wanted.device, &interface);
        match state_of(pins, &interface)? {
            LinkState::Gone => attachment::clear(pins, interface.ifindex)?,
            LinkState::Moved if wanted.iter().any(has_its_place) => {
                detach::detach(pins, &interface)?;
                attachment::remove_pins(pins, interface.ifindex)?;
                ended.push(interface);
            }
            _ => there.push(interface),
        }
    }
    Ok((there, ended))
}

fn has_place_of(device: &Device, interface: &Interface) -> bool {
    device.ifindex == interface.ifindex || interface.answers_to(&device.name)
}

/// The interface, where packets still meet the program. A defunct one makes room.
fn live<'a>(pins: &Pins, before: &'a [Interface], ifindex: u32) -> Result<Option<&'a Interface>> {
    let Some(interface) = before.iter().find(|i| i.ifindex == ifindex) else {
        return Ok(None);
    };
    if state_of(pins, interface)? != LinkState::Attached {
        attachment::clear(pins, ifindex)?;
        return Ok(None);
    }
    Ok(Some(interface))
}

/// What there is to say of an interface that is attached already.
fn already(
    pins: &Pins,
    interface: &Interface,
    wanted: &Wanted,
    all: &Interfaces,
) -> Result<Attached> {
    let (name, was_for_answers) = (&wanted.device.name, interface.purpose == Purpose::Answers);
    let policy = wanted.policy.unwrap_or(interface.policy);
    if policy != interface.policy && !was_for_answers && !all.change_attached {
        let is = interface.policy.name();
        let why = format!("{name} is attached with another policy, {is}");
        let change = Remedy::from(Command::Name("policy")) + " changes it";
        return Err(failure(Exit::Conflict, (why, change)));
    }
    if wanted.mode.is_some_and(|mode| mode != interface.mode) {
        let why = format!("{name} is attached in {} mode", interface.mode);
        let detach = Remedy::from("to change it, ") + Verb::Detach(vec![name.clone()]) + " first";
        return Err(failure(Exit::Conflict, (why, detach)));
    }
    if let Others::Join(Some(priority)) = wanted.others
        && interface.ids(pins)?.priority != Some(priority)
    {
        let why =
            format!("{name} is attached, and not with priority {priority} in libxdp's dispatcher");
        let detach = Remedy::from("to change that, ") + Verb::Detach(vec![name.clone()]) + " first";
        return Err(failure(Exit::Conflict, (why, detach)));
    }
    let reason = "already attached".into();
    let ledger = match (all.change_attached, interface.ledger) {
        (true, LedgerState::On) if !wanted.ledger => LedgerState::Unwanted,
        (true, LedgerState::Unwanted) if wanted.ledger && interface.joined => {
            LedgerState::Unavailable
        }
        (true, LedgerState::Unwanted) if wanted.ledger => LedgerState::On,
        (_, ledger) => ledger,
    };
    let attached = Attached::new(&wanted.device, interface.mode, reason, ledger);
    Ok(Attached {
        already: true,
        was_for_answers,
        policy: policy::named(policy),
        policy_before: (!was_for_answers).then_some(interface.policy),
        ..attached
    })
}
