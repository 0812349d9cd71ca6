//! Captures: stand-ins that tell of the frames that they see, through one ring buffer, and tracing programs that tell
//! which of those the kernel lost. All of them belong to this process, and go with it.

use std::cell::{LazyCell, RefCell};
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Error, Result};
use libbpf_rs::{
    MapCore, MapFlags, MapHandle, MapType, Object, OpenObject, RingBufferBuilder, libbpf_sys,
};
use nix::libc;
use nix::time::{ClockId, clock_gettime};

use super::abi::{self, XdpredirCaptureSkelBuilder, XdpredirCaptureTcSkelBuilder};
use super::drop_reasons::DropReasons;
use super::interface::{bits_of, outcome, outcome_names};
use super::ledger::{self, Hook, LEDGERS};
use super::load::{map_of, reuse_map};
use super::lost::{Lost, TELLING};
use super::stand_in::Place;
use super::{Interface, Pins, StandIn, Standing, refusal, wanted};
use crate::host::kernel;
use crate::model::{LedgerState, Loss, Mode, PacketFilter, Stage};

/// The longest part of a frame that is captured.
pub const MAX_SNAPLEN: u32 = abi::MAX_SNAPLEN;

/// How often somebody who reads sightings is asked whether to go on.
const TICK: Duration = Duration::from_millis(100);

/// How often sightings are read. The programs wake this process only where many come in between.
const PAUSE: Duration = Duration::from_millis(50);

/// What a capture is to see.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub packets: PacketFilter,
    /// Only what the rules took whose counters `want` is given.
    pub by_rule: bool,
    /// None: all.
    pub outcomes: Option<Vec<&'static str>>,
    pub stages: Vec<Stage>,
    /// So many bytes of each frame.
    pub snaplen: u32,
    /// One packet of so many.
    pub sample: u32,
}

impl Wanted {
    /// Whether it is to see all packets that arrive.
    fn is_all(&self) -> bool {
        self.packets == PacketFilter::default() && self.sample <= 1
    }
}

/// A frame at one stage.
#[derive(Clone, Debug)]
pub struct RawSighting {
    pub time: SystemTime,
    /// Of its packet, until numbers begin again.
    pub number: u32,
    pub ingress: u32,
    pub seen: Seen,
}

#[derive(Clone, Debug)]
pub enum Seen {
    Frame {
        stage: Stage,
        outcome: &'static str,
        action: &'static str,
        /// The counter of the backend, or of the rule without one; None: neither.
        counter: Option<u32>,
        /// The egress device; None: no rule and no connection said one.
        egress: Option<u32>,
        bytes: Vec<u8>,
        len: usize,
        /// It is told of once more when it has left.
        follows: bool,
    },
    /// The frame of this packet that left before.
    Lost(Loss, Option<String>),
}

/// Who reads sightings. False ends that.
pub trait Watcher {
    fn see(&mut self, sighting: RawSighting) -> Result<bool>;
    /// From time to time, whether or not there is anything to see.
    fn tick(&mut self) -> Result<bool>;
}

/// What the slot of a skipper for its taker is called, and the key of the only one: see bpf/capture.h.
const TAKER: &str = "taker";
const SLOT: [u8; 4] = [0; 4];

/// A capture that goes on until this is dropped.
pub struct Capture {
    stand_ins: Vec<StandIn>,
    /// With their takers, which the kernel takes out when nobody has these open.
    takers: Vec<MapHandle>,
    maps: Maps,
    lost: Vec<Lost>,
    /// Why lost frames of some interfaces are not seen, though they were wanted.
    pub no_lost: Option<Error>,
    clock: Clock,
}

/// What all programs of a capture share.
struct Maps {
    sightings: MapHandle,
    views: MapHandle,
    counters: MapHandle,
    captured: MapHandle,
    /// Of interfaces that keep none.
    ledgers: MapHandle,
    labelled: MapHandle,
    next_label: MapHandle,
}

impl Maps {
    fn create() -> Result<Self> {
        let captured = size_of::<abi::captured>() as u32;
        let ledger = size_of::<abi::ledger>() as u32;
        let view = size_of::<abi::view>() as u32;
        let labelled = size_of::<abi::labelled>() as u32;
        let maps = Maps {
            sightings: create(MapType::RingBuf, "sightings", [0, 0], abi::CAPTURE_ROOM, 0)?,
            views: create(
                MapType::Array,
                "views",
                [4, view],
                kernel::cpu_numbers()?,
                0,
            )?,
            counters: create(
                MapType::Hash,
                "wanted_counters",
                [4, 4],
                abi::MAX_WANTED,
                libbpf_sys::BPF_F_NO_PREALLOC,
            )?,
            captured: create(MapType::PercpuArray, "captured", [4, captured], 1, 0)?,
            ledgers: create(MapType::PercpuArray, LEDGERS, [4, ledger], 1, 0)?,
            labelled: create(MapType::Array, "labelled", [4, labelled], abi::LABELLED, 0)?,
            next_label: create(MapType::Array, "next_label", [4, 4], 1, 0)?,
        };
        // So that labels of a capture that ended just now, which are still on their way, are hardly among these.
        let first = RandomState::new().hash_one(0) as u32;
        maps.next_label
            .update(&[0; 4], &first.to_ne_bytes(), MapFlags::ANY)?;
        Ok(maps)
    }

    /// Has an object use them.
    fn share(&self, object: &mut OpenObject) -> Result<()> {
        for (name, map) in [
            ("sightings", &self.sightings),
            ("views", &self.views),
            ("wanted_counters", &self.counters),
            ("captured", &self.captured),
            ("labelled", &self.labelled),
            ("next_label", &self.next_label),
        ] {
            reuse_map(object, name, map)?;
        }
        Ok(())
    }
}

fn create(
    kind: MapType,
    name: &str,
    [key, value]: [u32; 2],
    entries: u32,
    flags: u32,
) -> Result<MapHandle> {
    let options = libbpf_sys::bpf_map_create_opts {
        sz: size_of::<libbpf_sys::bpf_map_create_opts>() as libbpf_sys::size_t,
        map_flags: flags,
        ..Default::default()
    };
    MapHandle::create(kind, Some(name), key, value, entries, &options)
        .map_err(|error| refusal::of_map(name, error))
}

impl Capture {
    /// Begins at these interfaces; with the counters of the rules that are wanted.
    pub fn begin(
        pins: &Pins,
        interfaces: &[Interface],
        wanted: &Wanted,
        counters: &[u32],
    ) -> Result<Self> {
        let mut capture = Capture {
            stand_ins: Vec::new(),
            takers: Vec::new(),
            maps: Maps::create()?,
            lost: Vec::new(),
            no_lost: None,
            clock: Clock::now()?,
        };
        capture.want(counters)?;
        if wanted.stages.contains(&Stage::Lost) {
            capture.see_lost(pins, interfaces);
        }
        for interface in interfaces {
            capture.add(pins, interface, wanted)?;
        }
        Ok(capture)
    }

    /// Has the kernel tell of frames, too, that it loses.
    fn see_lost(&mut self, pins: &Pins, interfaces: &[Interface]) {
        let own = Some(&self.maps.ledgers);
        for (hook, own) in [(Hook::Xdp, None), (Hook::Xdp, own), (Hook::Tc, None)] {
            let is_it =
                |it: &Interface| Hook::of(it.mode) == hook && lacks_ledger(it) == own.is_some();
            if interfaces.iter().any(is_it) {
                match Lost::begin(pins, hook, own, |object| self.maps.share(object)) {
                    Ok(lost) => self.lost.push(lost),
                    Err(error) => self.no_lost = self.no_lost.take().or(Some(error)),
                }
            }
        }
    }

    fn add(&mut self, pins: &Pins, interface: &Interface, wanted: &Wanted) -> Result<()> {
        let mut place = Place::of(pins, interface)?;
        if lacks_ledger(interface) && wanted.stages.contains(&Stage::Lost) {
            place.ledger = Some(MapHandle::try_from(&self.maps.ledgers)?);
        }
        let mut program = self.load(&place, wanted, true, |_| Ok(()))?.0;
        if !wanted.is_all() {
            let put = |skipper: &Object| put_taker(skipper, &program);
            let (skipper, taker) = self.load(&place, wanted, false, put)?;
            self.takers.push(taker);
            program = skipper;
        }
        self.stand_ins.push(place.give(program)?);
        Ok(())
    }

    /// The taker, which shows what it decides, or the skipper.
    fn load<T>(
        &self,
        place: &Place<'_>,
        wanted: &Wanted,
        shows: bool,
        take: impl FnOnce(&Object) -> Result<T>,
    ) -> Result<(OwnedFd, T)> {
        let prepare = |object: &mut OpenObject| {
            let teller = self.name_teller(place, object)?;
            self.prepare(object, wanted, teller)
        };
        match place.mode() {
            Mode::Native | Mode::Skb => {
                place.load(XdpredirCaptureSkelBuilder::default(), shows, prepare, take)
            }
            Mode::Tc => place.load(
                XdpredirCaptureTcSkelBuilder::default(),
                shows,
                prepare,
                take,
            ),
        }
    }

    /// The number of the tellers that an interface's program is to name. Where they are no tellers but run by
    /// themselves, any will do.
    fn name_teller(&self, place: &Place<'_>, object: &mut OpenObject) -> Result<u32> {
        if place.ledger.is_some() {
            return Ok(0);
        }
        let Some((number, telling)) = self.lost.iter().find_map(Lost::teller) else {
            return Ok(abi::TELLERS);
        };
        reuse_map(object, TELLING, telling)?;
        Ok(number)
    }

    fn prepare(&self, object: &mut OpenObject, wanted: &Wanted, teller: u32) -> Result<()> {
        self.maps.share(object)?;
        for mut map in object.maps_mut() {
            match &*map.name().to_string_lossy() {
                ".rodata.wanted" => {
                    let packets = wanted::encode(&wanted.packets);
                    map.set_initial_value(abi::bytes_of(&packets))?;
                }
                ".rodata.capture" => {
                    map.set_initial_value(abi::bytes_of(&encode(wanted, teller)))?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Has the packets of these counters wanted, besides others.
    pub fn want(&self, counters: &[u32]) -> Result<()> {
        for counter in counters {
            let (key, value) = (counter.to_ne_bytes(), 1u32.to_ne_bytes());
            self.maps.counters.update(&key, &value, MapFlags::ANY)?;
        }
        Ok(())
    }

    /// The interfaces whose packets it sees no longer, since this was asked last.
    pub fn ended(&mut self, pins: &Pins) -> Result<Vec<(Interface, Standing)>> {
        self.lost.iter().try_for_each(Lost::stay)?;
        let mut ended = Vec::new();
        let mut standing = Vec::new();
        for stand_in in self.stand_ins.drain(..) {
            match stand_in.look(pins)? {
                Standing::Stands => standing.push(stand_in),
                end => ended.push((stand_in.interface().clone(), end)),
            }
        }
        self.stand_ins = standing;
        Ok(ended)
    }

    pub fn is_over(&self) -> bool {
        self.stand_ins.is_empty()
    }

    /// From now on there is nothing more to see but what was told already.
    pub fn end(&mut self) {
        self.stand_ins.clear();
    }

    /// How often the ring buffer had no room.
    pub fn missed(&self) -> Result<u64> {
        let mut missed = self.lost.iter().map(Lost::missed).sum();
        let views = &self.maps.views;
        for cpu in 0..views.max_entries() {
            let view = views.lookup(&cpu.to_ne_bytes(), MapFlags::ANY)?;
            let first = view.as_ref().and_then(|view| view.first_chunk());
            missed += first.map_or(0, |bytes| u64::from_ne_bytes(*bytes));
        }
        Ok(missed)
    }

    /// What `watch` reads.
    pub fn source(&self) -> Result<Source> {
        Ok(Source {
            sightings: MapHandle::try_from(&self.maps.sightings)?,
            clock: self.clock,
            reasons: LazyCell::new(DropReasons::of_kernel),
        })
    }
}

/// Gives a skipper its taker. The slot that this is in.
fn put_taker(skipper: &Object, program: &OwnedFd) -> Result<MapHandle> {
    let slots = MapHandle::try_from(&map_of(skipper, TAKER)?)?;
    slots.update(&SLOT, &program.as_raw_fd().to_ne_bytes(), MapFlags::ANY)?;
    Ok(slots)
}

/// At the tc hook, a capture needs none.
fn lacks_ledger(interface: &Interface) -> bool {
    interface.mode != Mode::Tc && interface.ledger != LedgerState::On
}

fn encode(wanted: &Wanted, teller: u32) -> abi::capture {
    let bit = |stage: &Stage| {
        1 << match stage {
            Stage::Arrived => abi::STAGE_ARRIVED,
            Stage::Left => abi::STAGE_LEFT,
            Stage::Lost => abi::STAGE_LOST,
        }
    };
    let all: Vec<&str>;
    let outcomes = match &wanted.outcomes {
        Some(outcomes) => outcomes,
        None => {
            all = outcome_names().collect();
            &all
        }
    };
    abi::capture {
        outcomes: bits_of(outcomes),
        stages: wanted.stages.iter().map(bit).fold(0, |all, bit| all | bit),
        snaplen: wanted.snaplen,
        sample: wanted.sample,
        by_rule: wanted.by_rule.into(),
        teller,
        unused: 0,
    }
}

/// What time it is, by the clock of programs.
#[derive(Clone, Copy)]
struct Clock {
    /// When that clock said 0.
    zero: SystemTime,
}

impl Clock {
    fn now() -> Result<Self> {
        let since = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?);
        let zero = SystemTime::now().checked_sub(since);
        Ok(Clock {
            zero: zero.unwrap_or(SystemTime::UNIX_EPOCH),
        })
    }

    fn time(&self, nanoseconds: u64) -> SystemTime {
        self.zero + Duration::from_nanos(nanoseconds)
    }
}

/// Where sightings are read.
pub struct Source {
    sightings: MapHandle,
    clock: Clock,
    reasons: LazyCell<DropReasons>,
}

/// Why reading stops.
enum Pause {
    Tick,
    End,
    Failed(Error),
}

impl Source {
    /// Shows a watcher all that there is to see, until he has enough.
    pub fn watch(&self, watcher: &mut impl Watcher) -> Result<()> {
        self.read(watcher, |_| false)
    }

    /// Shows him what was told before, once nothing more is told.
    pub fn rest(&self, watcher: &mut impl Watcher) -> Result<()> {
        self.read(watcher, |read| read == 0)
    }

    fn read(&self, watcher: &mut impl Watcher, is_all: fn(i32) -> bool) -> Result<()> {
        let state = RefCell::new((watcher, None, Instant::now()));
        let mut builder = RingBufferBuilder::new();
        builder.add(&self.sightings, |bytes| {
            let (watcher, pause, last) = &mut *state.borrow_mut();
            *pause = match self.decode(bytes).and_then(|seen| watcher.see(seen)) {
                Ok(true) if last.elapsed() < TICK => return 0,
                Ok(true) => Some(Pause::Tick),
                Ok(false) => Some(Pause::End),
                Err(error) => Some(Pause::Failed(error)),
            };
            -1
        })?;
        let buffer = builder.build()?;
        loop {
            let read = match buffer.poll_raw(PAUSE) {
                0 => buffer.consume_raw(),
                read => read,
            };
            let (watcher, pause, last) = &mut *state.borrow_mut();
            match pause.take() {
                Some(Pause::End) => return Ok(()),
                Some(Pause::Failed(error)) => return Err(error),
                Some(Pause::Tick) => {}
                None if read < 0 && read != -libc::EINTR => {
                    let error = std::io::Error::from_raw_os_error(-read);
                    return Err(error).context("cannot read what the program tells");
                }
                None if is_all(read) => return Ok(()),
                None => {}
            }
            if last.elapsed() >= TICK {
                *last = Instant::now();
                if !watcher.tick()? {
                    return Ok(());
                }
            }
        }
    }

    fn decode(&self, bytes: &[u8]) -> Result<RawSighting> {
        let (head, bytes) = bytes
            .split_at_checked(size_of::<abi::sighting>())
            .context("the program tells too little")?;
        let head: abi::sighting = abi::from_bytes(head)?;
        let seen = match head.stage {
            abi::STAGE_LOST => {
                let (reason, error) = (head.outcome as u16, head.error as u16);
                let (loss, error) = ledger::in_words(reason, error, &self.reasons);
                Seen::Lost(loss, error)
            }
            abi::STAGE_LEFT => frame(Stage::Left, &head, bytes)?,
            _ => frame(Stage::Arrived, &head, bytes)?,
        };
        Ok(RawSighting {
            time: self.clock.time(head.time),
            number: head.number,
            ingress: head.ingress,
            seen,
        })
    }
}

fn frame(stage: Stage, head: &abi::sighting, bytes: &[u8]) -> Result<Seen> {
    let captured = bytes.get(..head.captured as usize);
    let captured = captured.context("the program tells too little of a frame")?;
    let (outcome, action) = outcome(head.outcome).context("an outcome that nobody knows")?;
    let has = |value: u32, none: u32| (head.decided != 0 && value != none).then_some(value);
    let (bytes, len) = with_tag(head, captured);
    Ok(Seen::Frame {
        stage,
        outcome,
        action,
        counter: has(head.counter, abi::UNATTRIBUTED),
        egress: has(head.ifindex, 0),
        bytes,
        len,
        follows: head.follows != 0,
    })
}

/// With the tag that was beside the frame where it belongs: behind the MAC addresses.
fn with_tag(head: &abi::sighting, captured: &[u8]) -> (Vec<u8>, usize) {
    const MACS: usize = 12;
    const TAG: usize = 4;
    let len = head.len as usize;
    let Some((macs, rest)) = captured
        .split_at_checked(MACS)
        .filter(|_| head.beside & abi::TAG_BESIDE != 0)
    else {
        return (captured.to_vec(), len);
    };
    let tag_type = (head.tag_type as u16).to_ne_bytes(); // in network byte order already
    let tci = (head.beside as u16).to_be_bytes();
    ([macs, &tag_type, &tci, rest].concat(), len + TAG)
}
