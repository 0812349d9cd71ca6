//! How answers come back where nobody says it: translated, if the program can see them.

use std::collections::BTreeMap;

use anyhow::{Error, Result};

use super::validate;
use crate::datapath::Transaction;
use crate::model::{HashOf, Reply, Rule};

/// Has the answers of a rule translated. Why not, where that cannot be.
pub fn by_default(transaction: &mut Transaction, rule: &mut Rule) -> Option<Error> {
    let mut asked = Asked::new(|ifindex| transaction.translate(ifindex));
    asked.decide(rule);
    asked.refused().pop()
}

/// What was asked of devices, each once.
pub struct Asked<F> {
    /// Prepares that answers which arrive at a device are translated.
    translate: F,
    /// Why answers that arrive there are not translated.
    devices: BTreeMap<u32, Option<Error>>,
    /// Why those of a rule are not, whatever the device.
    rule: Option<Error>,
}

impl<F: FnMut(u32) -> Result<()>> Asked<F> {
    pub fn new(translate: F) -> Self {
        Asked {
            translate,
            devices: BTreeMap::new(),
            rule: None,
        }
    }

    /// Has the answers of a rule translated, where that can be.
    pub fn decide(&mut self, rule: &mut Rule) {
        rule.reply = Reply::None;
        // What spreads packets has no connections.
        if rule.hash == HashOf::Packet || rule.translatable_by().next().is_none() {
            return;
        }
        rule.reply = Reply::Nat;
        if let Err(error) = validate::replies(rule) {
            self.rule = Some(error);
            rule.reply = Reply::None;
            return;
        }
        let seen = rule
            .translatable_by()
            // One that is not found yet has no device.
            .filter(|&ifindex| ifindex != 0 && !self.sees(ifindex));
        if seen.count() > 0 {
            rule.reply = Reply::None;
        }
    }

    fn sees(&mut self, ifindex: u32) -> bool {
        let asked = self.devices.entry(ifindex);
        let refused = asked.or_insert_with(|| (self.translate)(ifindex).err());
        refused.is_none()
    }

    /// Why some are not.
    pub fn refused(self) -> Vec<Error> {
        let devices = self.devices.into_values().flatten();
        self.rule.into_iter().chain(devices).collect()
    }
}
