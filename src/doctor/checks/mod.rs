//! What keeps packets from arriving: one check a file, each from the gathered setup to findings.
//! Pure: no I/O.

mod address;
mod bridge;
mod bridge_entry;
mod checksum;
mod devices;
mod foreign_program;
mod fragments;
mod host;
mod keep_ip;
mod link;
mod locator;
mod loops;
mod losses;
mod mac;
mod mode;
mod mtu;
mod remedies;
mod replies;
mod reply_source;
mod route;
mod segments;
mod shadowed_rule;
mod stale_pins;
mod tags;
mod targets;
#[cfg(test)]
mod testing;

pub use mac::{End, contradiction};
pub use reply_source::REPLY_SOURCE;

use super::facts::Facts;
use crate::model::{Finding, Severity};

type Check = fn(&Facts) -> Vec<Finding>;

/// Of the way to the backends.
const WAY: [Check; 13] = [
    targets::check,
    mtu::check,
    link::check,
    mac::check,
    checksum::check,
    address::check,
    foreign_program::check,
    replies::check,
    reply_source::check,
    keep_ip::check,
    loops::check,
    segments::check,
    tags::check,
];

/// Of the interfaces.
const INTERFACES: [Check; 4] = [
    mode::check,
    bridge::check,
    link::interfaces,
    foreign_program::interfaces,
];

/// Of what has become of it all.
const STATE: [Check; 9] = [
    host::check,
    stale_pins::check,
    devices::check,
    route::check,
    locator::check,
    shadowed_rule::check,
    bridge_entry::check,
    losses::check,
    fragments::check,
];

/// All checks, problems first.
pub fn all(setup: &Facts) -> Vec<Finding> {
    run(setup, STATE.into_iter().chain(WAY).chain(INTERFACES))
}

/// Those that concern backends just added.
pub fn of_backend(setup: &Facts) -> Vec<Finding> {
    run(setup, WAY)
}

/// Those that concern interfaces just attached.
pub fn of_interfaces(setup: &Facts) -> Vec<Finding> {
    run(setup, WAY.into_iter().chain(INTERFACES))
}

fn run(setup: &Facts, checks: impl IntoIterator<Item = Check>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = checks.into_iter().flat_map(|check| check(setup)).collect();
    findings.sort_by_key(|finding| finding.severity == Severity::Warning);
    findings
}
