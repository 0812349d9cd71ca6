//! Whether packets can reach the backends, as far as the host knows without asking anyone.

use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;

use anyhow::Result;

use super::facts::BackendFacts;
use super::probe::whereabouts::{Egress, LinkLayer};
use crate::datapath::RuleStore;
use crate::host::device;
use crate::model::{Backend, BackendState, Locator, Mac};

/// The states of backends, each asked once.
pub struct States<'a> {
    store: &'a RuleStore,
    links: LinkLayer,
    /// By index; None where packets cannot be redirected to it.
    devices: HashMap<u32, Option<Rc<Egress>>>,
    /// A million rules share few servers.
    known: HashMap<Identity, State>,
}

/// What a backend's state depends on: last, whether it was found by its route, gets a tag, and keeps the
/// destination.
type Identity = (IpAddr, u32, Mac, bool, bool, bool);

/// With the egress device's name.
type State = (BackendState, Option<String>);

impl<'a> States<'a> {
    /// Nothing but what all backends have in common is asked yet.
    pub fn new(store: &'a RuleStore) -> Result<Self> {
        Ok(States {
            store,
            links: LinkLayer::read()?,
            devices: HashMap::new(),
            known: HashMap::new(),
        })
    }

    /// A backend's state, and the name of its egress device.
    pub fn of(&mut self, backend: &Backend) -> Result<State> {
        let mut facts = BackendFacts::new(backend);
        facts.by_route = backend.origin == Some(Locator::Route);
        let identity = (
            facts.server,
            facts.ifindex,
            facts.mac,
            facts.by_route,
            facts.push_vlan,
            facts.keep_ip,
        );
        if let Some(known) = self.known.get(&identity) {
            return Ok(known.clone());
        }
        let state = match self.egress(backend.ifindex)? {
            None => (BackendState::DeviceGone, None),
            Some(egress) => {
                self.links.locate(&mut facts, &egress)?;
                (judge(&facts, &egress), Some(egress.device.name.clone()))
            }
        };
        self.known.insert(identity, state.clone());
        Ok(state)
    }

    fn egress(&mut self, ifindex: u32) -> Result<Option<Rc<Egress>>> {
        if let Some(known) = self.devices.get(&ifindex) {
            return Ok(known.clone());
        }
        let device = device::by_index(ifindex)?;
        let in_service = self.store.has_egress(ifindex)?;
        let egress = device.filter(|_| in_service).map(Egress::of).map(Rc::new);
        self.devices.insert(ifindex, egress.clone());
        Ok(egress)
    }
}

fn judge(backend: &BackendFacts, egress: &Egress) -> BackendState {
    if !egress.device.up {
        BackendState::LinkDown
    } else if backend.moved().is_some() {
        BackendState::StaleMac
    } else if backend.by_route && !backend.has_route {
        BackendState::NoRoute
    } else {
        BackendState::Up
    }
}
