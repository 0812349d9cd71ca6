//! The ports from which a host sends requests of its own, and where it expects the replies.

use super::Ports;

/// The range that the kernel chooses ports from, without those that are reserved for others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EphemeralPorts {
    pub first: u16,
    pub last: u16,
    /// First and last ports.
    pub reserved: Vec<(u16, u16)>,
}

impl EphemeralPorts {
    /// The ports of these that the kernel may choose, in ascending order.
    pub fn among(&self, ports: Ports) -> Vec<(u16, u16)> {
        let mut left = intersection((self.first, self.last), (ports.first(), ports.last()));
        let mut found = Vec::new();
        let mut reserved = self.reserved.clone();
        reserved.sort_unstable();
        for (first, last) in reserved {
            let Some((from, to)) = left.filter(|&(from, to)| first <= to && last >= from) else {
                continue;
            };
            found.extend((from < first).then(|| (from, first - 1)));
            left = (last < to).then(|| (last + 1, to));
        }
        found.extend(left);
        found
    }
}

fn intersection(a: (u16, u16), b: (u16, u16)) -> Option<(u16, u16)> {
    let both = (a.0.max(b.0), a.1.min(b.1));
    (both.0 <= both.1).then_some(both)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_rule_s_ports_those_that_the_kernel_may_choose() {
        let ephemeral = EphemeralPorts {
            first: 32768,
            last: 60999,
            reserved: vec![(50000, 50000), (40000, 40009), (1, 9)],
        };
        let among = |text: &str| ephemeral.among(text.parse().expect("ports"));
        assert_eq!(among("7999"), []);
        assert_eq!(among("32767"), []);
        assert_eq!(among("32768"), [(32768, 32768)]);
        assert_eq!(among("60999-65535"), [(60999, 60999)]);
        assert_eq!(among("40000-40009"), []);
        assert_eq!(among("39999-40010"), [(39999, 39999), (40010, 40010)]);
        assert_eq!(among("40005-40012"), [(40010, 40012)]);
        assert_eq!(
            among("any"),
            [(32768, 39999), (40010, 49999), (50001, 60999)]
        );
        assert_eq!(
            EphemeralPorts::default().among("1-65535".parse().expect("ports")),
            []
        );
    }
}
