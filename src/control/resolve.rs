//! Resolves a backend: as the request has it, or as it was found before.

use std::net::IpAddr;
use std::path;

use anyhow::{Context, Result};

use super::error::{Error, Field};
use super::{AddRequest, validate};
use crate::doctor::by_device;
use crate::error::Failure;
use crate::host::device::{self, Device};
use crate::host::discovery::{AddressHint, Probe, Resolved, locate, on_device};
use crate::host::process;
use crate::host::route::is_link_local;
use crate::model::{Adjacency, Backend, Locator, Rewriting};

/// A device of this network namespace.
#[derive(Clone, Debug)]
pub enum DeviceSpec {
    /// By its own or an alternative name.
    Name(String),
    Index(u32),
}

/// A network namespace.
#[derive(Clone, Debug)]
pub enum NamespaceSpec {
    Pid(u32),
    /// A name under /run/netns, or a path.
    Netns(String),
    Container(String),
}

/// How a backend is reached.
pub struct Resolution {
    pub adjacency: Adjacency,
    pub device: String,
    /// What was found, and where, for people; nothing of what the request has.
    pub found: Vec<String>,
    /// How it was found; None: the request has its MAC address.
    pub origin: Option<Locator>,
    /// It is that of the backend that is there, but for what the request has.
    pub is_kept: bool,
    /// Why it could not be found again, and is kept.
    pub not_found: Option<anyhow::Error>,
}

impl Resolution {
    fn new(origin: Option<Locator>, path: Resolved) -> Result<Self> {
        Ok(Resolution {
            adjacency: by_device(path.server, path.mac, &path.device)?,
            device: path.device.name,
            found: path.found,
            origin,
            is_kept: false,
            not_found: None,
        })
    }
}

impl AddRequest {
    /// Resolves a backend whose address the host knows better: in a network namespace, or at the other end
    /// of a device. None where the request has the address, and no namespace.
    pub fn in_namespace(&self) -> Result<Option<Resolution>> {
        let hint = match self.server {
            Some(server) => AddressHint::Exact(server),
            None => AddressHint::Unique { ipv6: self.ipv6() },
        };
        let (origin, probe) = match (&self.namespace, &self.device, self.server) {
            (Some(namespace), ..) => (namespace.locator()?, Probe::Always),
            (None, _, Some(_)) => return Ok(None),
            (None, Some(DeviceSpec::Name(name)), None) => (on(name)?, Probe::IfUnknown),
            (None, ..) => return Err(Failure::new(Error::WhichBackend)),
        };
        let mut path = locate(&origin, hint, probe)?;
        path.mac = self.mac.unwrap_or(path.mac);
        let origin = Some(origin).filter(|_| self.mac.is_none());
        Resolution::new(origin, path).map(Some)
    }

    /// Whether the server's address must be an IPv6 one; None: either will do.
    fn ipv6(&self) -> Option<bool> {
        let snat = self
            .rewriting
            .and_then(|rewriting| rewriting.snat?.address());
        self.matches.family().or(snat).map(|addr| addr.is_ipv6())
    }

    /// Whether nothing but the address is given, so that a backend that is there is looked for.
    fn is_address_only(&self) -> bool {
        let adjacency = self.device.is_some() || self.mac.is_some();
        let of_rule = |rewriting: Rewriting| rewriting.reply_alone().is_some();
        !adjacency
            && self.weight.is_none()
            && self.hash.is_none()
            && self.rewriting.is_none_or(of_rule)
    }

    /// Resolves a backend by its address: as the request has it; a backend that is there, as it was; else
    /// as the host knows it.
    pub fn by_address(&self, server: IpAddr, known: Option<&Backend>) -> Result<Resolution> {
        let given = self.device.as_ref().map(DeviceSpec::device).transpose()?;
        if let (Some(device), Some(mac)) = (&given, self.mac) {
            let path = Resolved::given(server, device.clone(), mac);
            return Resolution::new(None, path);
        }
        let Some(known) = known else {
            return self.find(server, given);
        };
        let before = device::by_index(known.ifindex)?;
        if self.is_address_only() {
            return find_again(server, known, before);
        }
        let is_same = |device: &Device| given.as_ref().is_none_or(|g| g.ifindex == device.ifindex);
        match before.filter(is_same) {
            None => self.find(server, given),
            Some(device) => {
                let origin = self.locator(known, &device)?;
                let path = Resolved::given(server, device, self.mac.unwrap_or(known.mac));
                Ok(Resolution {
                    is_kept: true,
                    ..Resolution::new(origin, path)?
                })
            }
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
            Some(DeviceSpec::Name(name)) => on(name),
            _ => on(&device.name),
        }
    }

    fn find(&self, server: IpAddr, given: Option<Device>) -> Result<Resolution> {
        if self.mac.is_some() {
            let path = Resolved::find(server, given, self.mac, Probe::IfUnknown)?;
            return Resolution::new(None, path);
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
        Resolution::new(Some(origin), path)
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
pub(super) fn absolute(name: &str) -> Result<String> {
    if !name.contains('/') {
        return Ok(name.into());
    }
    let path = path::absolute(name).with_context(|| format!("network namespace {name}"))?;
    Ok(path.display().to_string())
}

fn on(name: &str) -> Result<Locator> {
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
        (Ok(path), _) => Resolution::new(Some(origin), path),
        (Err(error), None) => Err(error),
        (Err(error), Some(device)) => Ok(Resolution {
            is_kept: true,
            not_found: Some(error),
            ..Resolution::new(
                known.origin.clone(),
                Resolved::given(server, device, known.mac),
            )?
        }),
    }
}
