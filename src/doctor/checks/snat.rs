//! Packets whose source was the address by which this host reached their server, and is no longer.

use std::collections::BTreeSet;

use crate::doctor::facts::Facts;
use crate::model::{Finding, Verb};

/// One finding a server, however many rules are like that.
pub fn check(facts: &Facts) -> Vec<Finding> {
    let mut seen = BTreeSet::new();
    let mut findings = Vec::new();
    for rule in &facts.rules {
        for backend in rule.backends.iter().filter(|b| rule.finds_snat_of(b)) {
            let server = backend.server;
            let now = facts.own_sources.get(&server).copied().flatten();
            let (Some(before), Some(now)) = (backend.own_source, now) else {
                continue;
            };
            if now == before || !seen.insert(server) {
                continue;
            }
            findings.push(
                Finding::warning("snat", format!("server {server}"))
                    .consequence("its answers may go to an address that this host no longer has")
                    .evidence(format!(
                        "packets have {before} as their source, and this host reaches the server by {now}"
                    ))
                    .remedy(Verb::RuleRefresh(server)),
            );
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;
    use crate::model::{Proto, Reply, Rewrite, Snat};

    #[test]
    fn a_source_that_is_another_one_now_is_to_be_found_again() {
        let mut rule = testing::rule(Proto::Udp, 1, Rewrite::default());
        (rule.snat, rule.reply) = (Some(Snat::Auto), Reply::Nat);
        rule.backends[0].own_source = Some([10, 0, 0, 1].into());
        let server = rule.backends[0].server;
        let found = |now: Option<[u8; 4]>| {
            check(&Facts {
                rules: vec![rule.clone(), rule.clone()],
                own_sources: [(server, now.map(Into::into))].into(),
                ..Facts::default()
            })
        };
        assert!(found(None).is_empty());
        assert!(found(Some([10, 0, 0, 1])).is_empty());
        let [finding] = found(Some([10, 0, 0, 9])).try_into().expect("one finding");
        assert!(finding.evidence.contains("10.0.0.1 as") && finding.evidence.ends_with("10.0.0.9"));
    }
}
