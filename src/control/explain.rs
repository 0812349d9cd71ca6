//! What would become of packets, and why.

use std::cell::RefCell;
use std::collections::HashMap;

use anyhow::{Context, Result};

use super::frame::FrameSpec;
use super::frames;
use super::inventory::{record, record_of};
use crate::datapath::{
    self, Interface, Pins, Rehearsal, Rehearsed, RuleStore, rehearse, this_version,
};
use crate::doctor::{Sample, checks};
use crate::error::{Exit, failure};
use crate::host::device::{self, Device};
use crate::model::{
    Action, Backend, Candidate, Check, Connection, Explanation, Finding, Packet, Purpose, Remedy,
    Rule, RuleRecord, Verb, VlanId,
};

/// The outcomes of packets that are too long.
const TOO_LONG: [&str; 4] = [
    "too_long",
    "too_big_sent",
    "too_long_dropped",
    "policy_too_long",
];

/// Packets, and where they arrive.
#[derive(Clone, Debug)]
pub struct ExplainRequest {
    /// None: the only attached interface.
    pub ingress: Option<String>,
    pub packets: PacketSpec,
}

/// Which packets.
#[derive(Clone, Debug)]
pub enum PacketSpec {
    /// One with these headers.
    Headers(FrameSpec),
    /// Those of a file: pcap, pcapng or hexadecimal digits.
    File(Vec<u8>),
}

/// Explains packets, one after the other. Each meets what those before it have left: connections, fragments.
/// Nothing that is attached learns of that.
pub fn explain(
    pins: &Pins,
    request: &ExplainRequest,
    each: impl FnMut(Explanation) -> Result<()>,
) -> Result<()> {
    let interface = interface(pins, request.ingress.as_deref())?;
    require_this_version(&interface)?;
    let frames = match &request.packets {
        PacketSpec::Headers(spec) => vec![spec.build(interface.mac)?],
        PacketSpec::File(bytes) => frames::read(bytes)?,
    };
    let store = RuleStore::open(pins)?;
    let rules = store.list()?;
    let chain = interface.chain(pins)?.into_iter();
    let explainer = Explainer {
        pins,
        store,
        rules,
        chain: chain.map(|program| program.name).collect(),
        interface,
        findings: RefCell::default(),
    };
    explainer.explain_all(&frames, each)
}

fn interface(pins: &Pins, name: Option<&str>) -> Result<Interface> {
    let found = datapath::read(pins, || datapath::interfaces(pins))?;
    let mut found = found.ok_or_else(|| datapath::not_attached(pins))?;
    match name {
        Some(name) => found.retain(|interface| interface.answers_to(name)),
        // Rules take nothing where the program is for answers alone.
        None => found.retain(|interface| interface.purpose == Purpose::Rules),
    }
    match name {
        None if found.len() > 1 => {
            let names: Vec<String> = found.iter().map(Interface::name).collect();
            let why = format!(
                "at which interface does the packet arrive? {}",
                names.join(", ")
            );
            return Err(failure(Exit::Usage, why));
        }
        _ => {}
    }
    found.pop().ok_or_else(|| {
        let name = name.unwrap_or_default();
        let why = format!("{name}: not attached");
        let status = Remedy::from(Verb::Plain("status")) + " shows the interfaces that are";
        failure(Exit::NotFound, (why, status))
    })
}

/// Another version's program may decide otherwise than this one's.
fn require_this_version(interface: &Interface) -> Result<()> {
    if interface.version.as_deref() == Some(this_version()) {
        return Ok(());
    }
    let why = format!(
        "{}: another version attached it, whose program cannot be tried out",
        interface.name()
    );
    let upgrade = Remedy::from(Verb::Plain("upgrade")) + " takes it over";
    Err(failure(Exit::Conflict, (why, upgrade)))
}

struct Explainer<'a> {
    pins: &'a Pins,
    store: RuleStore,
    rules: Vec<Rule>,
    interface: Interface,
    /// The names of the programs that are asked before ours.
    chain: Vec<String>,
    /// What doctor finds, by the backends' counters.
    findings: RefCell<HashMap<Option<u32>, Option<Vec<Finding>>>>,
}

impl Explainer<'_> {
    fn explain_all(
        &self,
        frames: &[Vec<u8>],
        mut each: impl FnMut(Explanation) -> Result<()>,
    ) -> Result<()> {
        let (pins, interface) = (self.pins, self.interface.clone());
        rehearse(pins, &interface, |rehearsal| {
            (1..).zip(frames).try_for_each(|(number, frame)| {
                let explained = self.explain(rehearsal, frame);
                each(explained.with_context(|| format!("frame {number}"))?)
            })
        })
    }

    fn explain(&self, rehearsal: &mut Rehearsal, frame: &[u8]) -> Result<Explanation> {
        let parsed = Packet::read(frame);
        let before = parsed
            .as_ref()
            .and_then(|packet| connection_of(rehearsal, packet));
        let rehearsed = rehearsal.run(frame)?;
        let after = parsed
            .as_ref()
            .and_then(|packet| connection_of(rehearsal, packet));
        let way = self.way(&rehearsed);
        let matching = parsed
            .as_ref()
            .map_or_else(Vec::new, |packet| self.matching(packet));
        let winner = match (&way, &rehearsed.decided) {
            (Some((rule, _)), _) => Some(*rule),
            (None, Some(_)) => None,
            (None, None) => matching.first().copied(),
        };
        let backend = way.map(|(rule, backend)| match backend {
            Some(backend) => record(&self.store, rule, backend),
            None => record_of(&self.store, rule),
        });
        let egress = self.egress(&rehearsed)?;
        Ok(Explanation {
            ifname: self.interface.name(),
            ifindex: self.interface.ifindex,
            mode: self.interface.mode,
            chain: self.chain.clone(),
            begins: after.filter(|_| before.is_none()),
            connection: before,
            rules: self.candidates(&matching, winner)?,
            backend: backend.transpose()?,
            maglev_slot: rehearsed.maglev_slot,
            checks: checks_of(winner, parsed.as_ref(), egress.as_ref(), rehearsed.outcome),
            egress: egress.map(|device| device.name),
            before: frame.to_vec(),
            outcome: rehearsed.outcome,
            action: rehearsed.action,
            findings: match way {
                Some((rule, Some(backend))) => self.find(rule, backend),
                _ => Some(Vec::new()),
            },
            after: rehearsed.frame,
            parsed,
        })
    }

    /// The rules that match, the most specific one first.
    fn matching(&self, packet: &Packet) -> Vec<&Rule> {
        let takes_rules = self.interface.purpose == Purpose::Rules;
        let matches = |rule: &&Rule| packet.matches(&rule.matches, self.interface.ifindex);
        self.rules
            .iter()
            .filter(|_| takes_rules)
            .filter(matches)
            .collect()
    }

    /// The rule, and the backend, that the program has decided for.
    fn way(&self, rehearsed: &Rehearsed) -> Option<(&Rule, Option<&Backend>)> {
        let counter = rehearsed.decided.as_ref()?.counter;
        counter?;
        self.rules.iter().find_map(|rule| {
            let mut backends = rule.backends.iter();
            let backend = backends.find(|backend| backend.counter == counter);
            (backend.is_some() || rule.counter == counter).then_some((rule, backend))
        })
    }

    /// The device by which the packet leaves.
    fn egress(&self, rehearsed: &Rehearsed) -> Result<Option<Device>> {
        let ifindex = match &rehearsed.decided {
            Some(decided) => decided.ifindex,
            None if rehearsed.outcome.starts_with("policy_") => self.interface.policy.device(),
            None => None,
        };
        let device = ifindex.map(device::by_index).transpose()?;
        Ok(device.flatten())
    }

    fn candidates(&self, matching: &[&Rule], winner: Option<&Rule>) -> Result<Vec<Candidate>> {
        let nexts = matching.iter().skip(1).map(Some).chain([None]);
        let candidate = |(rule, next): (&&Rule, Option<&&Rule>)| {
            let rows = match rule.action {
                Action::Redirect => rule
                    .backends
                    .iter()
                    .map(|b| record(&self.store, rule, b))
                    .collect(),
                _ => record_of(&self.store, rule).map(|row| vec![row]),
            };
            let rows = rows?;
            Ok(Candidate {
                text: rows
                    .first()
                    .map_or_else(|| rule.matches.to_string(), RuleRecord::matches_text),
                takes: winner.is_some_and(|winner| winner.matches == rule.matches),
                by: next.and_then(|next| rule.matches.wins_by(&next.matches)),
                rows,
            })
        };
        matching.iter().zip(nexts).map(candidate).collect()
    }

    /// What doctor finds on the way to a backend; None where it cannot look.
    fn find(&self, rule: &Rule, backend: &Backend) -> Option<Vec<Finding>> {
        let look = || {
            let sample = Sample::of(&[rule.with(vec![backend.clone()])]);
            let facts = sample.facts(self.pins);
            facts.map(|facts| checks::of_backend(&facts)).ok()
        };
        self.findings
            .borrow_mut()
            .entry(backend.counter)
            .or_insert_with(look)
            .clone()
    }
}

/// The connection that a packet belongs to, whichever way it goes.
fn connection_of(rehearsal: &Rehearsal, packet: &Packet) -> Option<Connection> {
    let ip = packet.ip.as_ref()?;
    let ports = ip.ports?;
    let vlan = packet.vlans.first().copied().filter(|&id| id != 0);
    let id = |vlan: Option<VlanId>| vlan.map(VlanId::get);
    rehearsal.connections().find(|connection| {
        let requests = (
            connection.src,
            connection.src_port,
            connection.dst,
            connection.port,
        );
        let answers = (
            connection.server,
            connection.server_port,
            connection.snat,
            connection.snat_port,
        );
        let this = (ip.src, ports.src, ip.dst, ports.dst);
        connection.proto.name() == ip.protocol()
            && (this == requests && vlan == id(connection.vlan)
                || this == answers && vlan == id(connection.server_vlan))
    })
}

/// What is looked at before the packet is sent on, as far as the program has come there.
fn checks_of(
    rule: Option<&Rule>,
    packet: Option<&Packet>,
    egress: Option<&Device>,
    outcome: &str,
) -> Vec<Check> {
    let mut checks = Vec::new();
    let ip = packet.and_then(|packet| packet.ip.as_ref());
    if let (Some(rule), Some(ip)) = (rule, ip)
        && rule.action == Action::Redirect
        && rule.decrement_ttl
    {
        checks.push(Check {
            check: "ttl",
            passed: outcome != "ttl_exceeded",
            text: format!("{}, and the rule decrements it", ip.ttl),
        });
    }
    if let (Some(device), Some(packet)) = (egress, packet) {
        checks.push(Check {
            check: "mtu",
            passed: !TOO_LONG.contains(&outcome),
            text: format!(
                "{} bytes of IP, of {} that {} carries",
                packet.ip_len(),
                device.mtu,
                device.name
            ),
        });
        let (is_up, state) = match device.up {
            true => (true, "is up"),
            false => (false, "has no link, or is down"),
        };
        checks.push(Check {
            check: "device",
            passed: is_up,
            text: format!("{} {state}", device.name),
        });
    }
    if outcome == "no_device" || outcome == "policy_no_device" {
        checks.push(Check {
            check: "device",
            passed: false,
            text: "the egress device is gone, is the one where the packet arrives, or no backend takes new flows"
                .into(),
        });
    }
    checks
}
