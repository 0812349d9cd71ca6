//! What is to be shown: the counters, how fast they grow, and which rows come first.

use std::cmp::Reverse;
use std::time::Instant;

use anyhow::Result;

use super::state::{Order, State};
use crate::model::{RuleRecord, Snapshot};
use crate::view::stats::interfaces::{self, Line};
use crate::view::stats::{Earlier, Speed};
use crate::view::trends::{Key, Trends};

pub struct Figures {
    pub now: Snapshot,
    at: Instant,
    pub earlier: Option<Earlier>,
    /// One for each row of rules.
    speeds: Vec<Speed>,
    pub trends: Trends,
    /// The places of the rows that are wanted, in their order.
    pub order: Vec<usize>,
}

impl Figures {
    pub fn new(first: Snapshot) -> Self {
        Figures {
            at: Instant::now(),
            earlier: None,
            speeds: vec![Speed::default(); first.rules.len()],
            trends: Trends::default(),
            order: (0..first.rules.len()).collect(),
            now: first,
        }
    }

    /// Takes over what is counted now.
    pub fn renew(&mut self, renew: impl FnOnce(&mut Snapshot) -> Result<()>) -> Result<()> {
        let mut earlier = Earlier::of(&self.now);
        renew(&mut self.now)?;
        earlier.elapsed = self.at.elapsed();
        self.at += earlier.elapsed;
        let earlier = &*self.earlier.insert(earlier);
        let rows = self.now.rules.iter().enumerate();
        let speeds = rows.map(|(place, row)| Speed::of(place, row, Some(earlier)));
        let speeds: Vec<Speed> = speeds.collect();
        let lines = interfaces::lines(&self.now, Some(earlier));
        let lines = lines
            .iter()
            .map(|line| (line.key(), line.speed().rate.packets));
        let lines: Vec<_> = lines.collect();
        let busy = self.now.rules.iter().zip(&speeds);
        let busy = busy.filter(|(_, speed)| speed.rate.packets > 0.0);
        let rows = busy.map(|(row, speed)| (Key::of_backend(row), speed.rate.packets));
        self.trends.add(lines.into_iter().chain(rows));
        self.speeds = speeds;
        Ok(())
    }

    /// Puts the rows in order that the filter lets through.
    pub fn choose(&mut self, state: &State) {
        let rows = self.now.rules.iter().enumerate();
        let wanted = rows.filter(|(_, row)| state.lets(|| words(row)));
        self.order = wanted.map(|(place, _)| place).collect();
        if state.order == Order::Busiest {
            let weight = |place: &usize| self.speeds[*place].weight();
            // Of a million rules, few have packets.
            let (mut busy, idle): (Vec<_>, Vec<_>) =
                self.order.iter().partition(|place| weight(place) > (0, 0));
            busy.sort_by_key(|place| Reverse(weight(place)));
            busy.extend(idle);
            self.order = busy;
        }
    }

    /// The lines of interfaces that the filter lets through, those that come first before the others.
    pub fn lines(&self, state: &State) -> Vec<Line<'_>> {
        let mut lines = interfaces::lines(&self.now, self.earlier.as_ref());
        lines.retain(|line| state.lets(|| line.words()));
        lines
    }
}

/// All that a row of rules is called.
fn words(row: &RuleRecord) -> String {
    let server = row.server.map(|server| server.to_string());
    let server = server.unwrap_or_default();
    let device = row.device().unwrap_or_default();
    format!("{} {server} {device} {}", row.matches_text(), row.action)
}
