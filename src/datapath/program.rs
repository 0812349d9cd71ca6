//! The program of one interface: loaded, and attached in the place of others.

use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result};

use super::apply::{Others, Wanted};
use super::attach::Attached;
use super::attachment::{self, place};
use super::chain::{self, Chain, Code, Member};
use super::dispatcher;
use super::foreign::{Foreign, Replaced};
use super::interface::{Interface, constants_of};
use super::kernel_layout::LinkLayout;
use super::load::{Variant, config, load, load_first, load_successor, number_of, take_place};
use super::mode::{Choice, Refused, choose};
use super::{Error, Pins, abi, policy};
use crate::error::{Exit, Failure, failure, one_line, refusal};
use crate::host::device::Device;
use crate::host::xdp;
use crate::model::{ETHERNET_MTU, LedgerState, Mode, Purpose, Refusal, Remedy, Verb, Verdicts};

/// Why there is no ledger in libxdp's dispatcher.
const ANOTHER_ID: &str = "where the kernel tells of lost frames, it names libxdp's dispatcher, which another one replaces at each change";

/// A program that is loaded for a device, and the one that it is to replace, to ask, or to join.
pub struct Loaded<'a> {
    wanted: &'a Wanted,
    variant: Variant,
    /// What it does once it is attached.
    stance: abi::policy,
    no_ledger: Option<Refusal>,
    no_links: Option<Refusal>,
    choice: Choice,
    program: OwnedFd,
    foreign: Option<Foreign>,
}

/// How programs are loaded.
pub struct Means<'a> {
    pub pins: &'a Pins,
    pub purpose: Purpose,
    /// What the program does once it is attached.
    pub stance: abi::policy,
    /// An error where backends whose link is down cannot be skipped.
    pub links: Result<LinkLayout>,
    /// The interfaces that there are.
    pub before: &'a [Interface],
}

/// Why the kernel does not run the ledger's programs, where an error says that.
fn no_ledger(error: &anyhow::Error) -> Option<Refusal> {
    match error.downcast_ref::<Failure>()?.typed()? {
        Error::Ledger { refusal, .. } => Some(refusal.clone()),
        _ => None,
    }
}

impl<'a> Loaded<'a> {
    pub fn new(wanted: &'a Wanted, means: &Means) -> Result<Self> {
        let device = &wanted.device;
        let mut choice = choose(device, wanted.mode, means.purpose, means.before)?;
        let foreign = foreign(wanted, means.purpose, choice.mode)?;
        let taken_in = foreign.as_ref().filter(|_| wanted.others == Others::Chain);
        let joined = foreign
            .as_ref()
            .filter(|_| wanted.others.priority().is_some());
        if let Some(foreign) = taken_in.or(joined) {
            choice = mode_of(wanted, foreign)?;
        }
        require_dispatcher(wanted, joined)?;
        let mut variant = Variant {
            mode: choice.mode,
            frags: false,
            joined: joined.is_some(),
            ledger: match (wanted.ledger, joined) {
                (true, None) => LedgerState::On,
                (true, Some(_)) => LedgerState::Unavailable,
                (false, _) => LedgerState::Unwanted,
            },
            purpose: means.purpose,
            links: means.links.as_ref().ok().copied(),
        };
        let load = |variant| match taken_in {
            None => load(means.pins, device, variant, &means.stance),
            Some(foreign) => load_chain(means, device, variant, foreign),
        };
        let (mut loaded, mut refused) = (load(variant), None);
        if let Err(error) = &loaded {
            refused = no_ledger(error);
        }
        if refused.is_some() {
            variant.ledger = LedgerState::Unavailable;
            loaded = load(variant);
        }
        let program = loaded?;
        if let Some(foreign) = joined {
            let (pins, purpose, mode) = (means.pins, means.purpose, choice.mode);
            let ready = dispatcher::prepare(pins, device.ifindex, foreign.program(), &program);
            ready.map_err(|error| stays_alone(wanted, purpose, mode, foreign, Some(&error)))?;
            refused = wanted.ledger.then(|| ANOTHER_ID.into());
        }
        Ok(Loaded {
            wanted,
            variant,
            stance: means.stance,
            no_ledger: refused,
            no_links: means.links.as_ref().err().map(refusal),
            choice,
            program,
            foreign,
        })
    }

    /// Attaches, in the place of the foreign program, which `replaced` is given.
    pub fn link(self, pins: &Pins, replaced: &mut Vec<Replaced>) -> Result<Attached> {
        let Loaded {
            wanted: wanted @ Wanted { device, policy, .. },
            mut variant,
            stance,
            no_ledger,
            no_links,
            choice,
            mut program,
            foreign,
        } = self;
        let policy = policy::named(policy.unwrap_or_default());
        if let Some(foreign) = foreign
            .as_ref()
            .filter(|_| wanted.others != Others::Replace)
        {
            beside(pins, wanted, variant, foreign, &program)?;
            let taken_in = wanted.others == Others::Chain;
            return Ok(Attached {
                taken_in: taken_in.then(|| foreign.describe()),
                no_ledger,
                no_links,
                policy,
                ..Attached::new(device, variant.mode, choice.reason, variant.ledger)
            });
        }
        let foreign = foreign.map(|foreign| Replaced::new(foreign, device));
        let foreign = foreign.transpose()?;
        let description = foreign.as_ref().map(Replaced::describe);
        replaced.extend(foreign);
        let mut reason = choice.reason;
        let mut linked = place(pins, &program, device, variant.mode);
        if linked.is_err() && variant.mode == Mode::Native && device.mtu > ETHERNET_MTU {
            if xdp::is_reported()? {
                variant.frags = true;
                program = load(pins, device, variant, &stance)?;
                linked = place(pins, &program, device, variant.mode);
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
            program = load(pins, device, variant, &stance)?;
            linked = place(pins, &program, device, variant.mode);
        }
        let placed = linked.map_err(|refused| refused.failure(device, variant.mode, &policy))?;
        placed.keep(pins, device.ifindex)?;
        Ok(Attached {
            replaced: description,
            no_ledger,
            no_links,
            policy,
            ..Attached::new(device, variant.mode, reason, variant.ledger)
        })
    }
}

/// The program of others that ours is to replace, to ask or to join. An XDP program and a tc program run one after the
/// other; where both are of this command, packets would meet rules twice.
fn foreign(wanted: &Wanted, purpose: Purpose, chosen: Mode) -> Result<Option<Foreign>> {
    let beside = chosen == Mode::Tc;
    let in_the_way = |foreign: &Foreign| !beside || foreign.redirects();
    let foreign = Foreign::find(wanted.device.ifindex)?.filter(in_the_way);
    let stays = |found: &&Foreign| match wanted.others {
        Others::Join(_) => !found.is_dispatcher() || found.redirects(),
        Others::Replace => false,
        // It would take packets by rules before ours, or stay when the run has ended that reads what it takes.
        Others::Chain => found.redirects() || found.takes(),
    };
    match foreign.as_ref().filter(stays) {
        Some(found) => Err(stays_alone(wanted, purpose, chosen, found, None)),
        None => Ok(foreign.filter(|_| !beside)),
    }
}

/// Ours is not attached because of another program, which it cannot join for that reason.
fn stays_alone(
    wanted: &Wanted,
    purpose: Purpose,
    chosen: Mode,
    found: &Foreign,
    reason: Option<&anyhow::Error>,
) -> anyhow::Error {
    let beside = chosen == Mode::Tc;
    // For the user, rules would be what the mode is chosen for.
    let for_answers = purpose == Purpose::Answers;
    let (name, whose) = (&wanted.device.name, found.describe());
    let force = Verb::Attach {
        interfaces: vec![name.clone()],
        mode: wanted.mode.or(for_answers.then_some(chosen)),
        force: true,
        policy: policy::named(wanted.policy.unwrap_or_default()).option(),
    };
    let or = match beside {
        true => "detach that, or have packets meet it first with ",
        false if found.takes() => "end the run that takes frames there, or replace it with ",
        false => "detach that, or replace it with ",
    };
    let mut remedy = Remedy::from(or) + force;
    if !beside && !for_answers && !found.redirects() && !found.takes() {
        remedy = match found.is_dispatcher() {
            // Newer kernels let no program call one that others extend.
            true => {
                remedy
                    + ", or have packets meet it first with "
                    + Verb::attach_in(name, Some(Mode::Tc))
            }
            false => remedy + ", or have it asked first with " + Verb::ChainForeign(name.clone()),
        };
    }
    let mut why = format!("{name} has another XDP {whose}");
    if let Some(reason) = reason {
        why += &format!(", which ours cannot join: {}", one_line(reason));
    }
    failure(Exit::Conflict, (why, remedy))
}

/// A priority means something in a dispatcher alone.
fn require_dispatcher(wanted: &Wanted, joined: Option<&Foreign>) -> Result<()> {
    match wanted.others {
        Others::Join(Some(_)) if joined.is_none() => {
            let name = &wanted.device.name;
            let why = format!(
                "{name}: a priority is for a program that libxdp's dispatcher calls, and none calls ours there"
            );
            let attach = Verb::attach_in(name, wanted.mode);
            let attach = Remedy::from(attach) + " attaches it without one";
            Err(failure(Exit::NotFound, (why, attach)))
        }
        _ => Ok(()),
    }
}

/// Attaches ours where another program stays.
fn beside(
    pins: &Pins,
    wanted: &Wanted,
    variant: Variant,
    foreign: &Foreign,
    program: &OwnedFd,
) -> Result<()> {
    let (name, ifindex) = (&wanted.device.name, wanted.device.ifindex);
    let Some(priority) = wanted.others.priority() else {
        let taken = attachment::take_in(pins, ifindex, foreign, program.as_fd());
        return taken.with_context(|| format!("cannot take in {} at {name}", foreign.describe()));
    };
    let Variant { mode, purpose, .. } = variant;
    let joined = attachment::join(pins, ifindex, mode, priority, program);
    joined.map_err(|error| stays_alone(wanted, purpose, mode, foreign, Some(&error)))
}

/// The mode of a program that ours is to ask or to join: a device has one mode for both.
fn mode_of(wanted: &Wanted, foreign: &Foreign) -> Result<Choice> {
    let (name, mode) = (&wanted.device.name, foreign.mode());
    if wanted.mode.is_some_and(|wanted| wanted != mode) {
        let why = format!(
            "{name} has another XDP {}, and ours joins it in that mode",
            foreign.describe()
        );
        return Err(failure(Exit::Conflict, why));
    }
    Ok(Choice {
        mode,
        reason: match wanted.others.priority() {
            Some(priority) => format!("in libxdp's dispatcher, with priority {priority}"),
            None => "as the program that is asked first".into(),
        },
        otherwise: None,
    })
}

/// A chain of another program, which is attached alone now, and ours.
fn load_chain(
    means: &Means,
    device: &Device,
    variant: Variant,
    foreign: &Foreign,
) -> Result<OwnedFd> {
    let about = abi::chain_program {
        on: Verdicts::default().bits(),
        priority: chain::FIRST_PRIORITY,
        taken_in: 1,
        ..chain::about(foreign.name(), "")
    };
    let member = Member {
        about,
        code: Code::Loaded(foreign.program().try_clone()?),
    };
    let load_ours =
        |constants: &_, caller| load_first(means.pins, constants, &means.stance, Some(caller));
    let constants = config(device, variant)?;
    chain::stage(means.pins, &constants, vec![member], None, load_ours)
}

/// Another program for an interface that is attached, on the maps that it has.
pub struct Exchange {
    ifindex: u32,
    program: OwnedFd,
}

impl Exchange {
    /// One that can serve answers alone. It does what the other one does, until the interface's stance is another
    /// one.
    pub fn for_answers(pins: &Pins, ifindex: u32) -> Result<Self> {
        Exchange::changed(pins, ifindex, |constants| constants.for_answers = 1)
    }

    /// One with a ledger, or without.
    pub fn of_ledger(pins: &Pins, ifindex: u32, ledger: LedgerState) -> Result<Self> {
        Exchange::changed(pins, ifindex, |constants| {
            constants.ledger = number_of(ledger)
        })
    }

    fn changed(
        pins: &Pins,
        ifindex: u32,
        change: impl FnOnce(&mut abi::interface),
    ) -> Result<Self> {
        let mut constants = constants_of(pins, ifindex)?;
        change(&mut constants);
        Exchange::with(pins, &constants)
    }

    /// One with these constants.
    pub fn with(pins: &Pins, constants: &abi::interface) -> Result<Self> {
        let chain = Chain::live(pins, constants.ifindex)?;
        let members = chain.as_ref().map(Chain::members).transpose()?;
        Exchange::of_members(pins, constants, chain.as_ref(), members.unwrap_or_default())
    }

    /// One that asks these programs first.
    pub fn of_chain(pins: &Pins, ifindex: u32, members: Vec<Member>) -> Result<Self> {
        let chain = Chain::live(pins, ifindex)?;
        let constants = constants_of(pins, ifindex)?;
        Exchange::of_members(pins, &constants, chain.as_ref(), members)
    }

    fn of_members(
        pins: &Pins,
        constants: &abi::interface,
        before: Option<&Chain>,
        members: Vec<Member>,
    ) -> Result<Self> {
        let load_ours = |constants: &_, caller| load_successor(pins, constants, Some(caller));
        let program = match members[..] {
            [] => load_successor(pins, constants, None)?,
            _ => chain::stage(pins, constants, members, before, load_ours)?,
        };
        Ok(Exchange {
            ifindex: constants.ifindex,
            program,
        })
    }

    /// Has the interface run it, from one frame to the next. A run that is killed after the first of these steps
    /// has replaced the program, and the next one that wants this change does so again.
    pub fn make(self, pins: &Pins) -> Result<()> {
        attachment::replace(pins, self.ifindex, self.program.as_fd())?;
        take_place(pins, self.ifindex)?;
        chain::settle(pins, self.ifindex)
    }
}
