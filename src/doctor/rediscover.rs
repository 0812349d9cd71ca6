//! The adjacencies of backends as the host finds them now.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Mutex;
use std::thread;

use anyhow::Result;

use crate::error::one_line;
use crate::host::device::Device;
use crate::host::discovery::{AddressHint, Probe, locate};
use crate::model::{Adjacency, Locator, Mac};

/// How many backends are looked for at a time, for a server that is silent takes seconds.
const WORKERS: usize = 16;

/// How a backend was found, and its address then.
type Sought = (Locator, IpAddr);

/// The adjacencies by what was sought: a backend that many rules have is looked for once.
pub struct Resolutions(HashMap<Sought, Result<Adjacency, String>>);

impl Resolutions {
    /// Looks for backends. The caller does not hold the lock, or other runs would wait for silent servers.
    pub fn find(sought: HashSet<Sought>) -> Self {
        let workers = sought.len().min(WORKERS);
        let queue = Mutex::new(sought.into_iter());
        let found = Mutex::new(HashMap::new());
        let next = || queue.lock().expect("no worker panics").next();
        let work = || {
            while let Some((origin, server)) = next() {
                let adjacency = find(&origin, server).map_err(|error| one_line(&error));
                let mut found = found.lock().expect("no worker panics");
                found.insert((origin, server), adjacency);
            }
        };
        thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(work);
            }
        });
        Resolutions(found.into_inner().expect("no worker panics"))
    }

    /// What was found; None where nobody looked for it.
    pub fn get(&self, origin: &Locator, server: IpAddr) -> Option<&Result<Adjacency, String>> {
        self.0.get(&(origin.clone(), server))
    }

    /// The devices that they lead to.
    pub fn devices(&self) -> impl Iterator<Item = u32> {
        let found = self.0.values().flatten();
        found.map(|adjacency| adjacency.ifindex)
    }

    /// Whether nothing was sought.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn find(origin: &Locator, server: IpAddr) -> Result<Adjacency> {
    let path = locate(origin, AddressHint::Previous(server), Probe::Always)?;
    by_device(path.server, path.mac, &path.device)
}

/// The adjacency by a device, as that is now.
pub fn by_device(server: IpAddr, mac: Mac, device: &Device) -> Result<Adjacency> {
    Ok(Adjacency {
        server,
        mac,
        source_mac: device.require_source_mac()?,
        ifindex: device.ifindex,
        completes_checksum: device.completes_checksum()?,
    })
}
