//! `xdpredir rule`

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result};
use ipnet::{IpNet, Ipv4Net};

use crate::cli::{self, Global, RuleAdd, RuleDel};
use crate::datapath::{self, Pins, RuleStore};
use crate::error::{Exit, failure};
use crate::host::device::{self, Device};
use crate::host::route;
use crate::model::{Backend, Mac, Match, Mode, Rule};
use crate::show;
use crate::show::json::RuleRow;

pub fn run(global: &Global, verb: &cli::Rule) -> Result<()> {
    let pins = Pins::locate(global.pin_dir.as_deref())?;
    match verb {
        cli::Rule::Add(args) => add(global, &pins, args),
        cli::Rule::Del(args) => delete(global, &pins, args),
        cli::Rule::List => list(global, &pins),
    }
}

fn list(global: &Global, pins: &Pins) -> Result<()> {
    let Some(_lock) = pins.lock_shared()? else {
        return Err(pins.not_attached());
    };
    let rows = RuleRow::all(&RuleStore::open(pins)?)?;
    if global.json {
        return show::json::print(&rows);
    }
    print!("{}", show::table::rules(&rows));
    Ok(())
}

fn add(global: &Global, pins: &Pins, args: &RuleAdd) -> Result<()> {
    let matches = matches(&args.matches)?;
    let server = server(args.server)?;
    let _lock = pins.lock()?;
    let store = RuleStore::open(pins)?;

    let mut rule = store.get(&matches)?.unwrap_or(Rule {
        matches,
        backends: Vec::new(),
    });
    let known = rule.backend(server).cloned();
    let most = usize::from(u8::MAX);
    if known.is_none() && rule.backends.len() == most {
        return Err(failure(
            Exit::Failed,
            format!("{matches}: has {most} backends already, the most of a rule"),
        ));
    }
    let path = Path::find(server, args, known.as_ref())?;
    let source_mac = path.device.require_ethernet()?;
    let completes_checksum = path.device.completes_checksum()?;

    store
        .open_egress(path.device.ifindex)
        .with_context(|| format!("device {}", path.device.name))?;
    let backend = Backend {
        server,
        mac: path.mac,
        source_mac,
        ifindex: path.device.ifindex,
        weight: args
            .weight
            .or(known.as_ref().map(|backend| backend.weight))
            .unwrap_or(1),
        completes_checksum,
        counter: match &known {
            Some(backend) => backend.counter,
            None => store.new_counter()?,
        },
    };
    let warning = silent_loss(pins, &path.device)?;
    rule.put(backend.clone());
    store.put(&rule)?;

    if let Some(warning) = warning {
        eprintln!("xdpredir: warning: {warning}");
    }
    let row = RuleRow::new(&rule, &backend, store.counter(&backend)?);
    if global.json {
        return show::json::print(&row);
    }
    let verb = if known.is_some() { "updated" } else { "added" };
    println!(
        "{verb} {} -> {server} {} via {} weight {}",
        rule.matches, row.mac, path.device.name, row.weight
    );
    path.found.iter().for_each(|found| println!("  {found}"));
    Ok(())
}

/// In native mode, a device whose driver takes no redirected frames loses every packet, and nothing
/// a user looks at says so.
fn silent_loss(pins: &Pins, egress: &Device) -> Result<Option<String>> {
    let native = datapath::interfaces(pins)?
        .into_iter()
        .find(|i| i.mode == Mode::Native);
    let Some(native) = native.filter(|_| datapath::redirects_into(egress) == Some(false)) else {
        return Ok(None);
    };
    let mend = if egress.is_veth() {
        "switch GRO on at its peer (`ethtool -K DEV gro on` in the peer's namespace), or "
    } else {
        ""
    };
    let (egress, native) = (&egress.name, native.name());
    Ok(Some(format!(
        "{egress} takes no packets that {native} redirects in native mode, they would be lost: {mend}attach {native} with --mode skb"
    )))
}

fn delete(global: &Global, pins: &Pins, args: &RuleDel) -> Result<()> {
    let matches = matches(&args.matches)?;
    let server = args.server.map(server).transpose()?;
    let _lock = pins.lock()?;
    let store = RuleStore::open(pins)?;

    let deleted = if args.all {
        let all = store.list()?;
        store.delete_all(&all)?;
        all.iter().map(|rule| rule.backends.len()).sum()
    } else {
        delete_one(&store, &matches, server)?
    };
    if deleted == 0 && !args.if_exists {
        let what = match (args.all, server) {
            (true, _) => "there are no rules".into(),
            (_, Some(server)) => format!("no backend {server} in the rule {matches}"),
            _ => format!("no rule {matches}"),
        };
        return Err(failure(
            Exit::NotFound,
            format!("{what}; `xdpredir rule list` shows what there is"),
        ));
    }
    if global.json {
        return show::json::print(&serde_json::json!({ "deleted": deleted }));
    }
    let backends = if deleted == 1 { "backend" } else { "backends" };
    let of = if args.all {
        "all rules".into()
    } else {
        matches.to_string()
    };
    println!("deleted {deleted} {backends} of {of}");
    Ok(())
}

/// How many backends went: one, or all of a rule.
fn delete_one(store: &RuleStore, matches: &Match, server: Option<Ipv4Addr>) -> Result<usize> {
    let Some(mut rule) = store.get(matches)? else {
        return Ok(0);
    };
    let Some(server) = server else {
        store.delete(&rule)?;
        return Ok(rule.backends.len());
    };
    let whole = rule.clone();
    let Some(gone) = rule.remove(server) else {
        return Ok(0);
    };
    if rule.backends.is_empty() {
        store.delete(&whole)?;
    } else {
        store.put(&rule)?;
        store.delete_counter(&gone)?;
    }
    Ok(1)
}

fn matches(args: &cli::Match) -> Result<Match> {
    let src = match args.src {
        None => Ipv4Net::default(),
        Some(IpNet::V4(src)) => src,
        Some(IpNet::V6(src)) => return Err(no_ipv6("--src", &src)),
    };
    Ok(Match {
        proto: args.proto,
        port: args.port,
        src,
    })
}

fn server(addr: IpAddr) -> Result<Ipv4Addr> {
    match addr {
        IpAddr::V6(addr) => Err(no_ipv6("--server", &addr)),
        IpAddr::V4(addr)
            if addr.is_unspecified()
                || addr.is_loopback()
                || addr.is_multicast()
                || addr.is_broadcast() =>
        {
            Err(failure(
                Exit::Usage,
                format!("--server {addr}: not the unicast address of another host"),
            ))
        }
        IpAddr::V4(addr) => Ok(addr),
    }
}

fn no_ipv6(flag: &str, addr: &dyn std::fmt::Display) -> anyhow::Error {
    failure(
        Exit::Unsupported,
        format!("{flag} {addr}: IPv6 is not supported yet: give an IPv4 address"),
    )
}

/// The way to a backend, as told on the command line, as it was, or as the host knows it.
struct Path {
    device: Device,
    mac: Mac,
    /// What was found rather than told.
    found: Vec<String>,
}

impl Path {
    fn find(server: Ipv4Addr, args: &RuleAdd, known: Option<&Backend>) -> Result<Self> {
        let told = told_device(args)?;
        if let Some(known) = known
            && let Some(device) = told.clone().or(device::by_index(known.ifindex)?)
            && (args.mac.is_some() || device.ifindex == known.ifindex)
        {
            return Ok(Path {
                device,
                mac: args.mac.unwrap_or(known.mac),
                found: Vec::new(),
            });
        }
        match (told, args.mac) {
            (Some(device), Some(mac)) => Ok(Path {
                device,
                mac,
                found: Vec::new(),
            }),
            (told, mac) => Path::from_host(server, told, mac),
        }
    }

    fn from_host(server: Ipv4Addr, told: Option<Device>, mac: Option<Mac>) -> Result<Self> {
        let mut found = Vec::new();
        let hop = route::next_hop(server)?.ok_or_else(|| {
            failure(
                Exit::NotFound,
                format!("--server {server}: the host has no route to it: give --mac and --dev"),
            )
        })?;
        let on = device::by_index(hop.ifindex)?
            .with_context(|| format!("the device of the route to {server} is gone"))?;
        let mac = match mac {
            Some(mac) => mac,
            None => {
                let mac = route::neighbour(hop.addr, hop.ifindex)?.ok_or_else(|| {
                    let addr = hop.addr;
                    failure(
                        Exit::NotFound,
                        format!("--server {server}: no MAC address of {addr} in the neighbour table: `ping -c1 {addr}` fills it, or give --mac"),
                    )
                })?;
                found.push(format!(
                    "mac {mac}: the neighbour table has it for {} on {}",
                    hop.addr, on.name
                ));
                mac
            }
        };
        let device = match told {
            Some(device) => device,
            None => egress(server, on, mac, &mut found)?,
        };
        Ok(Path { device, mac, found })
    }
}

/// The route's device or, where that is a bridge, the port behind which the MAC is.
fn egress(server: Ipv4Addr, on: Device, mac: Mac, found: &mut Vec<String>) -> Result<Device> {
    if !on.is_bridge() {
        found.push(format!(
            "dev {} (ifindex {}): the route to {server} has it",
            on.name, on.ifindex
        ));
        return Ok(on);
    }
    let port = device::bridge_port(on.ifindex, mac)?
        .map(device::by_index)
        .transpose()?
        .flatten();
    let port = port.ok_or_else(|| {
        failure(
            Exit::NotFound,
            format!("--server {server}: bridge {} has not seen {mac} on a port yet: `ping -c1 {server}` shows it, or give --dev", on.name),
        )
    })?;
    found.push(format!(
        "dev {} (ifindex {}): bridge {} has seen {mac} there",
        port.name, port.ifindex, on.name
    ));
    Ok(port)
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
