//! The ways to backends as they are now.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Mutex;
use std::thread;

use anyhow::Result;

use crate::error::one_line;
use crate::host::device::Device;
use crate::host::discovery::{AddressHint, Probe, locate};
use crate::model::{Adjacency, Locator, Mac};

/// How many are looked for at a time: whoever is silent takes seconds.
const AT_ONCE: usize = 16;

/// How a backend was found, and its address then.
type Sought = (Locator, IpAddr);

/// By origin and former address: what many rules have in common is looked for once.
pub struct Resolutions(HashMap<Sought, Result<Adjacency, String>>);

impl Resolutions {
    /// To be called without the lock.
    pub fn find(sought: HashSet<Sought>) -> Self {
        let workers = sought.len().min(AT_ONCE);
        let queue = Mutex::new(sought.into_iter());
        let found = Mutex::new(HashMap::new());
        let next = || queue.lock().expect("no worker panics").next();
        let work = || {
            while let Some((origin, server)) = next() {
                let way = find(&origin, server).map_err(|error| one_line(&error));
                let mut found = found.lock().expect("no worker panics");
                found.insert((origin, server), way);
            }
        };
        thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(work);
            }
        });
        Resolutions(found.into_inner().expect("no worker panics"))
    }

    /// None where nobody looked for it.
    pub fn get(&self, origin: &Locator, server: IpAddr) -> Option<&Result<Adjacency, String>> {
        self.0.get(&(origin.clone(), server))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn find(origin: &Locator, server: IpAddr) -> Result<Adjacency> {
    let path = locate(origin, AddressHint::Previous(server), Probe::Always)?;
    by_device(path.server, path.mac, &path.device)
}

/// The way by a device, as that is now.
pub fn by_device(server: IpAddr, mac: Mac, device: &Device) -> Result<Adjacency> {
    Ok(Adjacency {
        server,
        mac,
        source_mac: device.require_source_mac()?,
        ifindex: device.ifindex,
        completes_checksum: device.completes_checksum()?,
    })
}
