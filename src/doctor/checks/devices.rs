//! Devices that are gone, and programs that were taken off theirs.

use super::remedies;
use crate::doctor::facts::{BackendFacts, Facts, InterfaceFacts};
use crate::model::{Finding, LinkState, Refreshed};

pub fn check(setup: &Facts) -> Vec<Finding> {
    let interfaces = setup.interfaces.iter().filter_map(interface);
    let gone = |target: &&BackendFacts| setup.serving(target.ifindex).is_none();
    let backends = setup.backends.iter().filter(gone);
    interfaces
        .chain(backends.map(|target| backend(setup, target)))
        .collect()
}

fn interface(interface: &InterfaceFacts) -> Option<Finding> {
    let (name, mode) = (&interface.name, interface.mode);
    let finding =
        Finding::problem("interface", name).consequence("nothing that arrives there is redirected");
    match (interface.state, interface.successor, &interface.foreign) {
        (LinkState::Attached, ..) => None,
        (LinkState::Moved, ..) => Some(moved(interface)),
        (LinkState::Gone, Some(now), _) => Some(
            finding
                .evidence(format!(
                    "the device that was attached, ifindex {}, is gone; {name} is another one now, ifindex {now}",
                    interface.ifindex
                ))
                .mend(format!("`xdpredir attach {name} --mode {mode}`")),
        ),
        (LinkState::Gone, None, _) => Some(
            finding
                .evidence(format!("the device, ifindex {}, is gone", interface.ifindex))
                .mend(format!(
                    "`xdpredir detach {name} --keep-rules`, or attach its successor"
                )),
        ),
        (LinkState::Detached, _, Some(program)) => Some(
            finding
                .evidence(format!("somebody put {program} in place of ours"))
                .mend(format!("`xdpredir attach {name} --mode {mode} --force`")),
        ),
        (LinkState::Detached, ..) => Some(
            finding
                .evidence("somebody detached our program by force")
                .mend(format!("`xdpredir attach {name} --mode {mode}`")),
        ),
    }
}

/// The program stays on a device that is moved to another network namespace.
fn moved(interface: &InterfaceFacts) -> Finding {
    let InterfaceFacts {
        name,
        mode,
        ifindex,
        elsewhere,
        ..
    } = interface;
    let finding = Finding::problem("interface", name);
    let detach = format!("xdpredir detach {name} --keep-rules");
    if let Some(now) = elsewhere.as_ref().filter(|now| now.netns.is_none()) {
        return finding
            .consequence("it is attached no more, though what arrives there is still redirected")
            .evidence(format!(
                "it was in another network namespace; it is {now} now, ifindex {} instead of {ifindex}",
                now.ifindex
            ))
            .mend(format!("`{detach} && xdpredir attach {now} --mode {mode}`"));
    }
    let evidence = match elsewhere {
        Some(now) => format!("the program runs on {now}"),
        None => "the program runs on a device, but on none that is here".into(),
    };
    finding
        .consequence(
            "it is in another network namespace, and what arrives there is still redirected",
        )
        .evidence(evidence)
        .mend(format!("`{detach}`, or move it back"))
}

fn backend(setup: &Facts, target: &BackendFacts) -> Finding {
    let BackendFacts {
        server, ifindex, ..
    } = target;
    let evidence = match setup.devices.get(ifindex) {
        Some(other) => format!(
            "the device that its rules were made for is gone; ifindex {ifindex} is another one now, {}",
            other.name()
        ),
        None => format!("the device that its rules were made for, ifindex {ifindex}, is gone"),
    };
    Finding::problem("device", format!("server {server} by ifindex {ifindex}"))
        .consequence(
            "packets are not redirected to it: they go to another server of the rule, or pass",
        )
        .evidence(evidence)
        .mend(remedies::renew(target))
        .fix(Some(target.refresh(Refreshed::Path)))
}
