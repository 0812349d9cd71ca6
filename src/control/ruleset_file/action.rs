//! A record of a rule that has no backends.

use anyhow::{Result, ensure};

use super::backend::rewrite;
use super::bad;
use super::devices::{Asked, Devices, check_name};
use crate::control::validate;
use crate::model::{
    Action, ActionKind, HashOf, Macs, Match, Rewrite, Rule, RuleRecord, TooLong, Weight,
};

/// A rule that forwards, passes or drops.
pub fn without_backends(
    matches: Match,
    record: &RuleRecord,
    asked: &mut Asked<impl Devices>,
) -> Result<Rule> {
    let kind = record.action;
    let takes_no = |what: &str| bad(format!("action {kind}: takes no {what}"));
    let of_backends = record.server.is_some()
        || record.origin.is_some()
        || record.snat.is_some()
        || record.snat_auto
        || record.weight != Weight::default()
        || record.marked_down
        || record.hash != HashOf::default()
        || record.reply.is_some()
        || record.sticky
        || rewrite(record)? != Rewrite::default();
    ensure!(
        !of_backends,
        takes_no("server, weight, origin or rewriting")
    );
    if kind != ActionKind::Forward {
        let leaves = record.mac.is_some() || record.ifindex.is_some();
        ensure!(!leaves, takes_no("mac or ifindex"));
        ensure!(record.too_long == TooLong::default(), takes_no("too_long"));
    }
    let action = match kind {
        ActionKind::Forward => forward(record, asked)?,
        ActionKind::Drop => Action::Drop,
        ActionKind::Socket => Action::Socket,
        _ => Action::Pass,
    };
    Ok(Rule {
        too_long: record.too_long,
        ..Rule::acting(matches, action)
    })
}

fn forward(record: &RuleRecord, asked: &mut Asked<impl Devices>) -> Result<Action> {
    let ifindex = record
        .ifindex
        .ok_or_else(|| bad("forward without ifindex".into()))?;
    let egress = asked.egress(ifindex)?;
    check_name(record, ifindex, egress)?;
    validate::forward(&egress.name, ifindex, record.in_ifindex)?;
    Ok(Action::Forward {
        ifindex,
        completes_checksum: egress.completes_checksum,
        macs: record.mac.map(|destination| Macs {
            destination,
            source: egress.source_mac,
        }),
    })
}
