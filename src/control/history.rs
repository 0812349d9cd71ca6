//! What is kept of the changes of the rules, and how far back the rules can go.

use std::collections::HashMap;

use anyhow::Result;

use crate::datapath::{self, Past, Pins, RuleStore};
use crate::host::{author, device};
use crate::model::{NamedChange, PastRevision};

/// The changes that are kept, the last one first.
pub fn history(pins: &Pins) -> Result<Vec<PastRevision>> {
    let read = || RuleStore::open(pins)?.past();
    let all = datapath::read(pins, read)?.ok_or_else(|| datapath::not_attached(pins))?;
    let earliest = earliest(&all);
    let mut users = HashMap::new();
    let mut past = Vec::with_capacity(all.len());
    for Past {
        revision,
        unconfirmed,
        ..
    } in all
    {
        let uid = revision.author.uid;
        let user = users.entry(uid).or_insert_with(|| author::name_of(uid));
        let rules = revision.changes.rules.iter().map(|rule| NamedChange {
            how: rule.how,
            matches: rule.matches,
            ingress: rule.matches.ingress.and_then(device::name_of),
        });
        past.push(PastRevision {
            user: user.clone(),
            rules: rules.collect(),
            unconfirmed: unconfirmed.is_some(),
            reachable: Some(revision.revision) >= earliest,
            revision,
        });
    }
    Ok(past)
}

/// The earliest revision that the rules can go back to, of revisions that begin with the live one; None where that
/// is not kept.
pub fn earliest(past: &[Past]) -> Option<u64> {
    let live = past.first()?.revision.revision;
    let numbers = (0..).map(|earlier| live.saturating_sub(earlier));
    let kept = past.iter().zip(numbers);
    let kept =
        kept.take_while(|(past, number)| past.has_before && past.revision.revision == *number);
    Some(live - kept.count() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Author, Changes, Revision};

    fn past(revision: u64, has_before: bool) -> Past {
        Past {
            revision: Revision {
                revision,
                time: 0,
                author: Author::default(),
                changes: Changes::default(),
            },
            has_before,
            unconfirmed: None,
        }
    }

    #[test]
    fn the_rules_go_back_as_far_as_each_step_is_kept() {
        let all = [past(9, true), past(8, true), past(7, false), past(6, true)];
        assert_eq!(earliest(&all), Some(7));
        assert_eq!(earliest(&all[2..]), Some(7));
        assert_eq!(earliest(&[past(9, true), past(7, true)]), Some(8));
        assert_eq!(earliest(&[]), None);
    }
}
