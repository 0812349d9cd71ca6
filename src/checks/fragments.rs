//! Fragments that came before the first one of their datagram.

use super::Setup;
use crate::model::Finding;

pub fn check(setup: &Setup) -> Vec<Finding> {
    if setup.rules.is_empty() {
        return Vec::new();
    }
    setup
        .live()
        .filter_map(|interface| {
            let outcomes = setup.outcomes.get(&interface.ifindex)?;
            finding(&interface.name, outcomes.packets("fragment_without_first"))
        })
        .collect()
}

fn finding(name: &str, packets: u64) -> Option<Finding> {
    let fragments = match packets {
        0 => return None,
        1 => "1 fragment was",
        _ => &format!("{packets} fragments were"),
    };
    Some(
        Finding::warning("fragments", name)
            .consequence(format!("{fragments} not redirected, and passed"))
            .evidence("the first fragment of a datagram, which alone has ports, came after another one, was lost, or matched no rule; what passes of a datagram, passes whole")
            .mend("let the sender's datagrams fit the MTU of each link, so that none is cut; if no rule is meant for them, there is nothing to do"),
    )
}

#[cfg(test)]
mod tests {
    use super::super::testing::{attached, nic, rule};
    use super::*;
    use crate::model::{Counter, Mode, Outcome, Outcomes, Proto, Rewrite};

    fn setup(packets: u64) -> Setup {
        let counter = Counter { packets, bytes: 0 };
        let outcome = |name| Outcome {
            name,
            action: "pass",
            counter,
        };
        let interface = attached(&nic(7), Mode::Skb);
        let outcomes = Outcomes(["no_rule", "fragment_without_first"].map(outcome).into());
        Setup {
            interfaces: vec![interface],
            rules: vec![rule(Proto::Udp, 7, Rewrite::default())],
            outcomes: [(7, outcomes)].into(),
            ..Setup::default()
        }
    }

    #[test]
    fn fragments_that_a_rule_could_have_wanted_are_counted_in_words() {
        let found = |packets| check(&setup(packets)).pop().map(|f| f.consequence);
        assert_eq!(found(0), None);
        assert!(found(1).unwrap().starts_with("1 fragment was "));
        assert!(found(2).unwrap().starts_with("2 fragments were "));
        let mut without_rules = setup(2);
        without_rules.rules.clear();
        assert!(check(&without_rules).is_empty());
    }
}
