//! `xdpredir rule`

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result};
use ipnet::{IpNet, Ipv4Net};

use super::rows;
use crate::cli::{self, Global, RuleAdd, RuleDel};
use crate::datapath::{self, Interface, Pins, RuleStore};
use crate::error::{Exit, failure};
use crate::host::device::{self, Device};
use crate::host::path::Path;
use crate::model::{Backend, Match, Mode, Proto, Rule};
use crate::show;

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
    let rows = rows::all(&RuleStore::open(pins)?)?;
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
    let path = path(server, args, known.as_ref())?;
    let warnings = warnings(pins, &matches, &path.device)?;
    let backend = backend(&store, server, args, known.as_ref(), &path)?;
    rule.put(backend.clone());
    store.put(&rule)?;

    for warning in warnings {
        eprintln!("xdpredir: warning: {warning}");
    }
    if global.json {
        return show::json::print(&rows::one(&store, &rule, &backend)?);
    }
    let verb = if known.is_some() { "updated" } else { "added" };
    println!(
        "{verb} {matches} -> {server} {} via {} weight {}",
        backend.mac, path.device.name, backend.weight
    );
    path.found.iter().for_each(|found| println!("  {found}"));
    Ok(())
}

/// The backend as it is to be, its device open to redirects and its counter there.
fn backend(
    store: &RuleStore,
    server: Ipv4Addr,
    args: &RuleAdd,
    known: Option<&Backend>,
    path: &Path,
) -> Result<Backend> {
    let device = &path.device;
    let source_mac = device.require_source_mac()?;
    let completes_checksum = device.completes_checksum()?;
    store
        .open_egress(device.ifindex)
        .with_context(|| format!("device {}", device.name))?;
    Ok(Backend {
        server,
        mac: path.mac,
        source_mac,
        ifindex: device.ifindex,
        weight: args.weight.or(known.map(|known| known.weight)).unwrap_or(1),
        completes_checksum,
        counter: match known {
            Some(known) => known.counter,
            None => store.new_counter()?,
        },
    })
}

/// What would lose packets, or keep them from the backend, though nothing is wrong with the rule.
fn warnings(pins: &Pins, matches: &Match, egress: &Device) -> Result<Vec<String>> {
    let interfaces = datapath::interfaces(pins)?;
    let first = |mode| {
        interfaces
            .iter()
            .find(|i| i.mode == mode)
            .map(Interface::name)
    };
    let mut warnings = Vec::new();
    if !egress.up {
        warnings.push(format!(
            "{} is down: what is redirected to it is lost",
            egress.name
        ));
    }
    if let Some(native) = first(Mode::Native)
        && datapath::redirects_into(egress) == Some(false)
    {
        warnings.push(not_redirected_into(egress, &native));
    }
    if let Some(skb) = first(Mode::Skb)
        && matches.proto == Proto::Tcp
    {
        warnings.push(format!(
            "{skb} is in skb mode, where a local sender's segments arrive in bundles that no device carries, and pass: `ethtool -K DEV tso off gso off` at the sender"
        ));
    }
    Ok(warnings)
}

/// In native mode, a device whose driver takes no redirected frames loses every packet, and nothing
/// a user looks at says so.
fn not_redirected_into(egress: &Device, native: &str) -> String {
    let mend = if egress.is_veth() {
        "switch GRO on at its peer (`ethtool -K DEV gro on` in the peer's namespace), or "
    } else {
        ""
    };
    format!(
        "{} takes no packets that {native} redirects in native mode, they would be lost: {mend}attach {native} with --mode skb",
        egress.name
    )
}

fn delete(global: &Global, pins: &Pins, args: &RuleDel) -> Result<()> {
    let matches = matches(&args.matches)?;
    let server = args.server.map(server).transpose()?;
    if args.if_exists && !pins.has_state()? {
        return report_deleted(global, 0, args, &matches);
    }
    let _lock = pins.lock()?;
    let store = RuleStore::open(pins)?;

    let deleted = if args.all {
        let all = store.list()?;
        store.delete_all(&all)?;
        all.iter().map(|rule| rule.backends.len().max(1)).sum()
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
    report_deleted(global, deleted, args, &matches)
}

fn report_deleted(global: &Global, deleted: usize, args: &RuleDel, matches: &Match) -> Result<()> {
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
        return Ok(rule.backends.len().max(1));
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

/// The way to the backend: as told; for a backend that is there, as it was; else as the host knows it.
fn path(server: Ipv4Addr, args: &RuleAdd, known: Option<&Backend>) -> Result<Path> {
    let told = told_device(args)?;
    if let (Some(device), Some(mac)) = (&told, args.mac) {
        return Ok(Path::told(device.clone(), mac));
    }
    let before = match known {
        Some(known) => device::by_index(known.ifindex)?.map(|device| (device, known.mac)),
        None => None,
    };
    // Nothing but the server given: look again, for its MAC address may be another one now.
    let again = told.is_none() && args.mac.is_none() && args.weight.is_none();
    let same_device = |device: &Device| told.as_ref().is_none_or(|t| t.ifindex == device.ifindex);
    match before {
        Some((device, mac)) if !again && same_device(&device) => {
            Ok(Path::told(device, args.mac.unwrap_or(mac)))
        }
        Some((device, mac)) if again => {
            // Where the host can't tell now, what was known stays.
            Ok(Path::find(server.into(), None, None).unwrap_or_else(|_| Path::told(device, mac)))
        }
        _ => Path::find(server.into(), told, args.mac),
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
