//! Whether packets can reach the backends, as far as the host knows without asking anyone. A million
//! rules share few devices, and the neighbour table is read once.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::net::IpAddr;

use anyhow::Result;

use crate::datapath::RuleStore;
use crate::host::device::{self, Device};
use crate::host::{neighbour, route};
use crate::model::{Backend, BackendState, Mac, Origin};

pub struct States<'a> {
    store: &'a RuleStore,
    /// By index; none where packets cannot be redirected to it.
    devices: HashMap<u32, Option<Egress>>,
    neighbours: OnceCell<HashMap<(u32, IpAddr), Mac>>,
    routes: HashMap<IpAddr, bool>,
}

/// An egress device.
struct Egress {
    device: Device,
    /// The only address that frames sent there can have; none where that can't be told.
    peer: Option<Mac>,
}

impl<'a> States<'a> {
    pub fn new(store: &'a RuleStore) -> Self {
        States {
            store,
            devices: HashMap::new(),
            neighbours: OnceCell::new(),
            routes: HashMap::new(),
        }
    }

    /// A backend's state, and its device's name.
    pub fn of(&mut self, backend: &Backend) -> Result<(BackendState, Option<String>)> {
        let ifindex = backend.ifindex;
        if !self.devices.contains_key(&ifindex) {
            let egress = egress(self.store, ifindex)?;
            self.devices.insert(ifindex, egress);
        }
        let Some(egress) = &self.devices[&ifindex] else {
            return Ok((BackendState::DeviceGone, None));
        };
        let state = if !egress.device.up {
            BackendState::LinkDown
        } else if self.is_stale(egress, backend)? {
            BackendState::StaleMac
        } else {
            BackendState::Up
        };
        let name = Some(egress.device.name.clone());
        if state == BackendState::Up && !self.has_route(backend) {
            return Ok((BackendState::NoRoute, name));
        }
        Ok((state, name))
    }

    fn is_stale(&self, egress: &Egress, backend: &Backend) -> Result<bool> {
        if let Some(peer) = egress.peer {
            return Ok(peer != backend.mac);
        }
        let neighbours = match self.neighbours.get() {
            Some(known) => known,
            None => {
                let read = neighbour::all()?;
                self.neighbours.get_or_init(|| read)
            }
        };
        // A port's neighbours are its bridge's.
        let Device {
            ifindex, master, ..
        } = egress.device;
        let on = |ifindex| neighbours.get(&(ifindex, backend.server));
        let known = on(ifindex).or_else(|| master.and_then(on));
        Ok(known.is_some_and(|mac| *mac != backend.mac))
    }

    /// Only a backend that was found by its route is lost without it.
    fn has_route(&mut self, backend: &Backend) -> bool {
        if backend.origin != Some(Origin::Route) {
            return true;
        }
        let known = self.routes.entry(backend.server);
        *known.or_insert_with(|| route::next_hop(backend.server, None).is_ok())
    }
}

fn egress(store: &RuleStore, ifindex: u32) -> Result<Option<Egress>> {
    let device = match device::by_index(ifindex)? {
        Some(device) if store.has_egress(ifindex)? => device,
        _ => return Ok(None),
    };
    // Refused to who is not root.
    let peer = device::peer(&device).ok().flatten();
    let peer = peer.filter(|peer| !peer.promiscuous);
    let peer = peer.and_then(|peer| peer.mac);
    Ok(Some(Egress { device, peer }))
}
