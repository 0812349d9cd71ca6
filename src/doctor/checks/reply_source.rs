//! Rules whose clients take no answer: they asked another address than the one that answers.

use super::remedies;
use crate::doctor::facts::Facts;
use crate::model::{Backend, Finding, Port, Proto, Remedy, Reply, Rewrite, Rewriting, Rule, Verb};

const REPLY_SOURCE: &str = "reply-source";

/// UDP services whose clients all wait for an answer: DNS, NTP, SNMP, QUIC, DNS over QUIC, STUN.
const ASKED: [u16; 7] = [53, 123, 161, 443, 784, 853, 3478];

/// One finding a protocol, however many rules are like that.
pub fn check(facts: &Facts) -> Vec<Finding> {
    let of = |proto| {
        let refused = |rule: &&Rule| rule.matches.proto == proto && is_asked(rule);
        let mut rules = facts.rules.iter().filter(refused);
        let first = rules.next()?;
        let subject = match (facts.text(&first.matches), rules.count()) {
            (rule, 0) => format!("rule {rule}"),
            (rule, _) => format!("rule {rule}, and others"),
        };
        Some(finding(subject, first, readdressed(first)?))
    };
    [Proto::Tcp, Proto::Udp]
        .into_iter()
        .filter_map(of)
        .collect()
}

fn is_asked(rule: &Rule) -> bool {
    let ports = rule.matches.ports;
    let has = |port: &u16| Port::new(*port).is_some_and(|port| ports.contain(port));
    let asked = rule.matches.proto == Proto::Tcp || ASKED.iter().any(has);
    asked && readdressed(rule).is_some()
}

/// A backend that gets packets at its own address, and whose answers nobody translates.
fn readdressed(rule: &Rule) -> Option<&Backend> {
    rule.backends
        .iter()
        .find(|backend| rule.reply_of(backend) == Reply::None)
}

fn finding(subject: String, rule: &Rule, backend: &Backend) -> Finding {
    let finding = Finding::warning(REPLY_SOURCE, subject);
    let (server, rewrite) = (backend.server, &backend.rewrite);
    if let Some(snat) = rule.snat_of(backend) {
        return finding
            .consequence("clients never get to see the answers")
            .evidence(format!("{server} answers to {snat}, which the rule makes the source of packets"))
            .remedy(format!(
                "let the rule keep the source, unless {snat} translates the answers back and sends them on"
            ));
    }
    let refuse = match rule.matches.proto {
        Proto::Tcp => "refuse the answers, and get no connection",
        _ => "refuse the answers, or never get to see them",
    };
    let (clients, source, needs) = match rewrite.to_port {
        None => (
            format!("clients that ask any address but {server}"),
            "address".to_string(),
            "an address of".to_string(),
        ),
        Some(port) => (
            "clients".to_string(),
            format!("address and from port {port}"),
            format!(
                "a listener on port {} and an address of",
                rule.matches.ports
            ),
        ),
    };
    finding
        .consequence(format!("{clients} {refuse}"))
        .evidence(format!("{server} answers from its own {source}"))
        .remedy(translate(rule, backend) + ", or " + keep_ip(rule, backend, &needs))
}

/// The same rule with its answers translated.
fn translate(rule: &Rule, backend: &Backend) -> Remedy {
    let translated = Rewriting {
        reply: Some(Reply::Nat),
        ..rule.rewriting(backend.rewrite)
    };
    Remedy::from(Verb::RuleAdd {
        matches: rule.matches,
        server: backend.server,
        device: None,
        rewriting: Some(translated),
    })
}

/// The same rule with the destination as it was, and what the server then needs.
fn keep_ip(rule: &Rule, backend: &Backend, needs: &str) -> Remedy {
    let kept = Rewrite {
        keep_ip: true,
        to_port: None,
        ..backend.rewrite
    };
    let add = Verb::RuleAdd {
        matches: rule.matches,
        server: backend.server,
        device: None,
        rewriting: Some(rule.rewriting(kept)),
    };
    let address = remedies::add_address_of_clients(backend.server);
    let bound = match rule.matches.proto {
        Proto::Udp => ", to which its socket is bound",
        _ => "",
    };
    Remedy::from(add)
        + format!("; the server then needs {needs} its own that clients ask: ")
        + remedies::elsewhere(address)
        + bound
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;
    use crate::model::{Command, Part, Pops, Snat};

    fn found(proto: Proto, rewrite: Rewrite) -> Finding {
        let facts = Facts {
            rules: vec![testing::rule(proto, 1, rewrite)],
            ..Facts::default()
        };
        only(&facts)
    }

    fn only(facts: &Facts) -> Finding {
        check(facts).pop().expect("a finding")
    }

    /// The rewriting that is suggested, and what the server then needs.
    fn suggested(finding: &Finding) -> (Rewrite, &str) {
        match &finding.remedy.0[..] {
            [_, _, Part::Commands(commands), Part::Text(needs), ..] => match &commands[..] {
                [Command::Own(Verb::RuleAdd { rewriting, .. })] => {
                    (rewriting.expect("a rewriting").backend, needs)
                }
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_suggested_says_what_the_server_then_needs() {
        let plain = found(Proto::Tcp, Rewrite::default());
        assert!(
            plain
                .consequence
                .starts_with("clients that ask any address but 10.0.0.2 refuse")
        );
        let (rewrite, needs) = suggested(&plain);
        assert!(rewrite.keep_ip);
        assert!(needs.starts_with("; the server then needs an address"));

        let other_port = Rewrite {
            to_port: Port::new(8080),
            pops: Pops::new(1).unwrap(),
            ..Rewrite::default()
        };
        let other_port = found(Proto::Tcp, other_port);
        assert!(other_port.evidence.ends_with("and from port 8080"));
        let (rewrite, needs) = suggested(&other_port);
        assert!(rewrite.keep_ip && rewrite.pops.get() == 1 && rewrite.to_port.is_none());
        assert!(needs.contains("a listener on port 7999"));

        let mut rule = testing::rule(Proto::Tcp, 1, Rewrite::default());
        rule.snat = Some(Snat::Address([10, 0, 0, 1].into()));
        let facts = Facts {
            rules: vec![rule],
            ..Facts::default()
        };
        assert!(only(&facts).evidence.contains("answers to 10.0.0.1"));
    }
}
