//! Policies that cut off SSH sessions.

use crate::doctor::facts::{ArrivingSession, Facts, InterfaceFacts};
use crate::model::{Action, Finding, Match, Policy, Port, Proto, Remedy, Tool, Verb};

pub fn check(facts: &Facts) -> Vec<Finding> {
    let live = facts
        .live()
        .filter(|interface| interface.policy != Policy::Pass);
    live.flat_map(|interface| of_interface(facts, interface))
        .collect()
}

fn of_interface(facts: &Facts, interface: &InterfaceFacts) -> Vec<Finding> {
    let cut_off = |arriving: &&ArrivingSession| !passes(facts, interface, arriving);
    let mut found: Vec<Finding> = Vec::new();
    for arriving in interface.sessions.iter().filter(cut_off) {
        let finding = finding(facts, interface, arriving);
        if !found.iter().any(|other| other.remedy == finding.remedy) {
            found.push(finding);
        }
    }
    found
}

/// Whether the rule that takes what arrives for the session lets it pass.
fn passes(facts: &Facts, interface: &InterfaceFacts, arriving: &ArrivingSession) -> bool {
    let takes = |matches: &Match| takes(matches, interface.ifindex, arriving);
    let taking = facts.rules.iter().filter(|rule| takes(&rule.matches));
    let first = taking.min_by_key(|rule| rule.matches);
    first.is_some_and(|rule| rule.action == Action::Pass)
}

fn takes(matches: &Match, ifindex: u32, arriving: &ArrivingSession) -> bool {
    let session = arriving.session;
    let port = Port::new(session.port);
    matches.dst.contains(&session.addr)
        && matches.src.contains(&session.host)
        && matches.proto.covers(Proto::Tcp)
        && port.is_some_and(|port| matches.ports.contain(port))
        && matches.vlan == arriving.vlan
        && matches.inner_vlan.is_none()
        && matches.ingress.is_none_or(|ingress| ingress == ifindex)
}

fn finding(facts: &Facts, interface: &InterfaceFacts, arriving: &ArrivingSession) -> Finding {
    let session = &arriving.session;
    let name = &interface.name;
    let pass = Verb::RulePass {
        interface: name.clone(),
        proto: Proto::Tcp,
        port: session.port,
        vlan: arriving.vlan,
    };
    let fate = match interface.policy {
        Policy::Drop => "is dropped",
        _ => "leaves by another device",
    };
    Finding::warning("ssh", name)
        .consequence(format!(
            "SSH sessions by it are cut off, because what no rule matches {fate}"
        ))
        .evidence(format!(
            "{} is connected to {} port {}, and the policy is {}",
            session.host,
            session.addr,
            session.port,
            facts.policy(interface)
        ))
        .remedy(Remedy::from(pass) + ", and, because no rule matches ARP, " + neighbour(arriving))
}

/// Has this host know a MAC address for good that it could no longer ask for.
fn neighbour(arriving: &ArrivingSession) -> Tool {
    let mac = arriving.mac.map_or("MAC".into(), |mac| mac.to_string());
    let replace = Tool::new("ip neigh replace").arg(arriving.next_hop.to_string());
    let replace = replace.words("lladdr").arg(mac).words("dev");
    replace.arg(&arriving.device).words("nud permanent")
}

#[cfg(test)]
mod tests {
    use super::super::testing::{attached_to, nic};
    use super::*;
    use crate::model::{Mode, Rule, SshSession, VlanId};

    fn found(policy: Policy, rules: &[(Action, Match)]) -> Vec<Finding> {
        let mut facts = attached_to(nic(1), Mode::Skb);
        let [host, addr] = [[10, 0, 0, 1].into(), [10, 0, 0, 2].into()];
        let session = SshSession {
            host,
            addr,
            port: 22,
        };
        facts.interfaces[0].policy = policy;
        facts.interfaces[0].sessions = vec![ArrivingSession {
            session,
            vlan: None,
            next_hop: host,
            device: "nic1".into(),
            mac: None,
        }];
        facts.rules = rules
            .iter()
            .map(|&(action, matches)| Rule {
                action,
                ..Rule::new(matches)
            })
            .collect();
        check(&facts)
    }

    fn ssh() -> Match {
        Match {
            proto: Proto::Tcp,
            ..Match::example(22)
        }
    }

    #[test]
    fn a_policy_cuts_off_a_session_that_no_rule_lets_pass() {
        let forward = Policy::Forward {
            ifindex: 2,
            completes_checksum: true,
        };
        assert_eq!(found(Policy::Pass, &[]), []);
        for policy in [Policy::Drop, forward] {
            assert_eq!(found(policy, &[]).len(), 1);
            assert_eq!(found(policy, &[(Action::Pass, ssh())]), []);
            assert_eq!(found(policy, &[(Action::Drop, ssh())]).len(), 1);
        }
    }

    #[test]
    fn the_rule_that_takes_the_session_decides() {
        let change = |change: fn(&mut Match)| {
            let mut matches = ssh();
            change(&mut matches);
            (Action::Pass, matches)
        };
        let for_nobody_here: [fn(&mut Match); 6] = [
            |m| m.proto = Proto::Udp,
            |m| m.vlan = VlanId::new(5),
            |m| m.ingress = Some(2),
            |m| m.dst = "10.0.0.3/32".parse().expect("a prefix"),
            |m| m.src = "10.0.0.3/32".parse().expect("a prefix"),
            |m| m.ports = Port::new(23).expect("a port").into(),
        ];
        for other in for_nobody_here {
            assert_eq!(found(Policy::Drop, &[change(other)]).len(), 1);
        }
        let wide = change(|m| m.proto = Proto::Any);
        assert_eq!(found(Policy::Drop, &[wide]), []);
        let narrower = change(|m| m.src = "10.0.0.1/32".parse().expect("a prefix"));
        assert_eq!(
            found(Policy::Drop, &[wide, (Action::Drop, narrower.1)]).len(),
            1
        );
        assert_eq!(found(Policy::Drop, &[(Action::Drop, wide.1), narrower]), []);
    }
}
