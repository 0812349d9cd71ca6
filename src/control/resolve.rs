//! Resolves a backend: as the request has it, or as it was found before.

use std::net::IpAddr;
use std::path;

use anyhow::{Context, Result};

use super::error::{Error, Field};
use super::validate;
use crate::error::Failure;
use crate::host::device::{self, Device};
use crate::host::discovery::{AddressHint, Probe, Resolved, locate, on_device};
use crate::host::process;
use crate::host::route::is_link_local;
use crate::model::{Backend, Locator, Mac};

/// What a request has to find a backend by.
#[derive(Clone, Debug, Default)]
pub struct BackendSpec {
    /// The server's address; None: as its network namespace has it.
    pub server: Option<IpAddr>,
    /// The server's MAC address.
    pub mac: Option<Mac>,
    /// The egress device.
    pub device: Option<DeviceSpec>,
    /// The network namespace that the server is in.
    pub namespace: Option<NamespaceSpec>,
}

/// A device of this network namespace.
#[derive(Clone, Debug)]
pub enum DeviceSpec {
    /// By its own or an alternative name.
    Name(String),
    /// By its index.
    Index(u32),
}

/// A network namespace.
#[derive(Clone, Debug)]
pub enum NamespaceSpec {
    /// The one of a process.
    Pid(u32),
    /// A name under /run/netns, or a path.
    Netns(String),
    /// The one of a container.
    Container(String),
}

/// How a backend is reached.
pub struct Resolution {
    /// Its address, device and MAC address.
    pub path: Resolved,
    /// How it was found; None: the request has its MAC address.
    pub origin: Option<Locator>,
    /// It is that of the backend that is there, but for what the request has.
    pub is_kept: bool,
    /// Why it could not be found again, and is kept.
    pub not_found: Option<anyhow::Error>,
}

impl Resolution {
    fn new(origin: Option<Locator>, path: Resolved) -> Self {
        Resolution {
            path,
            origin,
            is_kept: false,
            not_found: None,
        }
    }
}

impl BackendSpec {
    /// That something says which backend is meant.
    pub fn require_any(&self) -> Result<()> {
        let by_name = matches!(self.device, Some(DeviceSpec::Name(_)));
        if self.server.is_some() || by_name || self.namespace.is_some() {
            return Ok(());
        }
        Err(Failure::new(Error::WhichBackend))
    }

    /// Resolves a backend whose address the host knows better: in a network namespace, or at the other end
    /// of a device. None where the request has the address, and no namespace. `ipv6` is the family that
    /// the address must have, if any.
    pub fn in_namespace(&self, ipv6: Option<bool>) -> Result<Option<Resolution>> {
        let hint = match self.server {
            Some(server) => AddressHint::Exact(server),
            None => AddressHint::Unique { ipv6 },
        };
        if let Some(namespace) = &self.namespace {
            let origin = namespace.locator()?;
            let path = locate(&origin, hint, Probe::Always)?;
            return Ok(Some(Resolution::new(Some(origin), path)));
        }
        let (None, Some(DeviceSpec::Name(name))) = (self.server, &self.device) else {
            return Ok(None);
        };
        let origin = by_device(name)?;
        let mut path = locate(&origin, hint, Probe::IfUnknown)?;
        let Some(mac) = self.mac else {
            return Ok(Some(Resolution::new(Some(origin), path)));
        };
        path.mac = mac;
        Ok(Some(Resolution::new(None, path)))
    }

    /// Resolves a backend by its address: as the request has it; a backend that is there, as it was; else
    /// as the host knows it. `again`: the request has nothing but the address, so that a backend that is
    /// there is looked for.
    pub fn by_address(
        &self,
        server: IpAddr,
        known: Option<&Backend>,
        again: bool,
    ) -> Result<Resolution> {
        let given = self.device.as_ref().map(DeviceSpec::device).transpose()?;
        if let (Some(device), Some(mac)) = (&given, self.mac) {
            let path = Resolved::told(server, device.clone(), mac);
            return Ok(Resolution::new(None, path));
        }
        let Some(known) = known else {
            return self.find(server, given);
        };
        let before = device::by_index(known.ifindex)?;
        if again {
            return find_again(server, known, before);
        }
        let is_same = |device: &Device| given.as_ref().is_none_or(|g| g.ifindex == device.ifindex);
        match before.filter(is_same) {
            None => self.find(server, given),
            Some(device) => Ok(Resolution {
                origin: self.locator(known, &device)?,
                path: Resolved::told(server, device, self.mac.unwrap_or(known.mac)),
                is_kept: true,
                not_found: None,
            }),
        }
    }

    /// Whether the request has another locator for a backend that is there: none, with a MAC address; a
    /// device, where the backend was found on a device.
    pub fn gives_locator(&self, known: &Backend) -> bool {
        let on_device = matches!(known.origin, Some(Locator::Device(_)));
        self.mac.is_some() || on_device && self.device.is_some()
    }

    fn locator(&self, known: &Backend, device: &Device) -> Result<Option<Locator>> {
        if !self.gives_locator(known) {
            return Ok(known.origin.clone());
        }
        match self.mac {
            Some(_) => Ok(None),
            None => self.device_locator(device).map(Some),
        }
    }

    /// By the name that the request has, which may be an alternative one, or the name of the index.
    fn device_locator(&self, device: &Device) -> Result<Locator> {
        match &self.device {
            Some(DeviceSpec::Name(name)) => by_device(name),
            _ => by_device(&device.name),
        }
    }

    fn find(&self, server: IpAddr, given: Option<Device>) -> Result<Resolution> {
        if self.mac.is_some() {
            let path = Resolved::find(server, given, self.mac, Probe::IfUnknown)?;
            return Ok(Resolution::new(None, path));
        }
        let (origin, path) = match given {
            Some(device) => (
                self.device_locator(&device)?,
                on_device(server, device, Probe::IfUnknown)?,
            ),
            None => (
                Locator::Route,
                Resolved::find(server, None, None, Probe::IfUnknown)?,
            ),
        };
        Ok(Resolution::new(Some(origin), path))
    }
}

impl DeviceSpec {
    fn device(&self) -> Result<Device> {
        match self {
            DeviceSpec::Name(name) => device::by_name(name),
            DeviceSpec::Index(ifindex) => {
                let none = || Failure::new(Error::NoDevice(*ifindex));
                device::by_index(*ifindex)?.ok_or_else(none)
            }
        }
    }
}

impl NamespaceSpec {
    fn locator(&self) -> Result<Locator> {
        let (field, locator) = match self {
            NamespaceSpec::Pid(pid) => {
                let (pid, started) = (*pid, process::started(*pid)?);
                (Field::Pid, Locator::Pid { pid, started })
            }
            NamespaceSpec::Netns(name) => (Field::Netns, Locator::Netns(absolute(name)?)),
            NamespaceSpec::Container(name) => (Field::Container, Locator::Container(name.clone())),
        };
        validate::locator(field, &locator)?;
        Ok(locator)
    }
}

/// A name as it is; a path so that it can be followed from anywhere.
fn absolute(name: &str) -> Result<String> {
    if !name.contains('/') {
        return Ok(name.into());
    }
    let path = path::absolute(name).with_context(|| format!("network namespace {name}"))?;
    Ok(path.display().to_string())
}

fn by_device(name: &str) -> Result<Locator> {
    let locator = Locator::Device(name.into());
    validate::locator(Field::Device, &locator)?;
    Ok(locator)
}

/// Where the host can't say now, what was known stays, as long as its device is there.
fn find_again(server: IpAddr, known: &Backend, before: Option<Device>) -> Result<Resolution> {
    let link_local = before.as_ref().filter(|_| is_link_local(server));
    let by_address = link_local.map_or(Locator::Route, |device| {
        Locator::Device(device.name.clone())
    });
    let origin = known.origin.clone().unwrap_or(by_address);
    let found = locate(&origin, AddressHint::Exact(server), Probe::Always);
    match (found, before) {
        (Ok(path), _) => Ok(Resolution::new(Some(origin), path)),
        (Err(error), None) => Err(error),
        (Err(error), Some(device)) => Ok(Resolution {
            path: Resolved::told(server, device, known.mac),
            origin: known.origin.clone(),
            is_kept: true,
            not_found: Some(error),
        }),
    }
}
