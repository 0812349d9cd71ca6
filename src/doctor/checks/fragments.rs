//! Datagrams that a rule matches, and whose fragments came out of order.

use crate::doctor::facts::Facts;
use crate::model::Finding;

pub fn check(facts: &Facts) -> Vec<Finding> {
    if facts.rules.is_empty() {
        return Vec::new();
    }
    facts
        .live()
        .filter_map(|interface| {
            let outcomes = facts.outcomes.get(&interface.ifindex)?;
            finding(&interface.name, outcomes.packets("late_first_fragment"))
        })
        .collect()
}

fn finding(name: &str, packets: u64) -> Option<Finding> {
    let datagrams = match packets {
        0 => return None,
        1 => "1 datagram",
        _ => &format!("{packets} datagrams"),
    };
    Some(
        Finding::warning("fragments", name)
            .consequence(format!("{datagrams} came out of order, and passed"))
            .evidence("a rule matches the first fragment, which alone has ports, but it came after a later one, which had passed; a datagram passes whole, or is redirected whole")
            .remedy("let the sender's datagrams fit the MTU of each link, so that none is cut"),
    )
}

#[cfg(test)]
mod tests {
    use super::super::testing::{attached, nic, rule};
    use super::*;
    use crate::model::{Counter, Mode, Outcome, Outcomes, Proto, Rewrite};

    /// With fragments of datagrams that no rule matches, and first ones that came late.
    fn facts(late: u64) -> Facts {
        let outcome = |(name, packets)| Outcome {
            name,
            action: "pass",
            counter: Counter { packets, bytes: 0 },
        };
        let interface = attached(&nic(7), Mode::Skb);
        let counted = [("fragment_without_first", 9), ("late_first_fragment", late)];
        let outcomes = Outcomes(counted.map(outcome).into());
        Facts {
            interfaces: vec![interface],
            rules: vec![rule(Proto::Udp, 7, Rewrite::default())],
            outcomes: [(7, outcomes)].into(),
            ..Facts::default()
        }
    }

    #[test]
    fn datagrams_of_a_rule_that_came_out_of_order_are_counted_in_words() {
        let found = |late| check(&facts(late)).pop().map(|f| f.consequence);
        assert_eq!(found(0), None);
        assert!(found(1).unwrap().starts_with("1 datagram came "));
        assert!(found(2).unwrap().starts_with("2 datagrams came "));
        let mut without_rules = facts(2);
        without_rules.rules.clear();
        assert!(check(&without_rules).is_empty());
    }
}
