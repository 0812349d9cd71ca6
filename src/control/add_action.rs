//! Adds a rule that needs no backend: it forwards, passes, drops, or takes packets for a socket.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};

use super::error::Error;
use super::selector::{both_families, text};
use super::{MatchSpec, inventory, validate};
use crate::datapath::{self, Draft, Pins};
use crate::doctor::{self, checks};
use crate::error::Failure;
use crate::host::device;
use crate::model::{Action, Finding, ForAnswers, Mac, Macs, Match, Rule, RuleRecord, TooLong};

/// A rule without backends.
#[derive(Clone, Debug)]
pub struct ActionRequest {
    pub matches: MatchSpec,
    pub action: ActionSpec,
    /// None: the default, or as it is.
    pub too_long: Option<TooLong>,
}

/// An action that needs no backend.
#[derive(Clone, Debug)]
pub enum ActionSpec {
    Forward {
        /// By its own or an alternative name.
        device: String,
        /// The new destination of frames; None: their MAC addresses stay.
        mac: Option<Mac>,
    },
    Pass,
    Drop,
    Socket,
}

/// What was added.
pub struct ActionReport {
    /// The rule as it is now: one, or one for each IP version.
    pub records: Vec<RuleRecord>,
    /// One was there before.
    pub is_update: bool,
    /// What was done because the rule before may have had answers translated.
    pub for_answers: ForAnswers,
    /// What keeps packets from arriving; an error where that could not be checked.
    pub warnings: Result<Vec<Finding>>,
}

/// Adds the rule, or gives the one that has the match another action. Where no address is given, it is
/// added for both IP versions.
pub fn add_action(pins: &Pins, request: &ActionRequest) -> Result<ActionReport> {
    let spec = &request.matches;
    let families = spec.family().map_or_else(both_families, |addr| vec![addr]);
    let matches = families.into_iter().map(|family| spec.for_new(family));
    let matches = matches.collect::<Result<Vec<Match>>>()?;
    let action = request.action.resolve(matches[0].ingress)?;
    let read = Draft::read(pins, |_| Ok(()))?;
    let (mut draft, ()) = read.ok_or_else(|| datapath::not_attached(pins))?;
    let (lock, store) = draft.lock()?;
    let egress = BTreeSet::from_iter(action.ifindex());
    let (is_update, for_answers) =
        store.edit(&lock, &egress, matches.iter().copied(), |rules| {
            let is_update = !rules.is_empty();
            for &matches in &matches {
                let place = rules.iter().position(|rule| rule.matches == matches);
                let old = place.map(|place| rules.remove(place));
                rules.push(changed(matches, old, action, request.too_long)?);
            }
            Ok(is_update)
        })?;
    let rules = matches.iter().map(|matches| {
        let rule = store.get(matches)?;
        rule.context("the rule was just stored")
    });
    let rules = rules.collect::<Result<Vec<Rule>>>()?;
    // What follows only looks, and may take a while.
    drop(lock);
    let records = rules.iter().map(|rule| inventory::record_of(store, rule));
    Ok(ActionReport {
        records: records.collect::<Result<_>>()?,
        is_update,
        for_answers,
        warnings: doctor::of_rules(pins, &rules).map(|facts| checks::of_backend(&facts)),
    })
}

fn changed(
    matches: Match,
    old: Option<Rule>,
    action: Action,
    too_long: Option<TooLong>,
) -> Result<Rule> {
    let Some(old) = old else {
        return Ok(Rule {
            too_long: too_long.unwrap_or_default(),
            ..Rule::acting(matches, action)
        });
    };
    if old.action == Action::Redirect {
        bail!(Failure::new(Error::HasBackends(matches, text(&matches))));
    }
    let kept = old.too_long_of(action);
    Ok(Rule {
        action,
        too_long: too_long.unwrap_or(kept),
        ..old
    })
}

impl ActionSpec {
    fn resolve(&self, ingress: Option<u32>) -> Result<Action> {
        let (name, mac) = match self {
            ActionSpec::Pass => return Ok(Action::Pass),
            ActionSpec::Drop => return Ok(Action::Drop),
            ActionSpec::Socket => return Ok(Action::Socket),
            ActionSpec::Forward { device, mac } => (device, *mac),
        };
        let device = device::by_name(name)?;
        let source = device.require_source_mac()?;
        validate::forward(name, device.ifindex, ingress)?;
        Ok(Action::Forward {
            ifindex: device.ifindex,
            completes_checksum: device.completes_checksum()?,
            macs: mac.map(|destination| Macs {
                destination,
                source,
            }),
        })
    }
}
