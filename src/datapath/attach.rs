//! Attaching.

use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Error, Result};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::Gid;

use super::bpffs::remove_tree;
use super::flow_table::{self, Resize};
use super::foreign::{Foreign, Replaced};
use super::interface::{Interface, interfaces};
use super::kernel_layout::LinkLayout;
use super::ledger::{self, Hook};
use super::load::{Variant, load};
use super::locate::Mounted;
use super::lock::Lock;
use super::mode::{Choice, Refused, choose, link};
use super::state::has_state;
use super::{Pins, RuleStore, answers, detach, permissions, policy, sys};
use crate::error::{Exit, failure};
use crate::host::device::Device;
use crate::host::xdp;
use crate::model::{
    Command, ETHERNET_MTU, ForAnswers, LedgerState, LinkState, Mode, Policy, Purpose, Refusal,
    Remedy, SourcePorts, TableSize, Verb,
};

pub struct Request<'a> {
    pub devices: &'a [Device],
    /// None: the one that pays.
    pub mode: Option<Mode>,
    pub group: Option<Gid>,
    /// Replace other people's programs.
    pub force: bool,
    /// Ask the kernel what becomes of redirected frames.
    pub ledger: bool,
    /// What becomes of the frames that no rule matches; None: they pass, or what it is where the program
    /// is attached already.
    pub policy: Option<Policy>,
    pub purpose: Purpose,
    /// How many connections are remembered; None: as many as usual, or as many as before.
    pub connections: Option<TableSize>,
    /// From which connections get source ports; None: as it is.
    pub source_ports: Option<SourcePorts>,
}

/// What became of one device of a request.
pub struct Attached {
    pub device: Device,
    pub mode: Mode,
    /// Why this mode.
    pub reason: String,
    /// It was attached before.
    pub already: bool,
    /// It was attached for answers alone. From now on rules take packets there, too.
    pub was_for_answers: bool,
    /// The program that was replaced.
    pub replaced: Option<String>,
    /// The program was taken off the device that had its name or index before, and is in another
    /// network namespace.
    pub made_room: bool,
    pub ledger: LedgerState,
    /// Why there is no ledger, though it was wanted.
    pub no_ledger: Option<Refusal>,
    /// Why backends whose link is down are not skipped; None where they are, or nobody has looked.
    pub no_links: Option<Refusal>,
    /// What becomes of the frames that no rule matches.
    pub policy: Policy,
}

impl Attached {
    fn new(device: &Device, mode: Mode, reason: String, ledger: LedgerState) -> Self {
        Attached {
            device: device.clone(),
            mode,
            reason,
            already: false,
            was_for_answers: false,
            replaced: None,
            made_room: false,
            ledger,
            no_ledger: None,
            no_links: None,
            policy: Policy::Pass,
        }
    }
}

/// What `attach` did.
pub struct Report {
    /// The devices, in the order of the request.
    pub attached: Vec<Attached>,
    /// Where a bpffs was mounted, because there was none.
    pub mounted: Option<&'static str>,
    /// What the rules need that were kept when nothing was attached any more.
    pub for_answers: ForAnswers,
    /// How many connections are remembered.
    pub connections: TableSize,
}

/// Attaches to all devices or to none. Mounts a bpffs where the default pin directory needs one.
pub fn attach(pins: &Pins, request: &Request) -> Result<Report> {
    // Before the lock, which is in there and must be given up before a mount can be undone.
    let mounted = Mounted::where_missing(pins)?;
    let lock = Lock::take_or_create(pins)?;
    detach::sweep(pins)?;
    let (before, ended) = make_room(pins, interfaces(pins)?, request.devices)?;
    let fresh = !has_state(pins)?;

    let mut all = attach_locked(pins, &lock, request, &before).map_err(|error| {
        let _ = if fresh {
            detach::remove(pins)
        } else {
            detach::sweep(pins)
        };
        with_ended(error, &ended)
    })?;
    for attached in &mut all {
        let made_room = |interface: &Interface| has_place_of(&attached.device, interface);
        attached.made_room = ended.iter().any(made_room);
    }
    let serves_rules = |interface: &Interface| interface.purpose == Purpose::Rules;
    let is_first = !before.iter().any(serves_rules);
    let for_answers = is_first.then(|| answers::attach_again(pins, &lock));
    Ok(Report {
        attached: all,
        mounted: mounted.keep(),
        for_answers: for_answers.transpose()?.unwrap_or_default(),
        connections: flow_table::size(pins)?,
    })
}

/// Attaches to a device for answers alone.
pub(super) fn attach_for_answers(pins: &Pins, lock: &Lock, device: &Device) -> Result<Attached> {
    let before = interfaces(pins)?;
    let unwanted = |interface: &Interface| interface.ledger == LedgerState::Unwanted;
    let request = Request {
        devices: std::slice::from_ref(device),
        mode: None,
        group: None,
        force: false,
        ledger: !before.iter().any(unwanted),
        policy: None,
        source_ports: None,
        purpose: Purpose::Answers,
        connections: None,
    };
    let made = attach_locked(pins, lock, &request, &before);
    let attached = made.inspect_err(|_| drop(detach::sweep(pins)))?.pop();
    attached.context("a request with a device attaches to it")
}

/// A failure, after what was done all the same.
fn with_ended(error: Error, ended: &[Interface]) -> Error {
    if ended.is_empty() {
        return error;
    }
    let names: Vec<String> = ended.iter().map(Interface::name).collect();
    let names = names.join(", ");
    error.context(format!(
        "detached {names} in another network namespace, but attached nothing"
    ))
}

fn attach_locked(
    pins: &Pins,
    lock: &Lock,
    request: &Request,
    before: &[Interface],
) -> Result<Vec<Attached>> {
    let connections = request.connections;
    let resize = connections.map(|size| Resize::prepare(pins, lock, size));
    let resize = resize.transpose()?.flatten();
    let links = LinkLayout::of_kernel();
    let mut done = Vec::new();
    let mut loaded = Vec::new();
    let mut seen = HashSet::new();
    for device in request.devices.iter().filter(|d| seen.insert(d.ifindex)) {
        match live(pins, before, device.ifindex)? {
            Some(interface) => done.push(already(pins, interface, device, request)?),
            None => loaded.push(Loaded::new(
                pins,
                device,
                request,
                links.as_ref().ok(),
                before,
            )?),
        }
    }
    if let Some(gid) = request.group {
        permissions::open_to_group(pins, gid)?;
    }

    let wanted = request.policy.unwrap_or_default();
    let new = loaded.iter().map(|program| &program.device);
    let served = done.iter().filter(|attached| attached.was_for_answers);
    let names: Vec<_> = new
        .chain(served.map(|attached| &attached.device))
        .map(|device| (device.ifindex, device.name.as_str()))
        .collect();
    policy::require_no_loop(pins, &wanted, &names)?;
    if !loaded.is_empty() {
        policy::open_device(pins, lock, &wanted)?;
        let new = loaded.iter().map(|program| program.device.ifindex);
        RuleStore::open(pins)?.open_to_answers(lock, &new.collect())?;
    }

    // All that is slow is done. From here on, a foreign program is off its interface until ours is
    // pinned there, which is an interface's point of no return.
    let _uninterrupted = Uninterrupted::new()?;
    let linked = loaded
        .into_iter()
        .map(|program| program.link(pins))
        .collect::<Result<Vec<_>>>()?;
    resize.map_or(Ok(()), Resize::apply)?;
    if let Some(ports) = request.source_ports {
        flow_table::set_source_ports(pins, lock, ports)?;
    }
    for attachment in linked {
        done.push(Attached {
            no_links: links.as_ref().err().map(crate::error::refusal),
            ..attachment.keep(pins)?
        });
    }
    for attached in done.iter().filter(|attached| attached.was_for_answers) {
        let found = before.iter().find(|i| i.ifindex == attached.device.ifindex);
        found.map_or(Ok(()), |i| i.serve_rules(pins, lock, &attached.policy))?;
    }
    Ok(done)
}

/// Interfaces whose device is gone make room; so do those whose device is in another network
/// namespace, for one that has its name or index now: there the program is taken off.
fn make_room(
    pins: &Pins,
    interfaces: Vec<Interface>,
    devices: &[Device],
) -> Result<(Vec<Interface>, Vec<Interface>)> {
    let (mut there, mut ended) = (Vec::new(), Vec::new());
    for interface in interfaces {
        let state = interface.ids(pins)?.state;
        let has_its_place = devices
            .iter()
            .any(|device| has_place_of(device, &interface));
        match state {
            LinkState::Gone => remove_tree(&pins.interface(interface.ifindex))?,
            LinkState::Moved if has_its_place => {
                detach::detach(pins, &interface)?;
                remove_tree(&pins.interface(interface.ifindex))?;
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

/// Ctrl-C and its like wait for as long as this lives.
struct Uninterrupted(SigSet);

impl Uninterrupted {
    fn new() -> Result<Self> {
        let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]
            .into_iter()
            .collect();
        signals.thread_block()?;
        Ok(Uninterrupted(signals))
    }
}

impl Drop for Uninterrupted {
    fn drop(&mut self) {
        let _ = self.0.thread_unblock();
    }
}

/// The interface, where packets still meet the program. A defunct one makes room.
fn live<'a>(pins: &Pins, before: &'a [Interface], ifindex: u32) -> Result<Option<&'a Interface>> {
    let Some(interface) = before.iter().find(|i| i.ifindex == ifindex) else {
        return Ok(None);
    };
    if interface.ids(pins)?.state != LinkState::Attached {
        remove_tree(&pins.interface(ifindex))?;
        return Ok(None);
    }
    Ok(Some(interface))
}

fn already(
    pins: &Pins,
    interface: &Interface,
    device: &Device,
    request: &Request,
) -> Result<Attached> {
    let (mode, policy) = (interface.mode, interface.policy(pins)?);
    let name = &device.name;
    let was_for_answers = interface.purpose == Purpose::Answers;
    let wanted = request.policy.unwrap_or(policy);
    if wanted != policy && !was_for_answers {
        let why = format!("{name} is attached with another policy, {}", policy.name());
        let change = Remedy::from(Command::Name("policy")) + " changes it";
        return Err(failure(Exit::Conflict, (why, change)));
    }
    if request.mode.is_some_and(|wanted| wanted != mode) {
        let why = format!("{name} is attached in {mode} mode");
        let detach = Remedy::from("to change it, ") + Verb::Detach(vec![name.clone()]) + " first";
        return Err(failure(Exit::Conflict, (why, detach)));
    }
    let attached = Attached::new(device, mode, "already attached".into(), interface.ledger);
    Ok(Attached {
        already: true,
        was_for_answers,
        policy: wanted,
        ..attached
    })
}

/// The program of others that ours is to replace. An XDP program and a tc program run one after the other;
/// where both are of this command, packets would meet rules twice.
fn foreign(device: &Device, request: &Request, chosen: Mode) -> Result<Option<Foreign>> {
    let beside = chosen == Mode::Tc;
    let in_the_way = |foreign: &Foreign| !beside || foreign.redirects();
    let foreign = Foreign::find(device.ifindex)?.filter(in_the_way);
    let Some(found) = foreign.as_ref().filter(|_| !request.force) else {
        return Ok(foreign.filter(|_| !beside));
    };
    // For the user, rules would be what the mode is chosen for.
    let for_answers = request.purpose == Purpose::Answers;
    let (name, whose) = (&device.name, found.describe());
    let force = Verb::Attach {
        interfaces: vec![name.clone()],
        mode: request.mode.or(for_answers.then_some(chosen)),
        force: true,
        policy: policy::named(request.policy.unwrap_or_default()).option(),
    };
    let or = match beside {
        true => "detach that, or have packets meet it first with ",
        false => "detach that, or replace it with ",
    };
    let why = format!("{name} has another XDP {whose}");
    Err(failure(Exit::Conflict, (why, Remedy::from(or) + force)))
}

/// A program that is loaded for a device, and the one that it is to replace.
struct Loaded {
    device: Device,
    policy: Policy,
    variant: Variant,
    choice: Choice,
    program: OwnedFd,
    foreign: Option<Foreign>,
    no_ledger: Option<Refusal>,
}

impl Loaded {
    fn new(
        pins: &Pins,
        device: &Device,
        request: &Request,
        links: Option<&LinkLayout>,
        before: &[Interface],
    ) -> Result<Self> {
        let choice = choose(device, request.mode, request.purpose, before)?;
        let foreign = foreign(device, request, choice.mode)?;
        let refused = request
            .ledger
            .then(|| ledger::require(pins, Hook::of(choice.mode)))
            .and_then(Result::err);
        let variant = Variant {
            mode: choice.mode,
            frags: false,
            ledger: match (request.ledger, &refused) {
                (false, _) => LedgerState::Unwanted,
                (true, None) => LedgerState::On,
                (true, Some(_)) => LedgerState::Unavailable,
            },
            purpose: request.purpose,
            links: links.copied(),
        };
        let policy = request.policy.unwrap_or_default();
        let program = load(pins, device, variant, &policy)?;
        Ok(Loaded {
            device: device.clone(),
            policy,
            variant,
            choice,
            program,
            foreign,
            no_ledger: refused.as_ref().map(crate::error::refusal),
        })
    }

    /// Attaches, in the place of the foreign program.
    fn link(self, pins: &Pins) -> Result<Attachment> {
        let Loaded {
            device,
            policy,
            mut variant,
            choice,
            mut program,
            foreign,
            no_ledger,
        } = self;
        let replaced = foreign
            .map(|foreign| Replaced::new(foreign, &device))
            .transpose()?;
        let mut reason = choice.reason;
        let mut linked = link(&program, &device, variant.mode);
        if linked.is_err() && variant.mode == Mode::Native && device.mtu > ETHERNET_MTU {
            if xdp::is_reported()? {
                variant.frags = true;
                program = load(pins, &device, variant, &policy)?;
                linked = link(&program, &device, variant.mode);
            } else {
                linked = linked.map_err(Refused::of_several_buffers);
            }
            if linked.is_ok() {
                reason += ", in several buffers a frame";
            }
        }
        if let (Err(refused), Some(other)) = (&linked, choice.otherwise) {
            reason = refused.reason();
            variant.mode = other;
            variant.frags = false;
            program = load(pins, &device, variant, &policy)?;
            linked = link(&program, &device, variant.mode);
        }
        let link = linked
            .map_err(|refused| refused.failure(&device, variant.mode, &policy::named(policy)))?;
        let attached = Attached::new(&device, variant.mode, reason, variant.ledger);
        Ok(Attachment {
            attached: Attached {
                replaced: replaced.as_ref().map(Replaced::describe),
                no_ledger,
                policy,
                ..attached
            },
            link,
            replaced,
        })
    }
}

/// A program that is attached for as long as this run lives, unless it is kept.
struct Attachment {
    attached: Attached,
    link: OwnedFd,
    replaced: Option<Replaced>,
}

impl Attachment {
    fn keep(self, pins: &Pins) -> Result<Attached> {
        let path = pins.link(self.attached.device.ifindex);
        sys::pin(self.link.as_fd(), &path)?;
        if let Some(replaced) = self.replaced {
            replaced.forget();
        }
        Ok(self.attached)
    }
}
