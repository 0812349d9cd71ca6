//! The backends as they are: rules, counters, losses and states.

use std::collections::HashMap;

use anyhow::Result;

use super::RuleSelector;
use crate::datapath::{self, Pins, RuleStore};
use crate::doctor::health::States;
use crate::host::device;
use crate::model::{Action, Backend, Failures, Rule, RuleRecord};

/// The selected backends.
pub fn list(pins: &Pins, selector: &RuleSelector) -> Result<Vec<RuleRecord>> {
    let read = || {
        let store = RuleStore::open(pins)?;
        records(&store, &selector.rules(&store)?, selector, false)
    };
    let records = datapath::read(pins, read)?;
    let records = records.ok_or_else(|| datapath::not_attached(pins))?;
    selector.require(&records)?;
    Ok(records)
}

/// The selected backends of rules, with what each CPU has counted where that is wanted.
pub(super) fn records(
    store: &RuleStore,
    rules: &[Rule],
    selector: &RuleSelector,
    by_cpu: bool,
) -> Result<Vec<RuleRecord>> {
    let mut inventory = Inventory::new(store)?;
    inventory.by_cpu = by_cpu;
    let record = |(rule, backend)| match backend {
        Some(backend) => inventory.record(rule, backend),
        None => inventory.record_of(rule),
    };
    rows(rules, selector).map(record).collect()
}

/// Brings records up to date that were made of these very rules.
pub(super) fn renew(
    store: &RuleStore,
    rules: &[Rule],
    selector: &RuleSelector,
    by_cpu: bool,
    records: &mut [RuleRecord],
) -> Result<()> {
    let mut inventory = Inventory::new(store)?;
    inventory.by_cpu = by_cpu;
    let mut pairs = rows(rules, selector).zip(records);
    pairs.try_for_each(|((rule, backend), record)| match backend {
        Some(backend) => inventory.observe(record, rule, backend),
        None => inventory.observe_rule(record, rule),
    })
}

/// The selected backends, and the rules that have none.
fn rows<'a>(
    rules: &'a [Rule],
    selector: &'a RuleSelector,
) -> impl Iterator<Item = (&'a Rule, Option<&'a Backend>)> {
    rules.iter().flat_map(|rule| {
        let own = (rule.action != Action::Redirect).then_some((rule, None));
        let backends = rule.backends.iter();
        let backends = backends.filter(|backend| selector.matches_backend(backend));
        own.into_iter()
            .chain(backends.map(move |backend| (rule, Some(backend))))
    })
}

/// One backend of a rule.
pub(super) fn record(store: &RuleStore, rule: &Rule, backend: &Backend) -> Result<RuleRecord> {
    Inventory::new(store)?.record(rule, backend)
}

/// A rule without backends.
pub(super) fn record_of(store: &RuleStore, rule: &Rule) -> Result<RuleRecord> {
    Inventory::new(store)?.record_of(rule)
}

/// What is asked once for all records.
struct Inventory<'store> {
    store: &'store RuleStore,
    states: States<'store>,
    /// Read before the counters, so that no more are lost than were redirected. None: no ledger is kept.
    failures: Option<HashMap<u32, Failures>>,
    by_cpu: bool,
    /// Names of interfaces, by index; None: it is gone.
    interfaces: HashMap<u32, Option<String>>,
}

impl<'store> Inventory<'store> {
    fn new(store: &'store RuleStore) -> Result<Self> {
        Ok(Inventory {
            store,
            states: States::new(store)?,
            failures: store.failures()?,
            by_cpu: false,
            interfaces: HashMap::new(),
        })
    }

    fn record(&mut self, rule: &Rule, backend: &Backend) -> Result<RuleRecord> {
        let mut record = RuleRecord::new(rule, backend);
        self.observe(&mut record, rule, backend)?;
        Ok(record)
    }

    fn record_of(&mut self, rule: &Rule) -> Result<RuleRecord> {
        let mut record = RuleRecord::of(rule);
        self.observe_rule(&mut record, rule)?;
        Ok(record)
    }

    fn observe(&mut self, record: &mut RuleRecord, rule: &Rule, backend: &Backend) -> Result<()> {
        (record.state, record.ifname) = self.states.of(backend)?;
        record.ingress = self.interface(rule);
        let failures = self.failures(backend.counter);
        self.count(record, backend.counter, failures)
    }

    fn observe_rule(&mut self, record: &mut RuleRecord, rule: &Rule) -> Result<()> {
        let mut failures = None;
        if let Some(ifindex) = rule.action.ifindex() {
            (record.state, record.ifname) = self.states.of_device(ifindex)?;
            failures = self.failures(rule.counter);
        }
        record.ingress = self.interface(rule);
        self.count(record, rule.counter, failures)
    }

    fn count(
        &self,
        record: &mut RuleRecord,
        counter: Option<u32>,
        failures: Option<Failures>,
    ) -> Result<()> {
        if !self.by_cpu {
            record.count(self.store.counter(counter)?, failures);
            return Ok(());
        }
        // Read once, so that they add up.
        let cpus = self.store.counter_by_cpu(counter)?;
        record.count(cpus.iter().map(|cpu| cpu.counter).sum(), failures);
        record.cpus = Some(cpus);
        Ok(())
    }

    fn failures(&self, counter: Option<u32>) -> Option<Failures> {
        let failures = self.failures.as_ref();
        let lost = |all: &HashMap<u32, Failures>| all.get(&counter?).cloned();
        failures.map(|all| lost(all).unwrap_or_default())
    }

    fn interface(&mut self, rule: &Rule) -> Option<String> {
        let ifindex = rule.matches.ingress?;
        let name = self.interfaces.entry(ifindex);
        name.or_insert_with(|| device::name_of(ifindex)).clone()
    }
}
