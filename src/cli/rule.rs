//! `xdpredir rule`

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::ExitCode;

use anyhow::{Context, Result};
use serde::Serialize;

use super::find::{self, Resolution};
use super::grammar::{self, Filter, Global, RuleAdd, RuleDel};
use super::{filter, load, refresh, rows, warnings};
use xdpredir::control::validate as check;
use xdpredir::datapath::{self, Lock, Pins, RuleStore};
use xdpredir::doctor;
use xdpredir::doctor::checks;
use xdpredir::error::{Exit, failure};
use xdpredir::model::{
    Adjacency, Backend, Finding, Match, Prefix, Rewrite, Rewriting, Rule, Weight,
};
use xdpredir::view;
use xdpredir::view::json::RuleRow;

pub fn run(global: &Global, verb: &grammar::Rule) -> Result<ExitCode> {
    let pins = datapath::locate(global.pin_dir.as_deref())?;
    match verb {
        grammar::Rule::Add(args) => add(global, &pins, args)?,
        grammar::Rule::Del(args) => delete(global, &pins, args)?,
        grammar::Rule::List(args) => list(global, &pins, args)?,
        grammar::Rule::Refresh(args) => return refresh::run(global, &pins, args),
        grammar::Rule::Load { file } => load::run(global, &pins, file)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn list(global: &Global, pins: &Pins, meant: &Filter) -> Result<()> {
    let rows = datapath::read(pins, || rows::of(&RuleStore::open(pins)?, meant))?;
    let rows = rows.ok_or_else(|| datapath::not_attached(pins))?;
    filter::require(meant, &rows)?;
    if global.json {
        return view::json::print(&rows);
    }
    view::text(view::table::rules(&rows))?;
    Ok(())
}

fn add(global: &Global, pins: &Pins, args: &RuleAdd) -> Result<()> {
    args.server.map(server).transpose()?;
    find::require_way(args)?;
    let in_namespace = find::in_namespace(args)?;
    let found = in_namespace.as_ref().map(|found| found.path.server);
    let server = server(found.or(args.server).context("--server is missing")?)?;
    let matches = matches(&args.matches, server)?;
    let rewriting = rewriting(&args.rewrite, server)?;
    // Before the lock is taken: who is asked may take seconds to answer.
    let found = match in_namespace {
        Some(found) => found,
        None => {
            let known = known(pins, &matches, server)?;
            find::path(server, args, rewriting.is_some(), known.as_ref())?
        }
    };
    let lock = Lock::take(pins)?;
    let store = RuleStore::open(pins)?;

    let mut rule = store.get(&matches)?.unwrap_or(Rule::new(matches));
    let known = rule.backend(server).cloned();
    let most = usize::from(u8::MAX);
    if known.is_none() && rule.backends.len() == most {
        return Err(failure(
            Exit::Failed,
            format!("{matches}: has {most} backends already, the most of a rule"),
        ));
    }
    require_room(&store, &rule, &found, rewriting)?;
    let path = &found.path;
    let mut backend = backend(&store, args, &mut rule, &found)?;
    rule.put(backend.clone());
    if let Some(rewriting) = rewriting {
        rule.set_rewriting(server, rewriting);
        backend.rewrite = rewriting.backend;
    }
    store.put(&rule)?;
    // What follows only looks, and may take a while.
    drop(lock);

    let setup = doctor::of_backend(pins, &store, &rule, &backend);
    let warnings = warnings::say(global, setup.map(|setup| checks::of_backend(&setup)));
    let row = rows::one(&store, &rule, &backend)?;
    if global.json {
        return view::json::print(&Added { row, warnings });
    }
    let verb = if known.is_some() { "updated" } else { "added" };
    let rewriting = view::table::rewriting(&row);
    let rewriting = Some(rewriting).filter(|words| !words.is_empty());
    view::sentence(format_args!(
        "{verb} {matches} -> {server} {} via {} weight {}{}",
        backend.mac,
        path.device.name,
        backend.weight,
        rewriting.map_or_else(String::new, |words| format!(" {words}")),
    ))?;
    path.found
        .iter()
        .try_for_each(|found| view::sentence(format_args!("  {found}")))?;
    if known.is_none() && !answers_are_warned_of(warnings.as_deref()) {
        hint_at_answers(&rule, &backend)?;
    }
    Ok(())
}

fn answers_are_warned_of(warnings: Option<&[Finding]>) -> bool {
    let mut all = warnings.unwrap_or_default().iter();
    all.any(|finding| finding.check == checks::REPLY_SOURCE)
}

/// Many senders want no answer, so that it is no warning.
fn hint_at_answers(rule: &Rule, backend: &Backend) -> Result<()> {
    if backend.rewrite.keep_ip || rule.snat.is_some() {
        return Ok(());
    }
    let server = backend.server;
    view::sentence(format_args!(
        "  answers come from {server} itself: for clients that refuse those, see --keep-ip"
    ))
}

#[derive(Serialize)]
struct Added {
    #[serde(flatten)]
    row: RuleRow,
    warnings: Option<Vec<Finding>>,
}

fn known(pins: &Pins, matches: &Match, server: IpAddr) -> Result<Option<Backend>> {
    let rule = datapath::read(pins, || RuleStore::open(pins)?.get(matches))?;
    let rule = rule.ok_or_else(|| datapath::not_attached(pins))?;
    Ok(rule.and_then(|rule| rule.backend(server).cloned()))
}

/// That the rule finds room with the backend, before the first change.
fn require_room(
    store: &RuleStore,
    rule: &Rule,
    found: &Resolution,
    rewriting: Option<Rewriting>,
) -> Result<()> {
    let path = &found.path;
    let mut rule = rule.clone();
    let known = rule.backend(path.server);
    let rewrite = known.map(|known| known.rewrite).unwrap_or_default();
    rule.put(Backend {
        server: path.server,
        mac: path.mac,
        source_mac: path.mac,
        ifindex: path.device.ifindex,
        weight: Weight::default(),
        completes_checksum: false,
        rewrite,
        counter: 0,
        origin: found.origin.clone(),
    });
    if let Some(rewriting) = rewriting {
        rule.set_rewriting(path.server, rewriting);
    }
    store.require_room(&rule)?;
    store.require_egress(&BTreeSet::from([path.device.ifindex]))
}

/// The backend of the rule as it is to be, its device open to redirects and its counter there.
fn backend(
    store: &RuleStore,
    args: &RuleAdd,
    rule: &mut Rule,
    found: &Resolution,
) -> Result<Backend> {
    let path = &found.path;
    let device = &path.device;
    let source_mac = device.require_source_mac()?;
    let completes_checksum = device.completes_checksum()?;
    store
        .open_egress(device.ifindex, &mut rule.backends)
        .with_context(|| format!("device {}", device.name))?;
    let known = rule.backend(path.server);
    let backend = Backend {
        server: path.server,
        mac: path.mac,
        source_mac,
        ifindex: device.ifindex,
        weight: args
            .weight
            .or(known.map(|known| known.weight))
            .unwrap_or_default(),
        completes_checksum,
        rewrite: known.map(|known| known.rewrite).unwrap_or_default(),
        counter: match known {
            Some(known) => known.counter,
            None => store.new_counter()?,
        },
        origin: found.origin.clone(),
    };
    Ok(match known.filter(|_| found.kept) {
        Some(known) => kept(known, backend, args),
        None => backend,
    })
}

/// With the way to it as it is by now: another run may have found a new one meanwhile.
fn kept(known: &Backend, mut backend: Backend, args: &RuleAdd) -> Backend {
    if known.ifindex != backend.ifindex {
        backend = Adjacency::of(known).given_to(&backend);
    }
    backend.mac = args.mac.unwrap_or(known.mac);
    if !find::tells_locator(known, args) {
        backend.origin = known.origin.clone();
    }
    backend
}

fn delete(global: &Global, pins: &Pins, args: &RuleDel) -> Result<()> {
    let server = args.server.map(server).transpose()?;
    let candidates = candidates(&args.matches, server)?;
    if args.if_exists && !datapath::has_state(pins)? {
        return report_deleted(global, 0, args, &candidates[..1]);
    }
    let _lock = Lock::take(pins)?;
    let store = RuleStore::open(pins)?;

    let mut named = Vec::new();
    let deleted = if args.all {
        let all = store.list()?;
        store.delete_all(&all)?;
        all.iter().map(|rule| rule.backends.len().max(1)).sum()
    } else {
        let mut deleted = 0;
        for matches in &candidates {
            let of_this = delete_one(&store, matches, server)?;
            if of_this > 0 {
                named.push(*matches);
            }
            deleted += of_this;
        }
        deleted
    };
    if named.is_empty() {
        named.push(candidates[0]);
    }
    let matches = &candidates[0];
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
    report_deleted(global, deleted, args, &named)
}

/// The matches that are meant: where neither source nor server tells the family, both.
fn candidates(args: &grammar::Match, server: Option<IpAddr>) -> Result<Vec<Match>> {
    if let (None, None) = (args.src, server) {
        let families = [
            IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        ];
        return families.iter().map(|&any| matches(args, any)).collect();
    }
    let of = server.or(args.src.map(|src| src.addr()));
    Ok(vec![matches(
        args,
        of.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
    )?])
}

fn report_deleted(global: &Global, deleted: usize, args: &RuleDel, rules: &[Match]) -> Result<()> {
    if global.json {
        return view::json::print(&serde_json::json!({ "deleted": deleted }));
    }
    let backends = view::count(deleted, "backend");
    let of = if args.all {
        "all rules".into()
    } else {
        let rules: Vec<String> = rules.iter().map(Match::to_string).collect();
        rules.join(" and ")
    };
    view::sentence(format_args!("deleted {backends} of {of}"))
}

/// How many backends went: one, or all of a rule.
fn delete_one(store: &RuleStore, matches: &Match, server: Option<IpAddr>) -> Result<usize> {
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
        store.put_without(&rule, &[gone])?;
    }
    Ok(1)
}

fn matches(args: &grammar::Match, server: IpAddr) -> Result<Match> {
    let src = args.src.unwrap_or(Prefix::any_like(server));
    check::source("--src", *src, server)?;
    Ok(Match {
        proto: args.proto,
        port: args.port,
        vlan: args.vlan,
        src,
    })
}

fn server(addr: IpAddr) -> Result<IpAddr> {
    check::server("--server", addr)?;
    Ok(addr)
}

/// None where nothing of it was given.
fn rewriting(args: &grammar::Rewrite, server: IpAddr) -> Result<Option<Rewriting>> {
    if let Some(snat) = args.snat {
        check::snat("--snat", snat, server)?;
    }
    let decrement_ttl = match (args.keep_ttl, args.decrement_ttl) {
        (false, false) => None,
        (keeps, _) => Some(!keeps),
    };
    let rewriting = Rewriting {
        backend: Rewrite {
            to_port: args.to_port,
            keep_ip: args.keep_ip,
            push_vlan: args.push_vlan,
            pop_vlan: args.pop_vlan,
        },
        snat: args.snat,
        decrement_ttl,
    };
    Ok(Some(rewriting).filter(|given| *given != Rewriting::default()))
}
