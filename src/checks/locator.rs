//! Servers whose locator leads nowhere any more.

use super::{Lost, Setup, Target, mends};
use crate::model::{Finding, Origin};

pub fn check(setup: &Setup) -> Vec<Finding> {
    let of = |target: &Target| {
        let findings = target.lost.iter();
        let findings = findings.filter_map(|lost| finding(setup, target, lost));
        findings.collect::<Vec<_>>()
    };
    setup.backends.iter().flat_map(of).collect()
}

/// Packets go where it was. Routes have a check of their own, and no container engine is asked.
fn finding(setup: &Setup, target: &Target, lost: &Lost) -> Option<Finding> {
    let found = match &lost.locator {
        Origin::Device(name) => format!("on device {name}, and no device has that name now"),
        Origin::Netns(name) => format!("in the network namespace {name}, which is gone"),
        Origin::Pid { pid, .. } => {
            format!("in the network namespace of the process {pid}, which has ended")
        }
        Origin::Route | Origin::Container(_) => return None,
    };
    let server = target.server;
    let finding = Finding::warning("locator", format!("server {server}"))
        .consequence("once it moves, it can't be found again")
        .evidence(format!("its rules found it {found}"));
    Some(
        finding.mend(match (&lost.locator, setup.serving(target.ifindex)) {
            (Origin::Device(_), Some(now)) => mends::by_device(target, lost, now.name()),
            _ => "`rule add` it with what finds it otherwise".into(),
        }),
    )
}
