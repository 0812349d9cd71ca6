//! An interface's program, tried out on frames that did not arrive.
//!
//! It is loaded once more, with the same constants, on the same rules, and on copies of all that it writes:
//! nothing is counted, learned or remembered that packets meet.

use std::mem::MaybeUninit;

use anyhow::{Context, Result};
use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};
use libbpf_rs::{
    Map, MapCore, MapFlags, MapHandle, Object, OpenObject, ProgramInput, ProgramMut, libbpf_sys,
};

use super::abi::{self, XdpredirSkelBuilder, XdpredirTcSkelBuilder};
use super::bpffs::At;
use super::flow_table::{Empty, FlowTable};
use super::interface::{constants_of, outcomes_of};
use super::load::{VARIABLES, map_of, open, reuse_shared, reuse_sockets};
use super::maps::Counters;
use super::{Interface, Pins, refusal};
use crate::error::{Exit, failure};
use crate::model::{Connection, Mode};

/// The maps that the program does not write to, and uses as they are.
const READ: [&str; 10] = [
    "live",
    "rulesets",
    "ports",
    "lines",
    "line_bitmaps",
    "probes",
    "counter_bitmaps",
    "locators",
    "egress",
    "paired",
];

/// What the program remembers of fragmented datagrams.
const FRAGMENTS: [&str; 2] = ["fragments", "passed_frags"];

/// What the program has decided.
const SHOWN: &str = "shown";

/// The key of a map with one entry.
const FIRST: [u8; 4] = [0; 4];

/// Room for what a frame gets in front.
const GROWTH: usize = 256;

/// The longest frame, in bytes, that fits into one buffer of a test run with pages of 4 KiB: the kernel keeps room
/// in front and behind. A longer one comes in several buffers, which only programs for them see whole.
const ONE_BUFFER: usize = 3520;

/// A copy of a program.
pub struct Rehearsal<'o> {
    object: &'o Object,
    program: ProgramMut<'o>,
    constants: abi::interface,
    outcomes: Counters,
    /// None: no rule remembers connections.
    table: Option<FlowTable>,
}

/// What the program made of a frame.
pub struct Rehearsed {
    pub outcome: &'static str,
    /// The XDP action that it comes with.
    pub action: &'static str,
    /// None: no rule and no connection decided, or none of their actions was possible.
    pub decided: Option<Decided>,
    /// The slot of the Maglev table that the frame's hash says.
    pub maglev_slot: Option<u32>,
    /// As it leaves.
    pub frame: Vec<u8>,
}

/// Who gets a frame.
pub struct Decided {
    /// The counter of the backend, or of the rule without one; None: neither, as of an answer.
    pub counter: Option<u32>,
    /// The egress device; None: there is none.
    pub ifindex: Option<u32>,
    /// The packet belongs to a connection that stood before.
    pub known: bool,
}

/// Tries out an interface's program. Frames that are tried one after the other meet what the ones before have
/// left: fragments, connections.
pub fn rehearse<T>(
    pins: &Pins,
    interface: &Interface,
    run: impl FnOnce(&mut Rehearsal) -> Result<T>,
) -> Result<T> {
    match interface.mode {
        Mode::Native | Mode::Skb => {
            rehearse_with(XdpredirSkelBuilder::default(), pins, interface, run)
        }
        Mode::Tc => rehearse_with(XdpredirTcSkelBuilder::default(), pins, interface, run),
    }
}

fn rehearse_with<'a, B, T>(
    builder: B,
    pins: &Pins,
    interface: &Interface,
    run: impl FnOnce(&mut Rehearsal) -> Result<T>,
) -> Result<T>
where
    B: SkelBuilder<'a>,
{
    // It has to outlive the skeleton, whose type says that of the builder. It is small, and a run tries one
    // program or a few.
    let storage: &'a mut MaybeUninit<OpenObject> = Box::leak(Box::new(MaybeUninit::uninit()));
    let constants = abi::interface {
        shows: 1,
        ..constants_of(pins, interface.ifindex)?
    };
    let (mut opened, _banks) = open(builder, storage, &constants)?;
    reuse_shared(pins, opened.open_object_mut(), |name| READ.contains(&name))?;
    reuse_sockets(pins, interface.ifindex, opened.open_object_mut())?;
    let mut loaded = refusal::explain(|| opened.load())?;
    run(&mut Rehearsal::of(pins, loaded.object_mut(), constants)?)
}

impl<'o> Rehearsal<'o> {
    fn of(pins: &Pins, object: &'o Object, constants: abi::interface) -> Result<Self> {
        let policy = pins.interface_map(constants.ifindex, "policy");
        copy(&open_pinned(&policy)?, &map_of(object, "policy")?)?;
        for name in FRAGMENTS {
            copy(&open_pinned(&pins.map(name))?, &map_of(object, name)?)?;
        }
        let empty = Empty {
            tags: map_of(object, "flow_tags")?,
            entries: map_of(object, "flow_entries")?,
            table: map_of(object, "flow_table")?,
            stats: map_of(object, "flow_stats")?,
        };
        let program = object.progs_mut().next();
        let outcomes = MapHandle::try_from(&map_of(object, "outcomes")?)?;
        Ok(Rehearsal {
            constants,
            outcomes: Counters::of(outcomes, "outcomes"),
            table: empty.fill(pins)?,
            program: program.context("the object has no program")?,
            object,
        })
    }

    /// The connections that there are now.
    pub fn connections(&self) -> impl Iterator<Item = Connection> {
        self.table.iter().flat_map(FlowTable::connections)
    }

    /// Has the program decide about a frame.
    pub fn run(&mut self, frame: &[u8]) -> Result<Rehearsed> {
        self.clear()?;
        let before = outcomes_of(&self.outcomes)?.1;
        let frame = self.test_run(frame)?;
        let after = outcomes_of(&self.outcomes)?.1;
        let mut pairs = before.0.iter().zip(&after.0);
        let counted = pairs.find(|(before, after)| before.counter.packets < after.counter.packets);
        let (_, outcome) = counted.context("the program has counted no outcome")?;
        let shown = self.shown()?;
        let decided = (shown.decided != 0).then(|| Decided {
            counter: Some(shown.counter).filter(|&counter| counter != abi::UNATTRIBUTED),
            ifindex: Some(shown.ifindex).filter(|&ifindex| ifindex != 0),
            known: shown.known != 0,
        });
        Ok(Rehearsed {
            outcome: outcome.name,
            action: outcome.action,
            decided,
            maglev_slot: shown.maglev_slot.checked_sub(1),
            frame,
        })
    }

    fn test_run(&self, frame: &[u8]) -> Result<Vec<u8>> {
        let length = frame.len();
        if length > ONE_BUFFER && self.constants.frags == 0 {
            let why = format!(
                "a frame of {length} bytes cannot be tried out at this interface: {ONE_BUFFER} are the most"
            );
            return Err(failure(Exit::Failed, why));
        }
        let mut context = self.context(length as u32);
        let mut out = vec![0; length + GROWTH];
        let input = ProgramInput {
            context_in: Some(&mut context),
            data_in: Some(frame),
            data_out: Some(&mut out),
            repeat: 1,
            ..ProgramInput::default()
        };
        let output = self.program.test_run(input).map_err(|error| {
            let why =
                format!("the kernel tries out no frame like this one, of {length} bytes: {error}");
            failure(Exit::Failed, why)
        })?;
        let length = output.data.map_or(0, |data| data.len());
        out.truncate(length);
        Ok(out)
    }

    /// As if the frame had arrived at the interface: a struct xdp_md, or the first words of a struct __sk_buff.
    fn context(&self, length: u32) -> Vec<u8> {
        const SKB_INGRESS_IFINDEX: usize = 9;
        const SKB_IFINDEX: usize = 10;
        const XDP_DATA_END: usize = 1;
        const XDP_INGRESS_IFINDEX: usize = 3;
        let mut words = [0u32; 11];
        let words = match self.constants.mode {
            abi::MODE_TC => {
                words[SKB_INGRESS_IFINDEX] = self.constants.ifindex;
                words[SKB_IFINDEX] = self.constants.ifindex;
                &words[..]
            }
            _ => {
                words[XDP_DATA_END] = length;
                words[XDP_INGRESS_IFINDEX] = self.constants.ifindex;
                &words[..size_of::<libbpf_sys::xdp_md>() / size_of::<u32>()]
            }
        };
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    /// Forgets what the program has shown, and what it has looked up before: the links and MTUs of devices.
    fn clear(&self) -> Result<()> {
        let variables = map_of(self.object, VARIABLES)?;
        let zeros = vec![0; variables.value_size() as usize];
        variables.update(&FIRST, &zeros, MapFlags::ANY)?;
        let shown = map_of(self.object, SHOWN)?;
        let zeros = vec![vec![0; shown.value_size() as usize]; libbpf_rs::num_possible_cpus()?];
        Ok(shown.update_percpu(&FIRST, &zeros, MapFlags::ANY)?)
    }

    /// On whichever CPU it ran.
    fn shown(&self) -> Result<abi::shown> {
        let all = map_of(self.object, SHOWN)?.lookup_percpu(&FIRST, MapFlags::ANY)?;
        let all = all.context("the program shows nothing")?;
        let is_written = |bytes: &&Vec<u8>| bytes.iter().any(|&byte| byte != 0);
        let written = all.iter().find(is_written);
        written.map_or_else(|| Ok(abi::zero()), |bytes| abi::from_bytes(bytes))
    }
}

fn open_pinned(path: &std::path::Path) -> Result<MapHandle> {
    MapHandle::from_pinned_path(path).at("cannot open", path)
}

/// All entries of a map. Others write there meanwhile.
fn copy(from: &MapHandle, to: &Map) -> Result<()> {
    for key in from.keys() {
        if let Some(value) = from.lookup(&key, MapFlags::ANY)? {
            to.update(&key, &value, MapFlags::ANY)?;
        }
    }
    Ok(())
}
