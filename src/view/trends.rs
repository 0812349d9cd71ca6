//! How rates have changed of late.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use super::columns::Columns;
use crate::model::{Match, RuleRecord};

/// So many intervals are remembered.
const INTERVALS: usize = 30;

/// A trend of fewer says little.
const LEAST: usize = 8;

/// So many rows have one, so that a million rules that have traffic take little memory.
const ROWS: usize = 10_000;

const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// What has a rate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// An interface's index, its action, and the outcome.
    Interface(u32, &'static str, Option<&'static str>),
    Backend(Match, Option<IpAddr>),
}

impl Key {
    pub fn of_backend(row: &RuleRecord) -> Self {
        let (matches, server) = row.identity();
        Key::Backend(matches, server)
    }
}

/// The rates of the last intervals.
#[derive(Default)]
pub struct Trends(HashMap<Key, VecDeque<f64>>);

impl Trends {
    /// Adds an interval. What had no packets in all of them is forgotten.
    pub fn add(&mut self, rates: impl Iterator<Item = (Key, f64)>) {
        self.0.values_mut().for_each(|rates| {
            rates.push_back(0.0);
            if rates.len() > INTERVALS {
                rates.pop_front();
            }
        });
        for (key, rate) in rates {
            let has_room = self.0.len() < ROWS;
            if let Some(last) = self.0.get_mut(&key).and_then(VecDeque::back_mut) {
                *last = rate;
            } else if rate > 0.0 && has_room {
                self.0.insert(key, VecDeque::from([rate]));
            }
        }
        self.0
            .retain(|_, rates| rates.iter().any(|rate| *rate > 0.0));
    }

    /// The last intervals as a line so long, the last one at its right.
    fn line(&self, key: &Key, length: usize) -> String {
        let rates = self.0.get(key).into_iter().flatten().copied();
        let rates: Vec<f64> = rates.rev().take(length).collect();
        let most = rates.iter().copied().fold(0.0, f64::max);
        let missing = length - rates.len();
        let levels = rates.iter().rev().map(|rate| level(*rate, most));
        std::iter::repeat_n(LEVELS[0], missing)
            .chain(levels)
            .collect()
    }
}

/// The lowest level is none at all.
fn level(rate: f64, most: f64) -> char {
    let steps = LEVELS.len() - 1;
    let share = if most > 0.0 { rate / most } else { 0.0 };
    LEVELS[((share * steps as f64).ceil() as usize).min(steps)]
}

impl<T> Columns<'_, T> {
    /// One more column with the trends, where the screen has room for it.
    pub fn with_trends(self, trends: Option<&Trends>, key: impl Fn(&T) -> Option<Key>) -> Self {
        let length = self.left().min(INTERVALS);
        let Some(trends) = trends.filter(|_| length >= LEAST) else {
            return self;
        };
        self.text("trend", |row| {
            key(row).map_or_else(String::new, |key| trends.line(&key, length))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key::Interface(1, "pass", None);

    fn trends(rates: &[f64]) -> Trends {
        let mut trends = Trends::default();
        rates
            .iter()
            .for_each(|rate| trends.add([(KEY, *rate)].into_iter()));
        trends
    }

    #[test]
    fn the_last_interval_is_at_the_right_and_some_is_more_than_none() {
        assert_eq!(
            trends(&[0.0, 1000.0, 500.0, 0.0, 1.0]).line(&KEY, 6),
            "▁▁█▅▁▂"
        );
        assert_eq!(trends(&[1.0, 2.0]).line(&KEY, 1), "█");
    }

    #[test]
    fn what_has_had_no_packets_for_long_is_forgotten() {
        let mut rates = vec![1.0];
        rates.extend([0.0; INTERVALS - 1]);
        assert_eq!(trends(&rates).line(&KEY, INTERVALS).matches('█').count(), 1);
        rates.push(0.0);
        assert!(trends(&rates).0.is_empty());
        assert!(trends(&[0.0]).0.is_empty());
    }

    #[test]
    fn a_million_rows_take_little_memory() {
        let mut trends = Trends::default();
        let keys = (0..2 * ROWS as u32).map(|ifindex| (Key::Interface(ifindex, "pass", None), 1.0));
        trends.add(keys);
        assert_eq!(trends.0.len(), ROWS);
    }
}
