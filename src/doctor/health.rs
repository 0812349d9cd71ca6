//! Whether packets can reach the backends, as far as the host knows without asking anyone.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;

use anyhow::Result;

use crate::datapath::RuleStore;
use crate::doctor::checks::{End, contradiction};
use crate::host::device::{self, Device};
use crate::host::discovery;
use crate::host::neighbour::{Neighbours, Next};
use crate::host::route::{self, Route};
use crate::model::{Backend, BackendState, Locator, Mac};

pub struct States<'a> {
    store: &'a RuleStore,
    neighbours: Neighbours,
    /// Read where an egress device is a port.
    ports: OnceCell<HashMap<(u32, Mac), u32>>,
    /// By index; none where packets cannot be redirected to it.
    devices: HashMap<u32, Option<Rc<Egress>>>,
    /// A million rules share few servers.
    known: HashMap<Identity, State>,
}

/// What a backend's state depends on; last, whether it was found by its route.
type Identity = (IpAddr, u32, Mac, bool);

/// With the egress device's name.
type State = (BackendState, Option<String>);

struct Egress {
    device: Device,
    /// None where it is no veth, or who asks is not root.
    peer: Option<Device>,
}

impl<'a> States<'a> {
    pub fn new(store: &'a RuleStore) -> Result<Self> {
        Ok(States {
            store,
            neighbours: Neighbours::read()?,
            ports: OnceCell::new(),
            devices: HashMap::new(),
            known: HashMap::new(),
        })
    }

    pub fn of(&mut self, backend: &Backend) -> Result<State> {
        let by_route = backend.origin == Some(Locator::Route);
        let identity = (backend.server, backend.ifindex, backend.mac, by_route);
        if let Some(known) = self.known.get(&identity) {
            return Ok(known.clone());
        }
        let state = match self.egress(backend.ifindex)? {
            Some(egress) => {
                let name = egress.device.name.clone();
                (self.through(&egress, backend, by_route)?, Some(name))
            }
            None => (BackendState::DeviceGone, None),
        };
        self.known.insert(identity, state.clone());
        Ok(state)
    }

    fn through(&self, egress: &Egress, backend: &Backend, by_route: bool) -> Result<BackendState> {
        let Device {
            ifindex,
            master,
            up,
            ..
        } = egress.device;
        let neighbour = self.neighbours.next_hop(backend.server, ifindex, master)?;
        let has_address = || egress.has_address(neighbour.as_ref(), backend.server);
        let known = neighbour.map(|next| next.mac);
        let moved = || contradiction(backend.mac, egress.end(), known, has_address).is_some();
        let nsid = egress.device.link_nsid;
        let other_device = || discovery::other_device(backend.server, ifindex, master, nsid);
        Ok(if !up {
            BackendState::LinkDown
        } else if by_route && other_device()?.is_some()
            || self.is_behind_another_port(&egress.device, backend.mac)
            || moved()
        {
            BackendState::StaleMac
        } else if by_route && !matches!(route::lookup(backend.server, None), Ok(Route::Hop(_))) {
            BackendState::NoRoute
        } else {
            BackendState::Up
        })
    }

    fn is_behind_another_port(&self, egress: &Device, mac: Mac) -> bool {
        egress.master.is_some_and(|master| {
            let ports = self
                .ports
                .get_or_init(|| device::bridge_ports().unwrap_or_default());
            ports
                .get(&(master, mac))
                .is_some_and(|port| *port != egress.ifindex)
        })
    }

    fn egress(&mut self, ifindex: u32) -> Result<Option<Rc<Egress>>> {
        if let Some(known) = self.devices.get(&ifindex) {
            return Ok(known.clone());
        }
        let device = device::by_index(ifindex)?;
        let in_service = self.store.has_egress(ifindex)?;
        let egress = device.filter(|_| in_service).map(Egress::new).map(Rc::new);
        self.devices.insert(ifindex, egress.clone());
        Ok(egress)
    }
}

impl Egress {
    fn new(device: Device) -> Self {
        let peer = device::peer(&device).ok().flatten();
        Egress { device, peer }
    }

    /// Whether the namespace at the other end has the server's address; true where nobody can say.
    fn has_address(&self, next: Option<&Next>, server: IpAddr) -> bool {
        let at_peer = |next: &Next| next.is_in(self.device.link_nsid, server);
        next.is_none_or(at_peer)
    }

    fn end(&self) -> Option<End> {
        let peer = self.peer.as_ref()?;
        Some(End {
            mac: peer.mac?,
            takes_others: peer.promiscuous || peer.master.is_some(),
        })
    }
}
