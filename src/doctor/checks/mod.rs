//! What keeps packets from arriving: one check a file, named like the findings' `check`, each from the
//! gathered facts to findings. Pure: no I/O.

mod address;
mod announce;
mod answers;
mod bpffs;
mod bridge;
mod bridge_entry;
mod bridge_port;
mod capabilities;
mod chain;
mod checksum;
mod device;
mod ephemeral_ports;
mod foreign_program;
mod fragments;
mod gro_list;
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
mod no_backend;
mod other_end;
mod peer_mtu;
mod policy;
mod redirect_target;
mod remedies;
mod replies;
mod reply_source;
mod route;
mod rp_filter;
mod rule_device;
mod rx_queues;
mod segments;
mod shadowed_rule;
mod snat;
mod source_mac;
mod source_ports;
mod ssh;
mod stale_pins;
#[cfg(test)]
mod testing;
mod vlan_offload;
mod way_back;

pub use answers::ways;

use std::collections::HashSet;

use super::facts::{BackendFacts, DeviceFacts, Facts, InterfaceFacts};
use crate::model::Finding;
use Check::{Backend, Egress, Interface, Whole};

/// A check, by what it looks at.
enum Check {
    /// All facts.
    Whole(fn(&Facts) -> Vec<Finding>),
    /// Each interface on which packets meet the program.
    Interface(fn(&Facts, &InterfaceFacts, &DeviceFacts) -> Option<Finding>),
    /// Each device that packets are redirected to.
    Egress(fn(&Facts, &DeviceFacts) -> Option<Finding>),
    /// Each backend whose egress device is there.
    Backend(fn(&BackendFacts, &DeviceFacts) -> Option<Finding>),
}

impl Check {
    fn run(&self, facts: &Facts) -> Vec<Finding> {
        match *self {
            Whole(check) => check(facts),
            Interface(check) => facts
                .ingress()
                .filter_map(|(i, d)| check(facts, i, d))
                .collect(),
            Egress(check) => facts.egress().filter_map(|d| check(facts, d)).collect(),
            Backend(check) => facts.served().filter_map(|(b, d)| check(b, d)).collect(),
        }
    }
}

/// Between an interface and the servers.
const WAY: &[Check] = &[
    Egress(redirect_target::check),
    Egress(multi_buffer::check),
    Egress(mtu::check),
    Egress(peer_mtu::check),
    Whole(link::check),
    Whole(no_backend::check),
    Whole(other_end::check),
    Backend(route::check),
    Backend(bridge_port::check),
    Backend(mac::check),
    Backend(source_mac::check),
    Whole(checksum::check),
    Backend(address::check),
    Egress(foreign_program::check),
    Backend(rp_filter::check),
    Backend(replies::check),
    Whole(reply_source::check),
    Whole(answers::check),
    Whole(answers::routed),
    Whole(answers::divided),
    Whole(announce::check),
    Whole(way_back::check),
    Whole(snat::check),
    Whole(source_ports::own),
    Backend(keep_ip::check),
    Egress(r#loop::check),
    Interface(ephemeral_ports::check),
    Interface(segments::check),
    Interface(vlan_offload::check),
];

/// At the interfaces.
const INTERFACES: &[Check] = &[
    Interface(mode::check),
    Interface(bridge::check),
    Whole(link::interfaces),
    Whole(ssh::check),
    Whole(foreign_program::interfaces),
];

/// What keeps an interface's policy from doing what it says, and whom it cuts off.
const POLICY: &[Check] = &[
    Egress(redirect_target::check),
    Egress(multi_buffer::check),
    Egress(mtu::check),
    Egress(peer_mtu::check),
    Egress(foreign_program::check),
    Egress(r#loop::check),
    Interface(segments::check),
    Whole(ssh::check),
];

/// What the host lacks, and what has changed since the rules were made.
const STATE: &[Check] = &[
    Whole(kernel::check),
    Whole(bpffs::check),
    Whole(capabilities::check),
    Whole(netdev::check),
    Whole(stale_pins::check),
    Whole(interface::check),
    Whole(device::check),
    Whole(policy::check),
    Whole(locator::check),
    Whole(rule_device::check),
    Whole(rule_device::interfaces),
    Whole(shadowed_rule::check),
    Whole(bridge_entry::check),
    Whole(losses::check),
    Interface(chain::check),
    Interface(fragments::check),
    Interface(source_ports::check),
];

/// What costs speed alone.
const SPEED: &[Check] = &[Egress(rx_queues::check), Egress(gro_list::check)];

/// All checks, problems first.
pub fn all(facts: &Facts) -> Vec<Finding> {
    run(facts, &[STATE, WAY, INTERFACES, SPEED])
}

/// The checks that concern backends just added.
pub fn of_backend(facts: &Facts) -> Vec<Finding> {
    run(facts, &[WAY])
}

/// The checks that concern interfaces just attached.
pub fn of_interfaces(facts: &Facts) -> Vec<Finding> {
    run(facts, &[WAY, INTERFACES])
}

/// The checks that concern an interface's policy just changed.
pub fn of_policy(facts: &Facts) -> Vec<Finding> {
    run(facts, &[POLICY])
}

fn run(facts: &Facts, checks: &[&[Check]]) -> Vec<Finding> {
    let checks = checks.iter().copied().flatten();
    let findings = checks.flat_map(|check| check.run(facts)).collect();
    let mut findings = each_once(findings);
    findings.sort_by_key(|finding| finding.severity);
    findings
}

/// A server of several rules can be several backends, of which a check may say the same.
fn each_once(mut findings: Vec<Finding>) -> Vec<Finding> {
    let mut seen = HashSet::new();
    findings.retain(|finding| seen.insert(finding.clone()));
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Fix, Remote};

    #[test]
    fn only_findings_that_are_the_same_in_all_are_one() {
        let finding = || {
            Finding::warning("replies", "server 10.0.0.2 by wan0")
                .consequence("answers are dropped")
                .evidence("forwarding is off")
                .remedy("switch it on")
        };
        let different = [
            finding(),
            Finding::problem("replies", "server 10.0.0.2 by wan0"),
            Finding::warning("replies", "server 10.0.0.3 by wan0"),
            finding().consequence("answers go nowhere"),
            finding().evidence("there is no route"),
            finding().remedy("add a route"),
            finding().fix(Some(Fix::LinkUp(Remote::here(1, "wan0")))),
        ];
        let twice = [different.as_slice(), different.as_slice()].concat();
        assert_eq!(each_once(twice), different);
    }
}
