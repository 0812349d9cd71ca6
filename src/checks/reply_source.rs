//! Rules whose clients take no answer: they asked another address than the one that answers.

use super::{Setup, mends};
use crate::model::{Backend, Finding, Proto, Rule};

pub const REPLY_SOURCE: &str = "reply-source";

/// UDP services whose clients all wait for an answer: DNS, NTP, SNMP, QUIC, DNS over QUIC, STUN.
const ASKED: [u16; 7] = [53, 123, 161, 443, 784, 853, 3478];

/// One finding a protocol, however many rules are like that.
pub fn check(setup: &Setup) -> Vec<Finding> {
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
    let asked = rule.matches.proto == Proto::Tcp || ASKED.contains(&rule.matches.port);
    asked && readdressed(rule).is_some()
}

/// A backend that gets packets at its own address.
fn readdressed(rule: &Rule) -> Option<&Backend> {
    rule.backends
        .iter()
        .find(|backend| !backend.rewrite.keep_ip)
}

fn finding(rule: &Rule, backend: &Backend, others: usize) -> Finding {
    let server = backend.server;
    let (matches, words) = (&rule.matches, mends::words(&rule.matches));
    let subject = match others {
        0 => format!("rule {matches}"),
        1 => format!("rule {matches}, and another one"),
        others => format!("rule {matches}, and {others} others"),
    };
    let consequence = match matches.proto {
        Proto::Tcp => "clients refuse the answers, and no connection is made",
        Proto::Udp => "clients refuse the answers, or never get to see them",
    };
    let length = if server.is_ipv4() { 32 } else { 128 };
    let add = mends::elsewhere(&format!("ip addr add ADDR/{length} dev lo"));
    Finding::warning(REPLY_SOURCE, subject)
        .consequence(consequence)
        .evidence(format!(
            "{server} answers from its own address, and clients asked another one"
        ))
        .mend(format!(
            "`xdpredir rule add {words} --server {server} --keep-ip`, and at the server {add} with the address that clients ask as ADDR"
        ))
}
