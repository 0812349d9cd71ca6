//! Finding the longest prefix with what the kernel has: in a trie, and in a hash table that is asked once
//! for each length in use. The program's own table of rules is beside these in `rules`.

use std::mem::MaybeUninit;

use anyhow::{Context as _, Result, ensure};
use libbpf_rs::skel::{OpenSkel as _, SkelBuilder as _};
use libbpf_rs::{MapCore, MapFlags, OpenObject, ProgramInput};

use crate::host::kernel_memory;
use crate::report::{Line, Section};
use crate::rounds::take_turns;
use crate::spread::Spread;
use crate::traffic::PORT;
use crate::{Setup, frame, prefixes};

#[allow(clippy::all, clippy::undocumented_unsafe_blocks, unsafe_code)]
mod skel {
    include!(concat!(env!("OUT_DIR"), "/lookup.skel.rs"));
}

use skel::{LookupSkel, LookupSkelBuilder};

// As in ../lookup.bpf.c.
const LOOKUPS: u32 = 64;
const SERVICE_BITS: u32 = 64;
const VALUE: [u8; 72] = [0; 72];
const PROTOCOL: u8 = 17;
const FAMILY: u8 = 4;

const RUNS: u32 = 1000;
const BATCH: usize = 10_000;

struct Case {
    name: &'static str,
    lengths: &'static [u32],
}

const CASES: [Case; 2] = [
    Case {
        name: "8 lengths",
        lengths: &prefixes::LENGTHS,
    },
    Case {
        name: "2 lengths",
        lengths: &[32, 24],
    },
];

/// The number of addresses that repeat, a power of two; 0: each address is new.
const WORKING_SETS: [(&str, u32); 2] = [("64 addresses", 64), ("random addresses", 0)];

#[derive(Clone, Copy)]
enum Subject {
    /// Looks nothing up.
    Control,
    Trie,
    Hash,
}

pub fn measure(setup: &Setup) -> Result<Section> {
    let mut lines = Vec::new();
    for case in &CASES {
        lines.extend(measure_case(case, setup).context(case.name)?);
    }
    Ok(Section {
        name: "lookup",
        about: "the longest of a million IPv4 prefixes; test runs, draws of the address taken off",
        lines,
    })
}

fn measure_case(case: &Case, setup: &Setup) -> Result<Vec<Line>> {
    let mut storage = [MaybeUninit::uninit(), MaybeUninit::uninit()];
    let [trie_storage, hash_storage] = &mut storage;
    let prefixes = || (0..setup.rules).map(|number| prefixes::v4(number, case.lengths));

    let empty = kernel_memory()?;
    let trie = load(trie_storage, case, [setup.rules, 1])?;
    fill(&trie.maps.trie, prefixes().map(trie_key))?;
    let with_trie = kernel_memory()?;
    let hash = load(hash_storage, case, [1, setup.rules])?;
    fill(&hash.maps.hash, prefixes().map(hash_key))?;
    let with_both = kernel_memory()?;

    let line = |subject, from, to: u64| {
        let bytes = to.saturating_sub(from) as f64 / f64::from(setup.rules);
        Line::new(case.name, subject, Spread::of(&[bytes]), "B per prefix")
    };
    let mut lines = vec![
        line("trie", empty, with_trie),
        line("hash", with_trie, with_both),
    ];
    let mut structures = Structures { trie, hash };
    for (name, addresses) in WORKING_SETS {
        let name = format!("{}, {name}", case.name);
        lines.extend(structures.time_lines(&name, addresses, setup)?);
    }
    Ok(lines)
}

struct Structures<'obj> {
    trie: LookupSkel<'obj>,
    hash: LookupSkel<'obj>,
}

impl Structures<'_> {
    fn time_lines(&mut self, name: &str, addresses: u32, setup: &Setup) -> Result<Vec<Line>> {
        let subjects = [Subject::Control, Subject::Trie, Subject::Hash];
        let ns = take_turns(setup.rounds, &subjects, |&subject| {
            let skel = match subject {
                Subject::Trie => &mut self.trie,
                Subject::Control | Subject::Hash => &mut self.hash,
            };
            draw_from(skel, setup.rules, addresses)?;
            run(skel, subject)
        })?;
        let [control, trie, hash] = [&ns[0], &ns[1], &ns[2]];
        let beside = Spread::derived([hash, trie, control], |[hash, trie, control]| {
            (hash - control) / (trie - control)
        });
        let line = |subject, value, unit| Line::new(name, subject, value, unit);
        Ok(vec![
            line("trie", Spread::above(trie, control), "ns per lookup"),
            line("hash", Spread::above(hash, control), "ns per lookup"),
            line("hash", beside, "× trie"),
        ])
    }
}

fn load<'obj>(
    storage: &'obj mut MaybeUninit<OpenObject>,
    case: &Case,
    [in_trie, in_hash]: [u32; 2],
) -> Result<LookupSkel<'obj>> {
    let mut skel = LookupSkelBuilder::default().open(storage)?;
    let globals = skel.maps.rodata_data.as_deref_mut();
    let globals = globals.context("the programs have no constants")?;
    globals.port = PORT.to_be();
    globals.length_count = case.lengths.len() as u32;
    globals.lengths[..case.lengths.len()].copy_from_slice(case.lengths);
    skel.maps.trie.set_max_entries(in_trie)?;
    skel.maps.hash.set_max_entries(in_hash)?;
    Ok(skel.load()?)
}

fn fill<const N: usize>(map: &impl MapCore, keys: impl Iterator<Item = [u8; N]>) -> Result<()> {
    let keys: Vec<_> = keys.collect();
    for keys in keys.chunks(BATCH) {
        let values = VALUE.repeat(keys.len());
        let (keys, count) = (keys.as_flattened(), keys.len() as u32);
        map.update_batch(keys, &values, count, MapFlags::ANY, MapFlags::NO_EXIST)?;
    }
    Ok(())
}

fn trie_key(prefix: ipnet::Ipv4Net) -> [u8; 28] {
    let mut key = [0; 28];
    let bits = SERVICE_BITS + u32::from(prefix.prefix_len());
    key[..4].copy_from_slice(&bits.to_ne_bytes());
    key[4..6].copy_from_slice(&PORT.to_be_bytes());
    key[8..10].copy_from_slice(&[PROTOCOL, FAMILY]);
    key[12..16].copy_from_slice(&prefix.network().octets());
    key
}

fn hash_key(prefix: ipnet::Ipv4Net) -> [u8; 24] {
    let mut key = [0; 24];
    key[..4].copy_from_slice(&prefix.network().octets());
    key[16..18].copy_from_slice(&PORT.to_be_bytes());
    key[20..23].copy_from_slice(&[PROTOCOL, FAMILY, prefix.prefix_len()]);
    key
}

fn draw_from(skel: &mut LookupSkel, prefixes: u32, addresses: u32) -> Result<()> {
    let globals = skel.maps.bss_data.as_deref_mut();
    let globals = globals.context("the programs have no globals")?;
    globals.prefixes = prefixes;
    globals.last_draw = addresses.wrapping_sub(1);
    globals.hits = 0;
    Ok(())
}

/// Nanoseconds per lookup, including what drawing the address costs.
fn run(skel: &LookupSkel, subject: Subject) -> Result<f64> {
    let program = match subject {
        Subject::Control => &skel.progs.control,
        Subject::Trie => &skel.progs.ask_trie,
        Subject::Hash => &skel.progs.ask_hash,
    };
    let output = program.test_run(ProgramInput {
        data_in: Some(&[0; frame::SHORTEST]),
        repeat: RUNS,
        ..Default::default()
    })?;
    let globals = skel.maps.bss_data.as_deref();
    let hits = globals.context("the programs have no globals")?.hits;
    let lookups = u64::from(RUNS) * u64::from(LOOKUPS);
    ensure!(hits == lookups, "{hits} of {lookups} addresses were found");
    Ok(output.duration.as_nanos() as f64 / f64::from(LOOKUPS))
}
