//! Finding a backend: as the command line says, or as it was found before.

use std::net::IpAddr;
use std::path;

use anyhow::{Context, Result};

use super::grammar::RuleAdd;
use xdpredir::control::validate as check;
use xdpredir::error::{Exit, failure, one_line};
use xdpredir::host::device::{self, Device};
use xdpredir::host::discovery::{AddressHint, Probe, Resolved, locate, on_device};
use xdpredir::host::process;
use xdpredir::host::route::is_link_local;
use xdpredir::model::{Backend, Locator};
use xdpredir::view;

/// The way to a backend.
pub struct Resolution {
    pub path: Resolved,
    /// None: it was told by hand.
    pub origin: Option<Locator>,
    /// It is that of the backend that is there already, but for what is told.
    pub kept: bool,
}

impl Resolution {
    fn by(origin: Locator, path: Resolved) -> Self {
        Resolution {
            path,
            origin: Some(origin),
            kept: false,
        }
    }

    fn by_hand(path: Resolved) -> Self {
        Resolution {
            path,
            origin: None,
            kept: false,
        }
    }
}

/// That something tells which backend is meant.
pub fn require_way(args: &RuleAdd) -> Result<()> {
    let namespace = args.pid.is_some() || args.server_netns.is_some() || args.container.is_some();
    if args.server.is_some() || args.dev.is_some() || namespace {
        return Ok(());
    }
    let message = "which backend? --server ADDR is missing; --container, --pid, --server-netns, or --dev of a veth find it";
    Err(failure(Exit::Usage, message))
}

/// The way to a backend whose address the host knows better: in a network namespace, or at the other
/// end of a device. None where the command line has the address, and no namespace.
pub fn in_namespace(args: &RuleAdd) -> Result<Option<Resolution>> {
    let wanted = match args.server {
        Some(server) => AddressHint::Exact(server),
        None => AddressHint::Unique { ipv6: family(args) },
    };
    if let Some(origin) = namespace(args)? {
        let path = locate(&origin, wanted, Probe::Always)?;
        return Ok(Some(Resolution::by(origin, path)));
    }
    let (None, Some(name)) = (args.server, &args.dev) else {
        return Ok(None);
    };
    let origin = Locator::Device(name.clone());
    check::origin("--dev", &origin)?;
    let mut path = locate(&origin, wanted, Probe::IfUnknown)?;
    Ok(Some(match args.mac {
        Some(mac) => {
            path.mac = mac;
            Resolution::by_hand(path)
        }
        None => Resolution::by(origin, path),
    }))
}

/// Whether only IPv6 addresses will do, or only IPv4 ones.
fn family(args: &RuleAdd) -> Option<bool> {
    let source = args.matches.src.map(|src| src.addr());
    source.or(args.rewrite.snat).map(|addr| addr.is_ipv6())
}

fn namespace(args: &RuleAdd) -> Result<Option<Locator>> {
    let (option, origin) = if let Some(pid) = args.pid {
        let started = process::started(pid)?;
        ("--pid", Locator::Pid { pid, started })
    } else if let Some(name) = &args.server_netns {
        ("--server-netns", Locator::Netns(absolute(name)?))
    } else if let Some(name) = &args.container {
        ("--container", Locator::Container(name.clone()))
    } else {
        return Ok(None);
    };
    check::origin(option, &origin)?;
    Ok(Some(origin))
}

/// A name as it is; a path so that it can be followed from anywhere.
fn absolute(name: &str) -> Result<String> {
    if !name.contains('/') {
        return Ok(name.into());
    }
    let path = path::absolute(name).with_context(|| format!("--server-netns {name}"))?;
    Ok(path.display().to_string())
}

/// The way to a backend whose address is told: as told; for a backend that is there, as it was; else
/// as the host knows it.
pub fn path(
    server: IpAddr,
    args: &RuleAdd,
    rewrites: bool,
    known: Option<&Backend>,
) -> Result<Resolution> {
    let told = told_device(args)?;
    if let (Some(device), Some(mac)) = (&told, args.mac) {
        return Ok(Resolution::by_hand(Resolved::told(
            server,
            device.clone(),
            mac,
        )));
    }
    let before = match known {
        Some(known) => device::by_index(known.ifindex)?.map(|device| (device, known)),
        None => None,
    };
    // Nothing but the server given: look again, for its MAC address may be another one now.
    let nothing_told = told.is_none() && args.mac.is_none() && args.weight.is_none() && !rewrites;
    if nothing_told && let Some(known) = known {
        return again(server, known, before.map(|(device, _)| device));
    }
    let same_device = |device: &Device| told.as_ref().is_none_or(|t| t.ifindex == device.ifindex);
    match before {
        Some((device, known)) if same_device(&device) => Ok(Resolution {
            origin: locator(known, args, &device)?,
            path: Resolved::told(server, device, args.mac.unwrap_or(known.mac)),
            kept: true,
        }),
        _ => find(server, told, args),
    }
}

/// Whether the command line has another locator for a backend that is there: none, with a MAC
/// address; another name, where it was found on a device.
pub fn tells_locator(known: &Backend, args: &RuleAdd) -> bool {
    let on_device = matches!(known.origin, Some(Locator::Device(_)));
    args.mac.is_some() || on_device && (args.dev.is_some() || args.ifindex.is_some())
}

fn locator(known: &Backend, args: &RuleAdd, device: &Device) -> Result<Option<Locator>> {
    if !tells_locator(known, args) {
        return Ok(known.origin.clone());
    }
    match args.mac {
        Some(_) => Ok(None),
        None => by_device(args, device).map(Some),
    }
}

/// By the name that was told, which may be an alternative one, or the name of the index.
fn by_device(args: &RuleAdd, device: &Device) -> Result<Locator> {
    let origin = Locator::Device(args.dev.as_ref().unwrap_or(&device.name).clone());
    check::origin("--dev", &origin)?;
    Ok(origin)
}

fn find(server: IpAddr, told: Option<Device>, args: &RuleAdd) -> Result<Resolution> {
    if args.mac.is_some() {
        let path = Resolved::find(server, told, args.mac, Probe::IfUnknown)?;
        return Ok(Resolution::by_hand(path));
    }
    Ok(match told {
        Some(device) => {
            let origin = by_device(args, &device)?;
            Resolution::by(origin, on_device(server, device, Probe::IfUnknown)?)
        }
        None => {
            let path = Resolved::find(server, None, None, Probe::IfUnknown)?;
            Resolution::by(Locator::Route, path)
        }
    })
}

/// Where the host can't tell now, what was known stays, as long as its device is there.
fn again(server: IpAddr, known: &Backend, before: Option<Device>) -> Result<Resolution> {
    let on = before.as_ref().filter(|_| is_link_local(server));
    let by_hand = on.map_or(Locator::Route, |device| {
        Locator::Device(device.name.clone())
    });
    let origin = known.origin.clone().unwrap_or(by_hand);
    match (
        locate(&origin, AddressHint::Exact(server), Probe::Always),
        before,
    ) {
        (Ok(path), _) => Ok(Resolution::by(origin, path)),
        (Err(error), Some(device)) => {
            let why = one_line(&error);
            view::warning(format_args!(
                "{server} stays as it was, for it was not found: {why}"
            ));
            Ok(Resolution {
                path: Resolved::told(server, device, known.mac),
                origin: known.origin.clone(),
                kept: true,
            })
        }
        (Err(error), None) => Err(error),
    }
}

fn told_device(args: &RuleAdd) -> Result<Option<Device>> {
    if let Some(name) = &args.dev {
        return device::by_name(name).map(Some);
    }
    let Some(ifindex) = args.ifindex else {
        return Ok(None);
    };
    device::by_index(ifindex)?.map(Some).ok_or_else(|| {
        failure(Exit::NotFound, format!("--ifindex {ifindex}: no such device in this network namespace; `ip link` lists them"))
    })
}
