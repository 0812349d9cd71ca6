//! What keeps packets from arriving: one check a file, named like the findings' `check`, each from the
//! gathered facts to findings. Pure: no I/O.

mod address;
mod bpffs;
mod bridge;
mod bridge_entry;
mod bridge_port;
mod capabilities;
mod checksum;
mod device;
mod foreign_program;
mod fragments;
mod interface;
mod keep_ip;
mod kernel;
mod link;
mod locator;
mod r#loop;
mod losses;
mod mac;
mod mode;
mod mtu;
mod multi_buffer;
mod netdev;
mod peer_mtu;
mod redirect_target;
mod remedies;
mod replies;
mod reply_source;
mod route;
mod rp_filter;
mod segments;
mod shadowed_rule;
mod source_mac;
mod stale_pins;
#[cfg(test)]
mod testing;
mod vlan_offload;

pub use reply_source::REPLY_SOURCE;

use super::facts::Facts;
use crate::model::{Finding, Severity};

type Check = fn(&Facts) -> Vec<Finding>;

/// Between an interface and the servers.
const WAY: &[Check] = &[
    redirect_target::check,
    multi_buffer::check,
    mtu::check,
    peer_mtu::check,
    link::check,
    route::check,
    bridge_port::check,
    mac::check,
    source_mac::check,
    checksum::check,
    address::check,
    foreign_program::check,
    rp_filter::check,
    replies::check,
    reply_source::check,
    keep_ip::check,
    r#loop::check,
    segments::check,
    vlan_offload::check,
];

/// At the interfaces.
const INTERFACES: &[Check] = &[
    mode::check,
    bridge::check,
    link::interfaces,
    foreign_program::interfaces,
];

/// What the host lacks, and what has changed since the rules were made.
const STATE: &[Check] = &[
    kernel::check,
    bpffs::check,
    capabilities::check,
    netdev::check,
    stale_pins::check,
    interface::check,
    device::check,
    locator::check,
    shadowed_rule::check,
    bridge_entry::check,
    losses::check,
    fragments::check,
];

/// All checks, problems first.
pub fn all(facts: &Facts) -> Vec<Finding> {
    run(facts, &[STATE, WAY, INTERFACES])
}

/// The checks that concern backends just added.
pub fn of_backend(facts: &Facts) -> Vec<Finding> {
    run(facts, &[WAY])
}

/// The checks that concern interfaces just attached.
pub fn of_interfaces(facts: &Facts) -> Vec<Finding> {
    run(facts, &[WAY, INTERFACES])
}

fn run(facts: &Facts, checks: &[&[Check]]) -> Vec<Finding> {
    let checks = checks.iter().copied().flatten();
    let mut findings: Vec<Finding> = checks.flat_map(|check| check(facts)).collect();
    findings.sort_by_key(|finding| finding.severity == Severity::Warning);
    findings
}
