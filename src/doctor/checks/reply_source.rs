//! Rules whose clients take no answer: they asked another address than the one that answers.

use super::remedies;
use crate::doctor::facts::Facts;
use crate::model::{Backend, Finding, Proto, Rewrite, Rule};

pub const REPLY_SOURCE: &str = "reply-source";

/// UDP services whose clients all wait for an answer: DNS, NTP, SNMP, QUIC, DNS over QUIC, STUN.
const ASKED: [u16; 7] = [53, 123, 161, 443, 784, 853, 3478];

/// One finding a protocol, however many rules are like that.
pub fn check(setup: &Facts) -> Vec<Finding> {
    let of = |proto| {
        let refused = |rule: &&Rule| rule.matches.proto == proto && is_asked(rule);
        let mut rules = setup.rules.iter().filter(refused);
        let first = rules.next()?;
        Some(finding(first, readdressed(first)?, rules.count()))
    };
    [Proto::Tcp, Proto::Udp]
        .into_iter()
        .filter_map(of)
        .collect()
}

fn is_asked(rule: &Rule) -> bool {
    let asked = rule.matches.proto == Proto::Tcp || ASKED.contains(&rule.matches.port.get());
    asked && readdressed(rule).is_some()
}

/// A backend that gets packets at its own address.
fn readdressed(rule: &Rule) -> Option<&Backend> {
    rule.backends
        .iter()
        .find(|backend| !backend.rewrite.keep_ip)
}

fn finding(rule: &Rule, backend: &Backend, others: usize) -> Finding {
    let subject = match others {
        0 => format!("rule {}", rule.matches),
        _ => format!("rule {}, and others", rule.matches),
    };
    let finding = Finding::warning(REPLY_SOURCE, subject);
    let (server, rewrite) = (backend.server, &backend.rewrite);
    if let Some(snat) = rule.snat_of(backend) {
        return finding
            .consequence("clients never get to see the answers")
            .evidence(format!("{server} answers to {snat}, the address of --snat"))
            .mend(format!(
                "leave --snat out, unless {snat} translates the answers back and sends them on"
            ));
    }
    let refuse = match rule.matches.proto {
        Proto::Tcp => "refuse the answers, and get no connection",
        Proto::Udp => "refuse the answers, or never get to see them",
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
            format!("a listener on port {} and an address of", rule.matches.port),
        ),
    };
    finding
        .consequence(format!("{clients} {refuse}"))
        .evidence(format!("{server} answers from its own {source}"))
        .mend(keep_ip(rule, backend, &needs))
}

/// The same rule with the destination as it was, and what the server then needs.
fn keep_ip(rule: &Rule, backend: &Backend, needs: &str) -> String {
    let (words, server) = (remedies::words(&rule.matches), backend.server);
    let kept = Rewrite {
        keep_ip: true,
        to_port: None,
        ..backend.rewrite
    };
    let tag = backend.rewrite.push_vlan;
    let tag = tag.map_or_else(String::new, |vlan| format!(" --push-vlan {vlan}"));
    let options = remedies::rewriting(rule, &kept);
    let length = if server.is_ipv4() { 32 } else { 128 };
    let add = remedies::elsewhere(&format!("ip addr add ADDR/{length} dev lo"));
    let bound = match rule.matches.proto {
        Proto::Tcp => "",
        Proto::Udp => ", to which its socket is bound",
    };
    format!(
        "`xdpredir rule add {words} --server {server}{options}{tag}`; the server then needs {needs} its own that clients ask: {add}{bound}"
    )
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;
    use crate::model::Port;

    fn found(proto: Proto, rewrite: Rewrite) -> Finding {
        let setup = Facts {
            rules: vec![testing::rule(proto, 1, rewrite)],
            ..Facts::default()
        };
        only(&setup)
    }

    fn only(setup: &Facts) -> Finding {
        check(setup).pop().expect("a finding")
    }

    #[test]
    fn what_is_suggested_says_what_the_server_then_needs() {
        let plain = found(Proto::Tcp, Rewrite::default());
        assert!(
            plain
                .consequence
                .starts_with("clients that ask any address but 10.0.0.2 refuse")
        );
        assert!(
            plain
                .mend
                .contains("--server 10.0.0.2 --keep-ip`; the server then needs an address")
        );

        let other_port = Rewrite {
            to_port: Port::new(8080),
            pop_vlan: true,
            ..Rewrite::default()
        };
        let other_port = found(Proto::Tcp, other_port);
        assert!(other_port.evidence.ends_with("and from port 8080"));
        assert!(
            other_port.mend.contains(" --keep-ip --pop-vlan`"),
            "{}",
            other_port.mend
        );
        assert!(other_port.mend.contains("a listener on port 7999"));

        let mut rule = testing::rule(Proto::Tcp, 1, Rewrite::default());
        rule.snat = Some([10, 0, 0, 1].into());
        let setup = Facts {
            rules: vec![rule],
            ..Facts::default()
        };
        assert!(only(&setup).evidence.contains("answers to 10.0.0.1"));
    }
}
