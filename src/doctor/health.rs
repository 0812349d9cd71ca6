//! Whether packets can reach the backends, as far as the host knows without asking anyone.

use std::collections::HashMap;
use std::rc::Rc;

use anyhow::Result;

use super::facts::{BackendFacts, Identity};
use super::probe::whereabouts::{Egress, LinkLayer};
use crate::datapath::RuleStore;
use crate::host::device;
use crate::model::{Backend, BackendState, Locator};

/// The states of backends, each asked once.
pub struct States<'a> {
    store: &'a RuleStore,
    links: LinkLayer,
    /// By index; None where packets cannot be redirected to it.
    devices: HashMap<u32, Option<Rc<Egress>>>,
    /// By whether it was found by its route, too. A million rules share few servers.
    known: HashMap<(Identity, bool), State>,
}

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
        let (state, device) = self.reached(backend)?;
        let state = match state {
            _ if backend.marked_down => BackendState::MarkedDown,
            BackendState::Up if !backend.takes_flows() => BackendState::Draining,
            state => state,
        };
        Ok((state, device))
    }

    /// Whether packets can reach a backend.
    fn reached(&mut self, backend: &Backend) -> Result<State> {
        let by_route = backend.origin == Some(Locator::Route);
        let key = (BackendFacts::identity(backend), by_route);
        if let Some(known) = self.known.get(&key) {
            return Ok(known.clone());
        }
        let state = match self.egress(backend.ifindex)? {
            None => (BackendState::DeviceGone, None),
            Some(egress) => {
                let mut facts = BackendFacts::new(backend);
                facts.locators.by_route = by_route;
                self.links.locate(&mut facts, &egress)?;
                let device = &egress.device;
                (facts.state(device.up), Some(device.name.clone()))
            }
        };
        self.known.insert(key, state.clone());
        Ok(state)
    }

    /// Whether frames can leave by a device, and its name.
    pub fn of_device(&mut self, ifindex: u32) -> Result<State> {
        Ok(match self.egress(ifindex)? {
            None => (BackendState::DeviceGone, None),
            Some(egress) => {
                let device = &egress.device;
                let state = match device.up {
                    true => BackendState::Up,
                    false => BackendState::LinkDown,
                };
                (state, Some(device.name.clone()))
            }
        })
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
