//! Interfaces that the program is no longer on.

use super::remedies;
use crate::doctor::facts::{Facts, InterfaceFacts};
use crate::model::{Command, Finding, LinkState, Remedy, Verb};

pub fn check(facts: &Facts) -> Vec<Finding> {
    facts.interfaces.iter().filter_map(finding).collect()
}

fn finding(interface: &InterfaceFacts) -> Option<Finding> {
    let InterfaceFacts {
        name,
        ifindex,
        mode,
        ..
    } = interface;
    let finding =
        Finding::problem("interface", name).consequence("nothing that arrives there is redirected");
    let attach = remedies::attach(&[name], Some(*mode));
    let (evidence, remedy) = match (interface.state, interface.successor, &interface.foreign) {
        (LinkState::Attached, ..) => return None,
        (LinkState::Moved, ..) => return Some(moved(interface)),
        (LinkState::Gone, Some(now), _) => (
            format!(
                "the device that was attached, ifindex {ifindex}, is gone; {name} is another one now, ifindex {now}"
            ),
            attach.into(),
        ),
        (LinkState::Gone, None, _) => (
            format!("the device, ifindex {ifindex}, is gone"),
            detach(name) + ", or attach its successor",
        ),
        (LinkState::Detached, _, Some(program)) => (
            format!("somebody put {program} in place of ours"),
            Verb::Attach {
                interfaces: vec![name.clone()],
                mode: Some(*mode),
                force: true,
            }
            .into(),
        ),
        (LinkState::Detached, ..) => (
            "somebody detached our program by force".into(),
            attach.into(),
        ),
    };
    Some(finding.evidence(evidence).remedy(remedy))
}

fn detach(name: &str) -> Remedy {
    Verb::Detach(vec![name.into()]).into()
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
    if let Some(now) = elsewhere.as_ref().filter(|now| now.netns.is_none()) {
        return finding
            .consequence("it is attached no more, though what arrives there is still redirected")
            .evidence(format!(
                "it was in another network namespace; it is {now} now, ifindex {} instead of {ifindex}",
                now.ifindex
            ))
            .remedy(vec![
                Command::Own(Verb::Detach(vec![name.clone()])),
                Command::Own(remedies::attach(&[&now.name()], Some(*mode))),
            ]);
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
        .remedy(detach(name) + ", or move it back")
}
