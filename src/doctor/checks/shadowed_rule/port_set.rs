//! Sets of ports.

use crate::model::{Match, Proto};

/// What stands for packets without ports.
const PORTLESS: u32 = 65536;

/// Ports in ascending ranges that do not touch each other, first and last.
#[derive(Clone, Default)]
pub struct PortSet(Vec<(u32, u32)>);

impl PortSet {
    /// Those of a match.
    pub fn of(matches: &Match) -> Self {
        let last = match (matches.proto, matches.ports.is_any()) {
            (Proto::Any | Proto::Icmp, true) => PORTLESS,
            _ => matches.ports.last().into(),
        };
        PortSet(vec![(matches.ports.first().into(), last)])
    }

    /// Whether it has all of another one's.
    pub fn contains(&self, other: &PortSet) -> bool {
        let has = |&(first, last): &(u32, u32)| {
            let around = self.0.get(self.place(first));
            around.is_some_and(|&(start, end)| start <= first && last <= end)
        };
        other.0.iter().all(has)
    }

    /// What both have.
    pub fn shared(&self, other: &PortSet) -> PortSet {
        let with = |&(first, last): &(u32, u32)| {
            let near = other.0[other.place(first)..].iter();
            let near = near.take_while(move |(start, _)| *start <= last);
            near.map(move |&(start, end)| (first.max(start), last.min(end)))
        };
        PortSet(self.0.iter().flat_map(with).collect())
    }

    pub fn add(&mut self, other: &PortSet) {
        for &(first, last) in &other.0 {
            let from = self.place(first.saturating_sub(1));
            let to = self.0.partition_point(|(start, _)| *start <= last + 1);
            let touched = &self.0[from..to.max(from)];
            let first = touched
                .first()
                .map_or(first, |(start, _)| first.min(*start));
            let last = touched.last().map_or(last, |(_, end)| last.max(*end));
            self.0.splice(from..to.max(from), [(first, last)]);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Of the first range that does not end before a port.
    fn place(&self, port: u32) -> usize {
        self.0.partition_point(|(_, end)| *end < port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_ports_is_that_of_its_ranges() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..300 {
            let mut draw = |count: usize| {
                let range = |random: &mut fastrand::Rng| {
                    let first = random.u32(0..40);
                    (first, first + random.u32(0..5))
                };
                let ranges: Vec<(u32, u32)> = (0..count).map(|_| range(&mut random)).collect();
                let mut set = PortSet::default();
                let single = |range: &(u32, u32)| PortSet(vec![*range]);
                ranges.iter().for_each(|range| set.add(&single(range)));
                let has = |port: u32| ranges.iter().any(|(a, b)| (*a..=*b).contains(&port));
                (set, (0..50).map(has).collect::<Vec<bool>>())
            };
            let ((one, in_one), (two, in_two)) = (draw(6), draw(3));
            let shared = one.shared(&two);
            for port in 0..50 {
                let (at, single) = (port as usize, PortSet(vec![(port, port)]));
                assert_eq!(one.contains(&single), in_one[at], "{port} in {:?}", one.0);
                let both = in_one[at] && in_two[at];
                assert_eq!(shared.contains(&single), both, "{port} in {:?}", shared.0);
            }
            let is_subset = in_two.iter().zip(&in_one).all(|(two, one)| !two || *one);
            assert_eq!(one.contains(&two), is_subset, "{:?} and {:?}", one.0, two.0);
        }
    }
}
