//! The interfaces that the program is attached to.

use std::ffi::c_char;
use std::path::PathBuf;

use anyhow::{Context, Result};
use libbpf_rs::{MapCore, MapFlags, MapHandle};

use super::attachment::{self, Ids};
use super::bpffs::{At, entries, exists};
use super::chain::Chain;
use super::maps::Counters;
use super::schema::schema_of;
use super::{Pins, abi, policy, sys};
use crate::host::{device, kernel};
use crate::model::{
    Actions, ChainProgram, ChainStats, Counter, CpuStats, InterfaceEntry, LedgerState, LinkState,
    Mac, Mode, Outcome, Outcomes, Policy, PolicySpec, Purpose,
};

/// The ways out of the program, by their names in JSON.
const OUTCOMES: [(u32, &str); abi::OUTCOMES as usize] = [
    (abi::OUTCOME_REDIRECTED, "redirected"),
    (abi::OUTCOME_FORWARDED, "forwarded"),
    (abi::OUTCOME_PASSED_BY_RULE, "passed_by_rule"),
    (abi::OUTCOME_DROPPED_BY_RULE, "dropped_by_rule"),
    (abi::OUTCOME_TO_SOCKET, "to_socket"),
    (abi::OUTCOME_NO_READER, "no_reader"),
    (abi::OUTCOME_ANSWERED, "answered"),
    (abi::OUTCOME_ANSWER_PASSED, "answer_passed"),
    (abi::OUTCOME_NO_CONNECTION, "no_connection"),
    (abi::OUTCOME_NO_SOURCE_PORT, "no_source_port"),
    (abi::OUTCOME_NO_RULE, "no_rule"),
    (abi::OUTCOME_NOT_IP, "not_ip"),
    (abi::OUTCOME_NOT_UDP_TCP, "not_udp_tcp"),
    (abi::OUTCOME_NOT_UNICAST, "not_unicast"),
    (abi::OUTCOME_TRUNCATED, "truncated"),
    (abi::OUTCOME_MALFORMED, "malformed"),
    (abi::OUTCOME_TAGS, "too_many_tags"),
    (abi::OUTCOME_EXTENSION_HEADERS, "extension_headers"),
    (abi::OUTCOME_FRAGMENT, "fragment_without_first"),
    (abi::OUTCOME_LATE_FIRST, "late_first_fragment"),
    (abi::OUTCOME_TTL, "ttl_exceeded"),
    (abi::OUTCOME_NO_DEVICE, "no_device"),
    (abi::OUTCOME_TOO_LONG, "too_long"),
    (abi::OUTCOME_TOO_BIG_SENT, "too_big_sent"),
    (abi::OUTCOME_TOO_LONG_DROPPED, "too_long_dropped"),
    (abi::OUTCOME_ANNOUNCED, "announced"),
    (abi::OUTCOME_ECHO_ANSWERED, "echo_answered"),
    (abi::OUTCOME_NO_HEADROOM, "no_headroom"),
    (abi::OUTCOME_POLICY_DROP, "policy_drop"),
    (abi::OUTCOME_POLICY_FORWARD, "policy_forward"),
    (abi::OUTCOME_POLICY_NO_DEVICE, "policy_no_device"),
    (abi::OUTCOME_POLICY_TOO_LONG, "policy_too_long"),
];

/// An interface as it was when the program was attached.
#[derive(Clone, Debug)]
pub struct Interface {
    pub ifindex: u32,
    pub mode: Mode,
    pub ledger: LedgerState,
    /// Frames in several buffers come along.
    pub frags: bool,
    /// libxdp's dispatcher calls the program.
    pub joined: bool,
    /// Frames that are redirected to it natively arrive.
    pub reachable: bool,
    /// As it is now.
    pub purpose: Purpose,
    /// What becomes of the frames that no rule matches, now.
    pub policy: Policy,
    /// Backends whose link is down are skipped.
    pub sees_links: bool,
    /// What the program sends back there arrives, as far as that was known.
    pub answers: bool,
    /// The device's MAC address.
    pub mac: Option<Mac>,
    /// Its device is in another network namespace. Who is not root can't tell.
    pub moved: bool,
    /// The version of the command that attached it; None: one that said nothing of it.
    pub version: Option<String>,
    name: String,
}

impl Interface {
    /// With what it does.
    pub(super) fn read(pins: &Pins, ifindex: u32, stance: abi::policy) -> Result<Self> {
        let config = constants_of(pins, ifindex)?;
        let mut interface = Interface {
            ifindex: config.ifindex,
            mode: match config.mode {
                abi::MODE_NATIVE => Mode::Native,
                abi::MODE_TC => Mode::Tc,
                _ => Mode::Skb,
            },
            ledger: match config.ledger {
                abi::LEDGER_ON => LedgerState::On,
                abi::LEDGER_UNWANTED => LedgerState::Unwanted,
                _ => LedgerState::Unavailable,
            },
            frags: config.frags != 0,
            joined: config.joined != 0,
            reachable: config.reachable != 0,
            purpose: policy::purpose(&stance),
            policy: policy::decode(stance),
            sees_links: config.to_device != 0,
            answers: config.answers != abi::ANSWERS_NONE,
            mac: Some(Mac(config.mac)).filter(|mac| mac.is_unicast()),
            moved: false,
            version: Some(text(&config.version)).filter(|version| !version.is_empty()),
            name: text(&config.name),
        };
        let ids = interface.ids(pins);
        interface.moved = ids.is_ok_and(|ids| ids.state == LinkState::Moved);
        Ok(interface)
    }

    /// As files have it.
    pub fn entry(&self) -> InterfaceEntry {
        InterfaceEntry {
            name: self.name(),
            mode: self.mode.into(),
            policy: match self.policy {
                Policy::Pass => PolicySpec::Pass,
                Policy::Drop => PolicySpec::Drop,
                Policy::Forward { ifindex, .. } => {
                    let name = device::name_of(ifindex);
                    PolicySpec::Forward(name.unwrap_or_else(|| ifindex.to_string()))
                }
            },
            ledger: self.ledger != LedgerState::Unwanted,
        }
    }

    /// The device's name now; if the device is gone or was moved, the name that it had.
    pub fn name(&self) -> String {
        // Another device may have its index here now.
        let now = device::name_of(self.ifindex).filter(|_| !self.moved);
        now.unwrap_or_else(|| self.name.clone())
    }

    pub fn answers_to(&self, name: &str) -> bool {
        self.name() == name
    }

    pub fn outcomes(&self, pins: &Pins) -> Result<(Actions, Outcomes)> {
        let path = pins.interface_map(self.ifindex, "outcomes");
        outcomes_of(&Counters::open(&path, "outcomes")?)
    }

    /// The programs that are asked before ours.
    pub fn chain(&self, pins: &Pins) -> Result<Vec<ChainProgram>> {
        let chain = Chain::live(pins, self.ifindex)?;
        chain.map_or_else(|| Ok(Vec::new()), |chain| chain.programs())
    }

    /// What was counted of each program of the chain; `by_cpu`: also by each CPU.
    pub fn chain_stats(&self, pins: &Pins, by_cpu: bool) -> Result<Vec<ChainStats>> {
        let chain = Chain::live(pins, self.ifindex)?;
        chain.map_or_else(|| Ok(Vec::new()), |chain| chain.stats(by_cpu))
    }

    /// How many packets did not get through the chain to our program; None where there is no chain.
    pub fn not_reached(&self, pins: &Pins) -> Result<Option<u64>> {
        let chain = Chain::live(pins, self.ifindex)?;
        chain.map(|chain| chain.not_reached()).transpose()
    }

    /// The same, and what each CPU has counted of it; those that have counted nothing are left out.
    pub fn outcomes_by_cpu(&self, pins: &Pins) -> Result<(Actions, Outcomes, Vec<CpuStats>)> {
        let path = pins.interface_map(self.ifindex, "outcomes");
        let cells = Cells::read(&Counters::open(&path, "outcomes")?)?;
        let (actions, outcomes) = cells.sum();
        let of = |(place, cpu)| {
            let (actions, outcomes) = cells.of_cpu(place);
            let any = outcomes.0.iter().any(|outcome| outcome.counter.packets > 0);
            any.then_some(CpuStats {
                cpu,
                actions,
                outcomes,
            })
        };
        let cpus = kernel::possible_cpus()?.into_iter().enumerate();
        Ok((actions, outcomes, cpus.filter_map(of).collect()))
    }

    pub fn ids(&self, pins: &Pins) -> Result<Ids> {
        attachment::ids(pins, self.ifindex)
    }
}

/// The XDP action that an outcome comes with.
fn action_of(outcome: u32) -> &'static str {
    match outcome {
        abi::OUTCOME_REDIRECTED
        | abi::OUTCOME_ANSWERED
        | abi::OUTCOME_FORWARDED
        | abi::OUTCOME_TO_SOCKET
        | abi::OUTCOME_POLICY_FORWARD => "redirect",
        abi::OUTCOME_TOO_BIG_SENT | abi::OUTCOME_ANNOUNCED | abi::OUTCOME_ECHO_ANSWERED => "tx",
        abi::OUTCOME_NO_HEADROOM
        | abi::OUTCOME_NO_CONNECTION
        | abi::OUTCOME_NO_SOURCE_PORT
        | abi::OUTCOME_TOO_LONG_DROPPED
        | abi::OUTCOME_DROPPED_BY_RULE
        | abi::OUTCOME_POLICY_DROP
        | abi::OUTCOME_POLICY_NO_DEVICE
        | abi::OUTCOME_POLICY_TOO_LONG => "drop",
        _ => "pass",
    }
}

/// The names of all outcomes.
pub fn outcome_names() -> impl Iterator<Item = &'static str> {
    OUTCOMES.iter().map(|(_, name)| *name)
}

/// The name of an outcome, and its XDP action; None where there is none of that number.
pub(super) fn outcome(number: u32) -> Option<(&'static str, &'static str)> {
    let found = OUTCOMES.iter().find(|(outcome, _)| *outcome == number);
    found.map(|(_, name)| (*name, action_of(number)))
}

/// A bit for each of the named outcomes.
pub(super) fn bits_of(names: &[&str]) -> u64 {
    let named = OUTCOMES.iter().filter(|(_, name)| names.contains(name));
    named.fold(0, |bits, (number, _)| bits | 1 << number)
}

/// What an interface's outcomes have counted.
pub(super) fn outcomes_of(map: &Counters) -> Result<(Actions, Outcomes)> {
    Ok(Cells::read(map)?.sum())
}

/// What was counted: by outcome, and by the CPUs that there can be.
struct Cells(Vec<Vec<Counter>>);

impl Cells {
    fn read(map: &Counters) -> Result<Self> {
        let cells = OUTCOMES.iter().map(|(number, _)| map.by_cpu(*number));
        Ok(Cells(cells.collect::<Result<_>>()?))
    }

    fn sum(&self) -> (Actions, Outcomes) {
        by_action(|row| self.0[row].iter().copied().sum())
    }

    fn of_cpu(&self, place: usize) -> (Actions, Outcomes) {
        by_action(|row| self.0[row].get(place).copied().unwrap_or_default())
    }
}

/// Counters by their rows in `OUTCOMES`, with their actions.
fn by_action(counted: impl Fn(usize) -> Counter) -> (Actions, Outcomes) {
    let mut actions = Actions::default();
    let mut outcomes = Outcomes::default();
    for (row, (number, name)) in OUTCOMES.into_iter().enumerate() {
        let counter = counted(row);
        let action = action_of(number);
        *match action {
            "redirect" => &mut actions.redirect,
            "tx" => &mut actions.tx,
            "drop" => &mut actions.drop,
            _ => &mut actions.pass,
        } += counter;
        outcomes.0.push(Outcome {
            name,
            action,
            counter,
        });
    }
    (actions, outcomes)
}

/// The constants of an interface's program. Other versions may have made them: what theirs lack is zero.
pub(super) fn constants_of(pins: &Pins, ifindex: u32) -> Result<abi::interface> {
    let path = find_config(pins, ifindex)?;
    let map = MapHandle::from_pinned_path(&path).at("cannot open", &path)?;
    let value = map.lookup(abi::bytes_of(&0u32), MapFlags::ANY)?;
    let value = value.with_context(|| format!("{} is empty", path.display()))?;
    let mut config = abi::zero();
    let fields = abi::bytes_of_mut(&mut config).iter_mut();
    fields.zip(value).for_each(|(to, from)| *to = from);
    Ok(config)
}

fn find_config(pins: &Pins, ifindex: u32) -> Result<PathBuf> {
    let ours = pins.interface_map(ifindex, "config");
    if exists(&ours)? {
        return Ok(ours);
    }
    let directory = pins.interface(ifindex);
    let is_one = |name: &&String| matches!(schema_of(name), Some(("config", _)));
    let found = entries(&directory)?
        .iter()
        .find(is_one)
        .map(|name| directory.join(name));
    Ok(found.unwrap_or(ours))
}

fn text(chars: &[c_char]) -> String {
    String::from_utf8_lossy(&abi::text_of(chars)).into_owned()
}

/// Whether a device of the network namespace that the caller is in has the program.
pub fn runs(program: u32, ifindex: u32) -> bool {
    sys::xdp_query(ifindex).is_ok_and(|state| state.programs().contains(&program))
        || sys::tcx_query(ifindex).is_ok_and(|programs| programs.contains(&program))
}
