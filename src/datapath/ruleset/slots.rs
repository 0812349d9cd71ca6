//! The two slots: the one whose rule set packets see, and the one that the next is written into.

use std::sync::atomic::{Ordering, fence};

use anyhow::{Result, ensure};
use libbpf_rs::{MapCore, MapFlags};

use crate::datapath::maps::Map;
use crate::datapath::{Pins, abi};

pub struct Slots {
    live: Map<u32, u32>,
    rulesets: Map<u32, abi::ruleset>,
}

/// A slot with its rule set.
#[derive(Clone, Copy)]
pub struct Slot {
    pub number: u32,
    pub set: abi::ruleset,
}

impl Slots {
    pub fn open(pins: &Pins) -> Result<Self> {
        Ok(Slots {
            live: Map::shared(pins, "live")?,
            rulesets: Map::shared(pins, "rulesets")?,
        })
    }

    /// The slot that packets see.
    pub fn live(&self) -> Result<Slot> {
        let number = self.live.get(&0)?.unwrap_or_default() & abi::LIVE_SLOT;
        let set = self.rulesets.get(&number)?.unwrap_or_default();
        Ok(Slot { number, set })
    }

    /// Whether what was read of a slot was its rule set: while nobody writes another one into it, the
    /// revision stays.
    pub fn is_unchanged(&self, slot: &Slot) -> Result<bool> {
        fence(Ordering::SeqCst);
        let now = self.rulesets.get(&slot.number)?.unwrap_or_default();
        Ok(slot.set.revision != 0 && now.revision == slot.set.revision)
    }

    /// Begins to write into the slot that packets do not see; it has the live rule set. The caller has
    /// waited until no packet is on its way through what was there.
    pub fn begin(&self, live: &Slot) -> Result<Slot> {
        let staged = Slot {
            number: 1 - live.number,
            set: abi::ruleset {
                revision: 0,
                ..live.set
            },
        };
        self.rulesets.put(&staged.number, &staged.set)?;
        fence(Ordering::SeqCst);
        Ok(staged)
    }

    /// Makes the staged slot the live one. That is the moment at which packets and other runs see the change.
    /// `has_dormant`: an interface is dormant from then on.
    pub fn publish(&self, staged: &Slot, revision: u64, has_dormant: bool) -> Result<()> {
        let set = abi::ruleset {
            revision,
            ..staged.set
        };
        self.rulesets.put(&staged.number, &set)?;
        // What the slot has is in memory before it is live.
        fence(Ordering::SeqCst);
        let slot = Slot { set, ..*staged };
        self.live.put(&0, &bits(&slot, has_dormant))
    }

    /// Has programs look whether their interface is dormant, or no longer look. The caller holds the lock.
    pub fn set_dormant(&self, has_dormant: bool) -> Result<()> {
        let bits = bits(&self.live()?, has_dormant);
        match self.live.get(&0)? == Some(bits) {
            true => Ok(()),
            false => self.live.put(&0, &bits),
        }
    }
}

/// What the map `live` has of the slot that is live.
fn bits(slot: &Slot, has_dormant: bool) -> u32 {
    let connections = match slot.set.remembering {
        0 => 0,
        _ => abi::LIVE_CONNECTIONS,
    };
    let dormant = match has_dormant {
        true => abi::LIVE_DORMANT,
        false => 0,
    };
    slot.number | connections | dormant
}

/// That of a rule set that nobody has published.
pub const FIRST_REVISION: u64 = 1;

/// The first rule set has no rules.
pub fn init(rulesets: &impl MapCore, hash_key: u64) -> Result<()> {
    let set = abi::ruleset {
        revision: FIRST_REVISION,
        hash_key,
        ..Default::default()
    };
    ensure!(rulesets.value_size() as usize == size_of_val(&set));
    rulesets.update(&0u32.to_ne_bytes(), abi::bytes_of(&set), MapFlags::ANY)?;
    Ok(())
}
