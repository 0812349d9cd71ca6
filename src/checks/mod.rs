//! What keeps packets from arriving: one check a file, each from the gathered setup to findings.
//! Pure: no I/O.

mod address;
mod bridge;
mod checksums;
mod devices;
mod foreign;
mod fragments;
mod host;
mod keep_ip;
mod links;
mod locator;
mod loops;
mod losses;
mod macs;
mod mends;
mod modes;
mod mtu;
mod remains;
mod replies;
mod reply_source;
mod route;
mod segments;
mod shadow;
mod strays;
mod tags;
mod targets;
#[cfg(test)]
mod testing;

mod setup;

pub use macs::{End, contradiction};
pub use reply_source::REPLY_SOURCE;
pub use setup::{
    Arrival, AtServer, Back, Delivery, Host, Ingress, Known, Link, Lost, Neighbour, Others,
    Remains, Reply, Setup, Source, Stray, Target, There, Trial,
};

use crate::model::{Finding, Severity};

type Check = fn(&Setup) -> Vec<Finding>;

/// Of the way to the backends.
const WAY: [Check; 13] = [
    targets::check,
    mtu::check,
    links::check,
    macs::check,
    checksums::check,
    address::check,
    foreign::check,
    replies::check,
    reply_source::check,
    keep_ip::check,
    loops::check,
    segments::check,
    tags::check,
];

/// Of the interfaces.
const INTERFACES: [Check; 4] = [
    modes::check,
    bridge::check,
    links::interfaces,
    foreign::interfaces,
];

/// Of what has become of it all.
const STATE: [Check; 9] = [
    host::check,
    remains::check,
    devices::check,
    route::check,
    locator::check,
    shadow::check,
    strays::check,
    losses::check,
    fragments::check,
];

/// All checks, problems first.
pub fn all(setup: &Setup) -> Vec<Finding> {
    run(setup, STATE.into_iter().chain(WAY).chain(INTERFACES))
}

/// Those that concern backends just added.
pub fn of_backend(setup: &Setup) -> Vec<Finding> {
    run(setup, WAY)
}

/// Those that concern interfaces just attached.
pub fn of_interfaces(setup: &Setup) -> Vec<Finding> {
    run(setup, WAY.into_iter().chain(INTERFACES))
}

fn run(setup: &Setup, checks: impl IntoIterator<Item = Check>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = checks.into_iter().flat_map(|check| check(setup)).collect();
    findings.sort_by_key(|finding| finding.severity == Severity::Warning);
    findings
}
