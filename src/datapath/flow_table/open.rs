//! Connections are listed, counted and ended, while packets begin and end them.

use std::collections::HashSet;
use std::mem::offset_of;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::atomic::{AtomicU64, fence};
use std::time::Duration;

use anyhow::Result;
use libbpf_rs::MapHandle;
use nix::time::{ClockId, clock_gettime};

use super::entry::{liveliness, of_entries};
use crate::datapath::bpffs::At;
use crate::datapath::maps::Map;
use crate::datapath::{Lock, Pins, abi, sys};
use crate::model::{Connection, ConnectionState, ConnectionStats, ConnectionsInUse, TableSize};

const WORDS: usize = size_of::<abi::flow_entry>() / size_of::<u64>();

/// An entry in the memory that the packet program uses.
type Place = [AtomicU64; WORDS];

/// The word of an entry that says whose it is.
fn id(place: &Place) -> &AtomicU64 {
    &place[0]
}

fn is_id(id: u64) -> bool {
    id > abi::FLOW_REMOVED.into()
}

/// The table of connections, in this process's memory.
pub struct FlowTable {
    /// Of entries.
    banks: Vec<sys::Words>,
    entries: u32,
    stats: Map<u32, u64>,
    /// When it was opened: CLOCK_MONOTONIC.
    now: Duration,
}

/// A connection, and where its request's entry is.
struct Found {
    place: u32,
    request: abi::flow_entry,
    connection: Connection,
}

impl FlowTable {
    /// None where no rule has remembered connections yet.
    pub fn open(pins: &Pins) -> Result<Option<Self>> {
        let table = super::read(pins)?;
        if table.buckets == 0 {
            return Ok(None);
        }
        let numbers = 0..table.buckets.div_ceil(abi::FLOW_BANK_BUCKETS);
        let banks = numbers.map(|number| map_bank(pins, number));
        let stats = Map::shared(pins, "flow_stats")?;
        FlowTable::of(banks.collect::<Result<_>>()?, &table, stats).map(Some)
    }

    /// The table that has these banks of entries.
    pub(super) fn of(
        banks: Vec<sys::Words>,
        table: &abi::flow_table,
        stats: Map<u32, u64>,
    ) -> Result<Self> {
        Ok(FlowTable {
            banks,
            entries: table.buckets.saturating_mul(abi::FLOW_WAYS),
            stats,
            now: clock_gettime(ClockId::CLOCK_MONOTONIC)?.into(),
        })
    }

    /// The connections that there are, in no order.
    pub fn connections(&self) -> impl Iterator<Item = Connection> {
        self.found().map(|found| found.connection)
    }

    /// Those that were counted last for the backends with these counters.
    pub fn connections_of(&self, counters: &HashSet<u32>) -> impl Iterator<Item = Connection> {
        let requests = self.requests();
        let of_backends = requests.filter(|(_, request)| counters.contains(&request.counter));
        let found = of_backends.filter_map(|(place, request)| self.find(place, request));
        found.map(|found| found.connection)
    }

    /// Ends the connections that are to end; how many. Their next packets begin new ones.
    pub fn end(&self, _: &Lock, is_to_end: impl Fn(&Connection) -> bool) -> usize {
        let found = self.found().filter(|found| is_to_end(&found.connection));
        let ended = found.filter(|found| self.remove(found)).count();
        self.remove_orphans();
        ended
    }

    /// The states of the connections. This is faster than the connections themselves, whose answers' entries lie
    /// elsewhere.
    pub fn states(&self) -> impl Iterator<Item = ConnectionState> {
        let live = self.requests();
        let live = live.filter_map(|(_, request)| liveliness(&request, self.now));
        live.map(|(state, _)| state)
    }

    /// How full it is.
    pub fn in_use(&self) -> ConnectionsInUse {
        ConnectionsInUse {
            now: self.states().count() as u64,
            most: (self.entries / 2).into(),
            bytes: self.banks.len() as u64 * u64::from(TableSize::BANK_BYTES),
        }
    }

    /// How full it is, and what became of connections.
    pub fn stats(&self) -> Result<ConnectionStats> {
        Ok(ConnectionStats {
            in_use: self.in_use(),
            new: self.stats.sum(abi::FLOW_NEW)?,
            expired: self.stats.sum(abi::FLOW_EXPIRED)?,
            evicted: self.stats.sum(abi::FLOW_EVICTED)?,
            refused: self.stats.sum(abi::FLOW_REFUSED)?,
        })
    }

    fn place(&self, number: u32) -> Option<&Place> {
        let bank = self.banks.get((number / abi::FLOW_BANK_ENTRIES) as usize)?;
        let index = (number % abi::FLOW_BANK_ENTRIES) as usize;
        let (places, _) = bank.as_chunks();
        places.get(index)
    }

    /// The entries that are requests'.
    fn requests(&self) -> impl Iterator<Item = (u32, abi::flow_entry)> {
        self.entries_of(abi::WAY_REQUEST)
    }

    fn entries_of(&self, way: u32) -> impl Iterator<Item = (u32, abi::flow_entry)> {
        let entry = move |number| {
            let place = self.place(number).filter(|place| way_of(place) == way)?;
            let entry = read(place)?;
            (u32::from(entry.way) == way).then_some((number, entry))
        };
        (0..self.entries).filter_map(entry)
    }

    fn found(&self) -> impl Iterator<Item = Found> {
        let requests = self.requests();
        requests.filter_map(|(place, request)| self.find(place, request))
    }

    /// The connection of a request's entry.
    fn find(&self, place: u32, request: abi::flow_entry) -> Option<Found> {
        let answer = read(self.place(request.peer)?)?;
        if answer.id != request.id || u32::from(answer.way) != abi::WAY_ANSWER {
            return None;
        }
        let connection = of_entries(&request, &answer, self.now)?;
        Some(Found {
            place,
            request,
            connection,
        })
    }

    /// Ends a connection. False where a packet or another run has ended it meanwhile.
    ///
    /// The request's entry goes first, as the packet program does it. A run that is killed before the answer's
    /// goes, too, leaves that one alone: nobody is sent by it, and it goes when its time is over or its room is
    /// needed, or with the next run.
    fn remove(&self, found: &Found) -> bool {
        let Found { place, request, .. } = found;
        let has_gone = self.remove_entry(*place, request.id);
        if has_gone {
            self.remove_entry(request.peer, request.id);
        }
        has_gone
    }

    /// Entries of answers whose request's has gone.
    fn remove_orphans(&self) {
        for (number, answer) in self.entries_of(abi::WAY_ANSWER) {
            let Some(request) = self.place(answer.peer) else {
                continue;
            };
            let now = id(request).load(Acquire);
            // While the packet program begins or ends a connection, it owns one entry or both.
            if now != answer.id && now != u64::from(abi::FLOW_BUSY) {
                self.remove_entry(number, answer.id);
            }
        }
    }

    /// Gives an entry up that still has this id.
    fn remove_entry(&self, number: u32, of: u64) -> bool {
        let removed = abi::FLOW_REMOVED.into();
        let place = self.place(number);
        place.is_some_and(|place| {
            let changed = id(place).compare_exchange(of, removed, AcqRel, Relaxed);
            changed.is_ok()
        })
    }
}

/// Half of the entries are not worth a copy.
fn way_of(place: &Place) -> u32 {
    const AT: usize = offset_of!(abi::flow_entry, way);
    let word = place[AT / size_of::<u64>()].load(Relaxed);
    word.to_ne_bytes()[AT % size_of::<u64>()].into()
}

fn map_bank(pins: &Pins, number: u32) -> Result<sys::Words> {
    let path = pins.flows().join(number.to_string());
    let bank = MapHandle::from_pinned_path(&path).at("cannot open", &path)?;
    sys::Words::map(&bank).at("cannot map", &path)
}

/// An entry as it was at one moment, but for what packets count and when they were seen. None where it
/// has no connection, or another one by the time at which it was read.
fn read(place: &Place) -> Option<abi::flow_entry> {
    let before = id(place).load(Acquire);
    if !is_id(before) {
        return None;
    }
    let words: [u64; WORDS] = std::array::from_fn(|index| place[index].load(Relaxed));
    fence(Acquire);
    if id(place).load(Relaxed) != before {
        return None;
    }
    let entry = abi::from_bytes::<abi::flow_entry>(abi::bytes_of(&words)).ok()?;
    (entry.id == before).then_some(entry)
}
