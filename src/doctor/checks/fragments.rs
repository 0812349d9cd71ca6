//! Datagrams that a rule matches, and whose fragments came out of order.

use crate::doctor::facts::{DeviceFacts, Facts, InterfaceFacts};
use crate::model::Finding;

pub fn check(facts: &Facts, interface: &InterfaceFacts, _: &DeviceFacts) -> Option<Finding> {
    let outcomes = facts.outcomes.get(&interface.ifindex)?;
    let datagrams = match outcomes.packets("late_first_fragment") {
        _ if facts.rules.is_empty() => return None,
        0 => return None,
        1 => "1 datagram".into(),
        packets => format!("{packets} datagrams"),
    };
    Some(
        Finding::warning("fragments", &interface.name)
            .consequence(format!("{datagrams} came out of order, and passed"))
            .evidence("a rule matches the first fragment, which alone has ports, but it came after a later one, which had passed; a datagram passes whole, or is redirected whole")
            .remedy("let the sender's datagrams fit the MTU of each link, so that none is cut"),
    )
}

#[cfg(test)]
mod tests {
    use super::super::{Check, testing};
    use super::*;
    use crate::model::Mode;

    #[test]
    fn datagrams_of_a_rule_that_came_out_of_order_are_counted_in_words() {
        let found = |late, mut facts: Facts| {
            let counted = [("fragment_without_first", 9), ("late_first_fragment", late)];
            facts.outcomes.insert(1, testing::outcomes(&counted));
            Check::Interface(check)
                .run(&facts)
                .pop()
                .map(|f| f.consequence)
        };
        let facts = || testing::attached_to(testing::nic(1), Mode::Skb);
        let with_rule = || testing::with_rule(facts());
        assert_eq!(found(0, with_rule()), None);
        assert!(
            found(1, with_rule())
                .unwrap()
                .starts_with("1 datagram came ")
        );
        assert!(
            found(2, with_rule())
                .unwrap()
                .starts_with("2 datagrams came ")
        );
        assert_eq!(found(2, facts()), None);
    }
}
