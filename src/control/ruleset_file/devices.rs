//! What a file's rules ask the host about devices.

use std::collections::HashMap;
use std::net::IpAddr;

use anyhow::Result;

use super::bad;
use crate::error::{Exit, exit_code, failure, one_line};
use crate::model::{Mac, RuleRecord};

/// What the host says about an egress device.
#[derive(Clone, Debug)]
pub struct Egress {
    pub name: String,
    /// The device's own address.
    pub source_mac: Mac,
    /// Whether it completes partial checksums.
    pub completes_checksum: bool,
}

/// Asks the host about devices, once about each: many rules share few.
pub struct Asked<'a, D> {
    devices: &'a D,
    egress: HashMap<u32, Answer<Egress>>,
    /// The indexes of devices.
    interfaces: HashMap<String, Answer<u32>>,
    /// The addresses by which this host reaches servers.
    sources: HashMap<IpAddr, Answer<IpAddr>>,
}

/// An answer, or why there is none.
type Answer<T> = Result<T, (Exit, String)>;

fn answer<T>(asked: Result<T>) -> Answer<T> {
    asked.map_err(|error| (exit_code(&error), one_line(&error)))
}

fn told<T>(answer: &Answer<T>) -> Result<&T> {
    let refused = |(code, why): &(Exit, String)| failure(*code, why.clone());
    answer.as_ref().map_err(refused)
}

/// What a file's rules ask the host.
pub trait Devices {
    /// An egress device.
    fn egress(&self, ifindex: u32) -> Result<Egress>;

    /// The index of the device with this name.
    fn ifindex(&self, name: &str) -> Result<u32>;

    /// The name of the device with this index.
    fn name(&self, ifindex: u32) -> Result<String>;

    /// The address by which this host reaches a server.
    fn source(&self, server: IpAddr) -> Result<IpAddr>;
}

impl<'a, D: Devices> Asked<'a, D> {
    pub fn new(devices: &'a D) -> Self {
        Asked {
            devices,
            egress: HashMap::new(),
            interfaces: HashMap::new(),
            sources: HashMap::new(),
        }
    }

    pub fn egress(&mut self, ifindex: u32) -> Result<&Egress> {
        let asked = self.egress.entry(ifindex);
        told(asked.or_insert_with(|| answer(self.devices.egress(ifindex))))
    }

    pub fn source(&mut self, server: IpAddr) -> Result<IpAddr> {
        let asked = self.sources.entry(server);
        told(asked.or_insert_with(|| answer(self.devices.source(server)))).copied()
    }

    /// The index of the device with this name.
    pub fn ifindex(&mut self, name: &str) -> Result<u32> {
        if let Some(known) = self.interfaces.get(name) {
            return told(known).copied();
        }
        let now = answer(self.devices.ifindex(name));
        told(self.interfaces.entry(name.into()).or_insert(now)).copied()
    }

    /// An interface by its name; one that is gone by its index.
    pub fn ifindex_or_number(&mut self, name: &str) -> Result<u32> {
        let found = self.ifindex(name);
        found.or_else(|error| name.parse().map_err(|_| error))
    }

    /// Whom it asks.
    pub fn host(&self) -> &'a D {
        self.devices
    }

    /// The index of a record's interface. Where it has both, the index and the name must agree.
    pub fn ingress(&mut self, record: &RuleRecord) -> Result<Option<u32>> {
        let Some(name) = &record.ingress else {
            let there = record.in_ifindex.map(|ifindex| self.devices.name(ifindex));
            return there.transpose().map(|_| record.in_ifindex);
        };
        let now = self.ifindex(name)?;
        match record.in_ifindex.filter(|&before| before != now) {
            Some(before) => Err(bad(format!(
                "in {name}: its ifindex is {now} now, not {before}"
            ))),
            None => Ok(Some(now)),
        }
    }
}

/// A device's index is given to another one once the device is gone: its name tells.
pub fn check_name(record: &RuleRecord, ifindex: u32, egress: &Egress) -> Result<()> {
    let now = &egress.name;
    match record.ifname.as_ref().filter(|name| *name != now) {
        Some(name) => Err(bad(format!(
            "ifname {name}: ifindex {ifindex} is {now} now"
        ))),
        None => Ok(()),
    }
}
