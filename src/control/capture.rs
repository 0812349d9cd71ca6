//! Frames as they arrive and as they leave, with what was decided for them.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use anyhow::Result;

use super::selector::text;
use super::{RuleSelector, validate};
use crate::datapath::{
    self, Capture, Interface, Pins, RawSighting, RuleStore, Seen, Standing, WantedFrames, Watcher,
};
use crate::error::{Exit, failure, refusal};
use crate::host::device;
use crate::model::{Action, PacketFilter, Refusal, Remedy, Sighting, Stage, Verb};

pub use crate::datapath::{MAX_SNAPLEN, outcome_names};

/// Bytes of frames that left, which are kept in case that the kernel loses some of them.
const KEPT: usize = 16 << 20;

/// Packets that are to be told of once more. More of them have been missed.
const PENDING: usize = 4096;

/// Which frames are to be seen.
#[derive(Clone, Debug)]
pub struct CaptureRequest {
    /// Empty: all attached ones.
    pub interfaces: Vec<String>,
    pub packets: PacketFilter,
    /// Only packets that these rules took, for these backends.
    pub rules: Option<RuleSelector>,
    /// None: all.
    pub outcomes: Option<Vec<&'static str>>,
    pub stages: Vec<Stage>,
    /// So many bytes of each frame.
    pub snaplen: u32,
    /// One packet of so many.
    pub sample: u32,
    /// It ends after so many packets.
    pub count: Option<u64>,
}

/// What was seen.
#[derive(Debug, Default)]
pub struct CaptureReport {
    pub packets: u64,
    /// Frames that there was no room to tell of.
    pub missed: u64,
    /// No interface is left.
    pub is_over: bool,
}

/// A capture that goes on until this is dropped.
pub struct Capturing {
    pins: Pins,
    request: CaptureRequest,
    capture: Capture,
    pub interfaces: Vec<String>,
    /// Why lost frames are not seen, though they were wanted.
    pub no_lost: Option<Refusal>,
}

/// What somebody is told of.
pub enum Told<'a> {
    Sighting(&'a Sighting),
    /// The packets of this interface are seen no longer.
    Ended(&'a str, &'static str),
}

/// Begins a capture.
pub fn capture(pins: &Pins, request: CaptureRequest) -> Result<Capturing> {
    validate::packets(&request.packets)?;
    let interfaces = interfaces(pins, &request.interfaces)?;
    let counters = match &request.rules {
        Some(selector) => {
            let counters = wanted_counters(&RuleStore::open(pins)?, selector)?;
            selector.require(&counters)?;
            counters
        }
        None => Vec::new(),
    };
    let wanted = WantedFrames {
        packets: request.packets.clone(),
        by_rule: request.rules.is_some(),
        outcomes: request.outcomes.clone(),
        stages: request.stages.clone(),
        snaplen: request.snaplen,
        sample: request.sample,
    };
    let capture = Capture::begin(pins, &interfaces, &wanted, &counters)?;
    Ok(Capturing {
        pins: pins.clone(),
        request,
        interfaces: interfaces.iter().map(Interface::name).collect(),
        no_lost: capture.no_lost.as_ref().map(refusal),
        capture,
    })
}

fn interfaces(pins: &Pins, names: &[String]) -> Result<Vec<Interface>> {
    let found = datapath::read(pins, || datapath::interfaces(pins))?;
    let mut found = found.ok_or_else(|| datapath::not_attached(pins))?;
    for name in names {
        if !found.iter().any(|interface| interface.answers_to(name)) {
            let why = format!("{name}: not attached");
            let status = Remedy::from(Verb::Plain("status")) + " shows the interfaces that are";
            return Err(failure(Exit::NotFound, (why, status)));
        }
    }
    let is_named = |interface: &Interface| names.iter().any(|name| interface.answers_to(name));
    found.retain(|interface| names.is_empty() || is_named(interface));
    if found.is_empty() {
        return Err(datapath::not_attached(pins));
    }
    Ok(found)
}

/// The counters of the selected rules and backends.
fn wanted_counters(store: &RuleStore, selector: &RuleSelector) -> Result<Vec<u32>> {
    let mut counters = Vec::new();
    for rule in selector.rules(store)? {
        match rule.action {
            Action::Redirect => {
                let backends = rule.backends.iter();
                let selected = backends.filter(|backend| selector.matches_backend(backend));
                counters.extend(selected.filter_map(|backend| backend.counter));
            }
            _ => counters.extend(rule.counter),
        }
    }
    Ok(counters)
}

impl Capturing {
    /// Tells of what is seen, until `stop` says so, or the capture has come to its end.
    pub fn watch(
        &mut self,
        stop: &mut dyn FnMut() -> bool,
        tell: &mut dyn FnMut(Told) -> Result<()>,
    ) -> Result<CaptureReport> {
        let source = self.capture.source()?;
        let mut reader = Reader {
            known: Known::read(&self.pins)?,
            pins: &self.pins,
            request: &self.request,
            capture: &mut self.capture,
            stop,
            tell,
            names: HashMap::new(),
            pending: HashMap::new(),
            left: Left::default(),
            packets: 0,
            had_enough: false,
            is_over: false,
        };
        source.watch(&mut reader)?;
        reader.capture.end();
        if !reader.has_enough() {
            source.rest(&mut reader)?;
        }
        Ok(CaptureReport {
            packets: reader.packets,
            is_over: reader.is_over,
            missed: reader.capture.missed()?,
        })
    }
}

/// The rules and backends by their counters, as they are in one revision.
struct Known {
    store: RuleStore,
    revision: u64,
    ways: HashMap<u32, (String, Option<IpAddr>)>,
}

impl Known {
    fn read(pins: &Pins) -> Result<Self> {
        let store = RuleStore::open(pins)?;
        let revision = store.revision()?;
        let mut ways = HashMap::new();
        for rule in store.list()? {
            let words = text(&rule.matches);
            ways.extend(rule.counter.map(|counter| (counter, (words.clone(), None))));
            for backend in &rule.backends {
                let way = (words.clone(), Some(backend.server));
                ways.extend(backend.counter.map(|counter| (counter, way)));
            }
        }
        Ok(Known {
            store,
            revision,
            ways,
        })
    }
}

/// Frames that have left, the latest ones.
#[derive(Default)]
struct Left {
    frames: VecDeque<(u32, Sighting)>,
    bytes: usize,
}

impl Left {
    fn keep(&mut self, number: u32, sighting: Sighting) {
        self.bytes += size(&sighting);
        self.frames.push_back((number, sighting));
        while self.bytes > KEPT {
            let Some((_, oldest)) = self.frames.pop_front() else {
                return;
            };
            self.bytes -= size(&oldest);
        }
    }

    fn find(&self, number: u32) -> Option<&Sighting> {
        let mut latest = self.frames.iter().rev();
        latest.find_map(|(kept, sighting)| (*kept == number).then_some(sighting))
    }
}

fn size(sighting: &Sighting) -> usize {
    size_of::<Sighting>() + sighting.bytes.len()
}

struct Reader<'a> {
    pins: &'a Pins,
    request: &'a CaptureRequest,
    capture: &'a mut Capture,
    stop: &'a mut dyn FnMut() -> bool,
    tell: &'a mut dyn FnMut(Told) -> Result<()>,
    known: Known,
    names: HashMap<u32, String>,
    /// The packets that are to be told of once more, by the program's numbers.
    pending: HashMap<u32, u64>,
    left: Left,
    packets: u64,
    had_enough: bool,
    is_over: bool,
}

impl Watcher for Reader<'_> {
    fn see(&mut self, raw: RawSighting) -> Result<bool> {
        let (number, follows) = (
            raw.number,
            matches!(raw.seen, Seen::Frame { follows: true, .. }),
        );
        let Some(mut sighting) = self.understand(raw) else {
            return Ok(true);
        };
        if let Some(packet) = self.pending.remove(&number) {
            sighting.packet = packet;
        }
        let is_shown = self.request.stages.contains(&sighting.stage);
        if is_shown && sighting.packet == 0 {
            if self.has_enough() {
                return Ok(!self.is_done());
            }
            self.packets += 1;
            sighting.packet = self.packets;
        }
        if is_shown {
            (self.tell)(Told::Sighting(&sighting))?;
        }
        if follows {
            self.expect(number, sighting.packet);
        }
        if sighting.stage == Stage::Left && self.wants_lost() {
            self.left.keep(number, sighting);
        }
        Ok(!self.is_done())
    }

    fn tick(&mut self) -> Result<bool> {
        self.names.clear();
        if self.capture.is_over() {
            return Ok(!(self.stop)()); // it is about what was told before
        }
        let ended = self.capture.ended(self.pins)?;
        for (interface, end) in ended {
            let why = match end {
                Standing::Replaced => "its program was replaced",
                _ => "it was detached, or its device is gone",
            };
            (self.tell)(Told::Ended(&interface.name(), why))?;
        }
        self.is_over = self.capture.is_over();
        if self.is_over || (self.stop)() {
            return Ok(false);
        }
        self.follow_changes()?;
        // One more, in which the last packets can leave, or be lost.
        let has_enough = self.has_enough();
        let is_last = std::mem::replace(&mut self.had_enough, has_enough);
        Ok(!is_last)
    }
}

impl Reader<'_> {
    fn has_enough(&self) -> bool {
        self.request
            .count
            .is_some_and(|count| self.packets >= count)
    }

    fn wants_lost(&self) -> bool {
        self.request.stages.contains(&Stage::Lost)
    }

    /// Whether nothing more can come of the packets that were to be seen. Ticks wait for those that are lost.
    fn is_done(&self) -> bool {
        self.has_enough() && self.pending.is_empty() && !self.wants_lost()
    }

    fn expect(&mut self, number: u32, packet: u64) {
        if self.pending.len() >= PENDING {
            self.pending.clear();
        }
        self.pending.insert(number, packet);
    }

    /// Rules that have changed have other counters.
    fn follow_changes(&mut self) -> Result<()> {
        if self.known.store.revision()? == self.known.revision {
            return Ok(());
        }
        self.known = Known::read(self.pins)?;
        if let Some(selector) = &self.request.rules {
            let counters = wanted_counters(&self.known.store, selector)?;
            self.capture.want(&counters)?;
        }
        Ok(())
    }

    fn name(&mut self, ifindex: u32) -> String {
        let name = || device::name_of(ifindex).unwrap_or_else(|| format!("ifindex {ifindex}"));
        self.names.entry(ifindex).or_insert_with(name).clone()
    }

    /// None: what was lost is not known any more.
    fn understand(&mut self, raw: RawSighting) -> Option<Sighting> {
        let RawSighting { time, ingress, .. } = raw;
        match raw.seen {
            Seen::Lost(loss, error) => Some(Sighting {
                time,
                stage: Stage::Lost,
                loss: Some((loss, error)),
                ..self.left.find(raw.number)?.clone()
            }),
            Seen::Frame {
                stage,
                outcome,
                action,
                counter,
                egress,
                bytes,
                len,
                ..
            } => {
                let egress = match action {
                    "redirect" => egress,
                    "tx" => Some(ingress),
                    _ => None,
                };
                let way = counter.and_then(|counter| self.known.ways.get(&counter));
                let (rule, server) = way.cloned().unzip();
                Some(Sighting {
                    time,
                    packet: 0,
                    stage,
                    ingress: self.name(ingress),
                    egress: egress.map(|egress| self.name(egress)),
                    outcome,
                    action,
                    rule,
                    server: server.flatten(),
                    loss: None,
                    bytes,
                    len,
                })
            }
        }
    }
}
