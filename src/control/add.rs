//! Adds a backend to a rule, or updates it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Context, Result, ensure};

use super::error::Field;
use super::merge::merge;
use super::resolve::{DeviceSpec, NamespaceSpec};
use super::selector::text;
use super::{MatchSpec, announce, inventory, reply, source, validate};
use crate::datapath::{self, Draft, Pins};
use crate::doctor::{self, checks};
use crate::error::{Exit, failure};
use crate::model::{
    Action, AnswerWay, Finding, ForAnswers, HashOf, MAX_BACKENDS, Mac, Match, Reply, Rewriting,
    Rule, RuleRecord, Snat, TooLong, Weight,
};

/// A backend for a rule.
#[derive(Clone, Debug)]
pub struct AddRequest {
    pub matches: MatchSpec,
    /// None: as its network namespace has it.
    pub server: Option<IpAddr>,
    pub mac: Option<Mac>,
    pub device: Option<DeviceSpec>,
    /// The network namespace that the server is in.
    pub namespace: Option<NamespaceSpec>,
    /// None: 1, or as it is.
    pub weight: Option<Weight>,
    /// What else becomes of packets; None: nothing, or as it is.
    pub rewriting: Option<Rewriting>,
    /// Of the rule, too; None: the default, or as it is.
    pub too_long: Option<TooLong>,
    /// Of the rule, too; None: the default, or as it is.
    pub hash: Option<HashOf>,
}

/// What was added.
pub struct AddReport {
    /// The backend as it is now.
    pub record: RuleRecord,
    pub server: IpAddr,
    pub mac: Mac,
    /// It was there before.
    pub is_update: bool,
    /// The name of its device.
    pub device: String,
    /// What was found, and how.
    pub found: Vec<String>,
    pub not_found: Option<anyhow::Error>,
    /// What was done so that answers are seen.
    pub for_answers: ForAnswers,
    /// How they get to the clients behind each interface; empty where they are not translated.
    pub ways: Vec<AnswerWay>,
    /// Why answers are not translated, though nobody said that they are not to be.
    pub untranslated: Option<anyhow::Error>,
    /// What keeps packets from arriving; an error where that could not be checked.
    pub warnings: Result<Vec<Finding>>,
}

/// Adds the backend, or updates the one that the rule has for the server.
pub fn add(pins: &Pins, request: &AddRequest) -> Result<AddReport> {
    request.server.map_or(Ok(()), validate::server)?;
    let found = request.in_namespace()?;
    let server = found.as_ref().map(|found| found.adjacency.server);
    let server = server.or(request.server);
    let server = server.context("a request without an address has a namespace or a device")?;
    let matches = request.valid_match(server)?;
    let read = Draft::read(pins, |store| store.get(&matches))?;
    let (mut draft, rule) = read.ok_or_else(|| datapath::not_attached(pins))?;
    let known = rule.as_ref().and_then(|rule| rule.backend(server));
    let found = found.map_or_else(|| request.by_address(server, known), Ok)?;
    let was_announced = rule.as_ref().is_some_and(|rule| rule.announce);

    request.require_free(pins, rule.unwrap_or(Rule::new(matches)))?;
    let (lock, store) = draft.lock()?;
    let egress = BTreeSet::from([found.adjacency.ifindex]);
    let mut untranslated = None;
    let (is_update, for_answers) = store.edit_with(&lock, &egress, [matches], |new, rules| {
        let mut rule = rules.pop().unwrap_or(Rule::new(matches));
        // Of another action, nothing is left but what becomes of packets that are too long.
        (rule.action, rule.counter) = (Action::Redirect, None);
        rule.too_long = request.too_long.unwrap_or(rule.too_long);
        rule.hash = request.hash.unwrap_or(rule.hash);
        let is_update = rule.backend(server).is_some();
        let has_room = is_update || rule.backends.len() < MAX_BACKENDS;
        let message = format!(
            "{}: has {MAX_BACKENDS} backends already, and a rule cannot have more",
            text(&matches)
        );
        ensure!(has_room, failure(Exit::Failed, message));
        let is_open = request.says_no_reply() && rule.translatable_by().next().is_none();
        merge(&mut rule, request, &found);
        let rewrite = rule.backend(server).map(|backend| backend.rewrite);
        rewrite.map_or(Ok(()), |new| validate::rewrite(matches.proto, &new))?;
        if is_open && rule.snat != Some(Snat::Auto) {
            untranslated = reply::by_default(new, &mut rule);
        }
        validate::replies(&rule)?;
        validate::hash(rule.hash, matches.proto, rule.sticky, rule.reply)?;
        source::find(&mut rule, server)?;
        rules.push(rule);
        Ok(is_update)
    })?;
    let rule = store.get(&matches)?.context("the rule was just stored")?;
    drop(lock);
    if !was_announced {
        announce::tell(pins, std::slice::from_ref(&rule));
    }
    // What follows only looks, and may take a while.
    let backend = rule.backend(server).context("the backend was just added")?;
    let facts = doctor::of_backend(pins, store, &rule, backend);
    let record = inventory::record(store, &rule, backend)?;
    let mut told = found.found;
    told.extend(request.source_found(&record, is_update));
    told.extend(request.goes_without_answers(&rule));
    Ok(AddReport {
        record,
        server,
        mac: backend.mac,
        is_update,
        ways: match &facts {
            Ok(facts) => checks::ways(facts, &rule, backend),
            Err(_) => Vec::new(),
        },
        warnings: facts.map(|facts| checks::of_backend(&facts)),
        device: found.device,
        found: told,
        not_found: found.not_found,
        for_answers,
        untranslated,
    })
}

impl AddRequest {
    fn says_no_reply(&self) -> bool {
        self.rewriting.is_none_or(|new| new.reply.is_none())
    }

    /// That no other host has what the rule is to announce and does not yet.
    fn require_free(&self, pins: &Pins, mut rule: Rule) -> Result<()> {
        let announces = self.rewriting.and_then(|new| new.announce) == Some(true);
        if announces && !rule.announce {
            rule.announce = true;
            announce::require_free(pins, &[rule])?;
        }
        Ok(())
    }

    fn valid_match(&self, server: IpAddr) -> Result<Match> {
        validate::server(server)?;
        let MatchSpec { dst, src, .. } = self.matches;
        validate::same_as_server([(Field::Dst, dst), (Field::Src, src)], server)?;
        let matches = self.matches.for_new(server)?;
        if let Some(new) = &self.rewriting {
            validate::rewrite(matches.proto, &new.backend)?;
            validate::keep_ip(new)?;
            let reply = |reply| validate::reply(matches.proto, reply, &new.backend);
            new.reply.map_or(Ok(()), reply)?;
            validate::sticky(matches.proto, new.sticky == Some(true))?;
        }
        if self.rewriting.and_then(|new| new.announce) == Some(true) {
            validate::announce(matches.dst)?;
        }
        let snat = self.rewriting.and_then(|new| new.snat?.address());
        snat.map_or(Ok(()), |snat| validate::snat(snat, server))?;
        Ok(matches)
    }

    /// Why answers are not translated, where that is not the default.
    fn goes_without_answers(&self, rule: &Rule) -> Option<String> {
        let is_new = self.hash == Some(HashOf::Packet) && self.says_no_reply();
        let why = "datagrams of one flow go to different servers";
        let is_open = rule.reply == Reply::None && rule.translatable_by().next().is_some();
        (is_new && is_open).then(|| format!("reply none: {why}"))
    }

    /// Which source was found, where it was looked for.
    fn source_found(&self, record: &RuleRecord, is_update: bool) -> Option<String> {
        let asked = self.rewriting.and_then(|new| new.snat) == Some(Snat::Auto);
        let found = record.snat.filter(|_| record.snat_auto)?;
        let server = record.server?;
        (asked || !is_update)
            .then(|| format!("snat {found}: the address by which this host reaches {server}"))
    }
}
