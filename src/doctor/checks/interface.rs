//! Interfaces that the program is no longer on.

use super::remedies;
use crate::doctor::facts::{Facts, InterfaceFacts};
use crate::model::{Command, Finding, LinkState, Mode, Remedy, Verb};

pub fn check(facts: &Facts) -> Vec<Finding> {
    let finding = |interface| finding(facts, interface);
    facts.interfaces.iter().filter_map(finding).collect()
}

fn finding(facts: &Facts, interface: &InterfaceFacts) -> Option<Finding> {
    let (name, ifindex, mode) = (&interface.name, interface.ifindex, Some(interface.mode));
    let with_policy = |attach| remedies::with_policy(attach, facts.policy(interface).option());
    let attach = with_policy(remedies::attach(&[name], mode));
    let (evidence, remedy) = match (interface.state, interface.successor, &interface.foreign) {
        (LinkState::Attached, ..) => return None,
        (LinkState::Moved, ..) => return Some(moved(facts, interface)),
        (LinkState::Gone, Some(now), _) => (
            format!(
                "the device that was attached, ifindex {ifindex}, is gone; {name} is another one now, ifindex {now}"
            ),
            attach.into(),
        ),
        (LinkState::Gone, None, _) => (
            format!("the device, ifindex {ifindex}, is gone"),
            Remedy::from(detach(name)) + ", or attach its successor",
        ),
        (LinkState::Detached, _, Some(program)) => (
            format!("somebody put {program} in place of ours"),
            with_policy(remedies::attach_by_force(name, mode)).into(),
        ),
        (LinkState::Detached, ..) => (
            "somebody detached our program by force".into(),
            attach.into(),
        ),
    };
    Some(
        Finding::problem("interface", name)
            .consequence("nothing that arrives there is redirected")
            .evidence(evidence)
            .remedy(remedy),
    )
}

fn detach(name: &str) -> Verb {
    Verb::Detach(vec![name.into()])
}

/// The program stays on a device that is moved to another network namespace.
fn moved(facts: &Facts, interface: &InterfaceFacts) -> Finding {
    let (name, ifindex) = (&interface.name, interface.ifindex);
    let finding = Finding::problem("interface", name);
    match &interface.elsewhere {
        Some(now) if now.netns.is_none() => finding
            .consequence(
                "the program still redirects there, but is no longer managed from here",
            )
            .evidence(format!(
                "it was in another network namespace; it is {now} now, ifindex {} instead of {ifindex}",
                now.ifindex
            ))
            .remedy(vec![
                Command::Own(detach(name)),
                Command::Own(remedies::with_policy(
                    remedies::attach(&[&now.name()], Some(interface.mode)),
                    facts.policy(interface).option(),
                )),
            ]),
        elsewhere => finding
            .consequence(match interface.mode {
                Mode::Tc => "it is in another network namespace, and nothing that arrives there is redirected",
                _ => "it is in another network namespace, and what arrives there is still redirected",
            })
            .evidence(match elsewhere {
                Some(now) => format!("the program runs on {now}"),
                None => "the program runs on a device, but on none that is here".into(),
            })
            .remedy(Remedy::from(detach(name)) + ", or move it back"),
    }
}
