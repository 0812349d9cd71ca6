//! Remedies that several findings name.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::doctor::facts::{BackendFacts, Facts, LostLocator};
use crate::model::{Command, Match, Mode, Place, Remedy, Remote, Tool, Verb};

/// What comes of a server that has moved and cannot be found.
pub const LOST_IF_IT_MOVES: &str = "if the server moves, `rule refresh` cannot find it";

/// Attaches interfaces again, and keeps their rules and their policies.
pub fn reattach(facts: &Facts, names: &[&str], mode: Option<Mode>) -> Remedy {
    let mut commands = vec![Command::Own(Verb::Detach(owned(names)))];
    let mut by_policy: BTreeMap<Option<String>, Vec<&str>> = BTreeMap::new();
    for name in names {
        let interface = facts.interfaces.iter().find(|i| i.name == *name);
        let policy = interface.and_then(|interface| facts.policy(interface).option());
        by_policy.entry(policy).or_default().push(name);
    }
    let attach = |(policy, names): (Option<String>, Vec<&str>)| {
        Command::Own(with_policy(attach(&names, mode), policy))
    };
    commands.extend(by_policy.into_iter().map(attach));
    commands.into()
}

/// The same with a policy.
pub fn with_policy(verb: Verb, policy: Option<String>) -> Verb {
    match verb {
        Verb::Attach {
            interfaces,
            mode,
            force,
            ..
        } => Verb::Attach {
            interfaces,
            mode,
            force,
            policy,
        },
        other => other,
    }
}

/// Attaches interfaces.
pub fn attach(names: &[&str], mode: Option<Mode>) -> Verb {
    Verb::Attach {
        interfaces: owned(names),
        mode,
        force: false,
        policy: None,
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| name.to_string()).collect()
}

/// Attaches an interface in place of another XDP program.
pub fn attach_by_force(name: &str, mode: Option<Mode>) -> Verb {
    Verb::Attach {
        interfaces: owned(&[name]),
        mode,
        force: true,
        policy: None,
    }
}

/// Takes the interfaces out of native mode.
pub fn natives_to_skb(facts: &Facts) -> Remedy {
    reattach(facts, &facts.native_names(), Some(Mode::Skb))
}

/// A command for another machine, or for a device that has no name here.
pub fn elsewhere(tool: Tool) -> Remedy {
    tool.at(Place::Elsewhere).into()
}

/// A command for a device that may be in another namespace, or have no name that is known here.
pub fn at_device(device: &Remote, tool: impl FnOnce(&str) -> Tool) -> Remedy {
    match &device.ifname {
        Some(name) => tool(name).beside(device),
        None => elsewhere(tool("DEV")) + format!(" at {device}"),
    }
}

/// Has a server take packets to an address that clients ask.
pub fn add_address_of_clients(server: IpAddr) -> Tool {
    let length = if server.is_ipv4() { 32 } else { 128 };
    Tool::new("ip addr add")
        .arg(format!("ADDR/{length}"))
        .words("dev lo")
}

/// Has the rules of a backend follow its server.
pub fn renew(backend: &BackendFacts) -> Remedy {
    let server = backend.server;
    let (rules, first) = backend.locators.by_hand;
    if backend.whereabouts.is_own {
        return Remedy::from(Verb::RuleDel(first, Some(server)))
            + format!(", and add a server of another host: {server} is an address of this host");
    }
    let refresh = || Remedy::from(Verb::RuleRefresh(server));
    let Some(first) = first else {
        return refresh();
    };
    let add = Remedy::from(add(first, backend, None))
        + match rules {
            1 => " (you gave this rule a MAC address in place of a locator)".to_string(),
            rules => format!(
                " (and so for {rules} rules that you gave a MAC address in place of a locator)"
            ),
        };
    match backend.locators.any {
        true => Remedy::all([refresh(), add]),
        false => add,
    }
}

/// Gives a server another locator than the one that is lost.
pub fn add_with_another_locator() -> Remedy {
    Remedy::from(Command::Name("rule add")) + " it with another locator"
}

/// Gives a rule of a backend another device as its locator.
pub fn by_device(backend: &BackendFacts, lost: &LostLocator, device: &str) -> Remedy {
    let add = Remedy::from(add(lost.first, backend, Some(device)));
    match lost.rules {
        1 => add,
        rules => add + format!(" (and so for {rules} rules)"),
    }
}

fn add(matches: Match, backend: &BackendFacts, device: Option<&str>) -> Verb {
    Verb::RuleAdd {
        matches,
        server: backend.server,
        device: device.map(String::from),
        rewriting: None,
    }
}

/// A sysctl of a device. In a name with dots, as VLAN devices have, sysctl(8) wants slashes for these.
pub fn of_device(device: &str, setting: &str) -> String {
    format!("net.ipv4.conf.{}.{setting}", device.replace('.', "/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dot_in_a_device_s_name_parts_no_sysctl() {
        let of = |device| of_device(device, "rp_filter=0");
        assert_eq!(of("eth0"), "net.ipv4.conf.eth0.rp_filter=0");
        assert_eq!(of("eth0.100"), "net.ipv4.conf.eth0/100.rp_filter=0");
    }
}
