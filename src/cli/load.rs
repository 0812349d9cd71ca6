//! `xdpredir rule load`

use std::collections::hash_map::Entry::{Occupied, Vacant};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{Read, stderr};
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use serde::de::{Error as _, IgnoredAny};
use serde::{Deserialize, Deserializer, Serialize};

use super::grammar::Global;
use super::warnings;
use xdpredir::control::validate as check;
use xdpredir::datapath::{Lock, Pins, RuleStore};
use xdpredir::doctor::Sample;
use xdpredir::doctor::checks;
use xdpredir::error::{Exit, exit_code, failure};
use xdpredir::host::device;
use xdpredir::model::{
    Backend, Finding, Locator, Mac, Match, Port, Prefix, Proto, Rewrite, Rule, VlanId, Weight,
};
use xdpredir::view;

/// A backend of a rule, as `rule list --json` has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct Line {
    src: Prefix,
    proto: Proto,
    port: Port,
    server: IpAddr,
    mac: String,
    ifindex: u32,
    #[serde(default)]
    weight: Weight,
    vlan: Option<VlanId>,
    #[serde(default, deserialize_with = "to_port")]
    to_port: Option<Port>,
    snat: Option<IpAddr>,
    #[serde(default)]
    keep_ip: bool,
    #[serde(default = "yes")]
    decrement_ttl: bool,
    #[serde(default, deserialize_with = "push_vlan")]
    push_vlan: Option<VlanId>,
    #[serde(default)]
    pop_vlan: bool,
    // Listed beside, and of no account here.
    ifname: Option<String>,
    #[serde(default, rename = "forward_packages")]
    _packages: IgnoredAny,
    #[serde(default, rename = "forward_bytes")]
    _bytes: IgnoredAny,
    #[serde(default, rename = "delivered")]
    _delivered: IgnoredAny,
    #[serde(default, rename = "failures")]
    _failures: IgnoredAny,
    #[serde(default, rename = "state")]
    _state: IgnoredAny,
    /// `rule add --json` has them.
    #[serde(default, rename = "warnings")]
    _warnings: IgnoredAny,
    origin: Option<String>,
}

fn to_port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Port>, D::Error> {
    number("to_", deserializer)
}

fn push_vlan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<VlanId>, D::Error> {
    number("push_", deserializer)
}

/// Reads a number whose key has a word before that of its type, so that an error names the key.
fn number<'de, D, T>(word: &str, deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<u64, Error = String>,
{
    let number = Option::<u64>::deserialize(deserializer)?;
    let number = number.map(T::try_from).transpose();
    number.map_err(|why| D::Error::custom(format!("{word}{why}")))
}

fn yes() -> bool {
    true
}

pub fn run(global: &Global, pins: &Pins, file: &Path) -> Result<()> {
    let text = read(file)?;
    let rules = rules(&text, file)?;
    drop(text);
    let sample = Sample::of(&rules);
    let lock = Lock::take(pins)?;
    let store = RuleStore::open(pins)?;
    let total = rules.len();
    let progress = progress(total)?;
    store
        .load(rules, |done| progress.set_position(done as u64))
        .map_err(|error| {
            let file = file.display();
            match progress.position() {
                0 => error.context(format!("{file}")),
                done => error.context(format!("{file}: after {done} of {total} rules")),
            }
        })?;
    progress.finish_and_clear();
    drop(lock);
    let warnings = warn(global, pins, sample);
    if global.json {
        return view::json::print(&Loaded {
            loaded: total,
            warnings,
        });
    }
    view::line(format_args!("loaded {}", view::count(total, "rule")))
}

#[derive(Serialize)]
struct Loaded {
    loaded: usize,
    warnings: Option<Vec<Finding>>,
}

/// As `rule add` does, for rules that stand for all.
fn warn(global: &Global, pins: &Pins, sample: Sample) -> Option<Vec<Finding>> {
    let left_out = sample.left_out;
    let found = sample.setup(pins).map(|setup| checks::of_backend(&setup));
    let warnings = warnings::say(global, found);
    if left_out > 0 {
        let rules = view::count(left_out, "rule");
        let text = format!(
            "the backends of {rules} were not checked, so many there are: `xdpredir doctor` checks all"
        );
        view::warning(super::paste::complete(global, &text));
    }
    warnings
}
/// On standard error, and only on a terminal that can draw it.
fn progress(total: usize) -> Result<ProgressBar> {
    // A bar on two lines could not be drawn over.
    let template = match view::terminal::width(&stderr()) {
        Some(..WIDE_ENOUGH) => "{human_pos} of {human_len} rules",
        _ => "{bar:40} {human_pos} of {human_len} rules",
    };
    let style = ProgressStyle::with_template(template)?;
    Ok(ProgressBar::new(total as u64).with_style(style))
}

/// For a bar beside two numbers of up to a million.
const WIDE_ENOUGH: u16 = 72;

fn read(file: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    if file == Path::new("-") {
        std::io::stdin()
            .read_to_end(&mut bytes)
            .context("cannot read standard input")?;
    } else {
        bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    }
    String::from_utf8(bytes).map_err(|_| bad(format!("{}: not UTF-8", file.display())))
}

/// With the number of each: of its line or, in an array, of the rule.
fn lines(text: &str, file: &Path) -> Result<(&'static str, Vec<(usize, Line)>)> {
    let wrong = |line: usize, error: serde_json::Error| {
        let text = error.to_string();
        let what = text
            .rsplit_once(" at line ")
            .map_or(text.as_str(), |split| split.0);
        let column = error.column();
        bad(format!(
            "{}, line {line}, column {column}: {what}",
            file.display()
        ))
    };
    if text.trim_start().starts_with('[') {
        let all: Vec<Line> =
            serde_json::from_str(text).map_err(|error| wrong(error.line(), error))?;
        return Ok(("rule", (1..).zip(all).collect()));
    }
    let lines = (1..).zip(text.lines());
    let lines = lines.filter(|(_, line)| !line.trim().is_empty());
    let parse = |(number, line)| match serde_json::from_str(line) {
        Ok(line) => Ok((number, line)),
        Err(error) => Err(wrong(number, error)),
    };
    Ok(("line", lines.map(parse).collect::<Result<_>>()?))
}

/// All of the file, checked.
fn rules(text: &str, file: &Path) -> Result<Vec<Rule>> {
    let mut devices = HashMap::new();
    let mut rules: BTreeMap<Match, Rule> = BTreeMap::new();
    let (noun, lines) = lines(text, file)?;
    for (number, line) in lines {
        let wrong = |error: anyhow::Error| {
            let why = xdpredir::error::one_line(&error);
            failure(
                exit_code(&error),
                format!("{}, {noun} {number}: {why}", file.display()),
            )
        };
        let matches = matches(&line).map_err(wrong)?;
        let device = device_of(&mut devices, line.ifindex).map_err(wrong)?;
        let backend = backend(&line, device).map_err(wrong)?;
        let rule = rules.entry(matches).or_insert(Rule::new(matches));
        if rule.backend(backend.server).is_some() {
            let server = backend.server;
            return Err(wrong(bad(format!("{matches} -> {server}: a second time"))));
        }
        agree(rule, &line).map_err(wrong)?;
        rule.put(backend);
        if rule.backends.len() > usize::from(u8::MAX) {
            return Err(wrong(bad(format!("{matches}: more than 255 backends"))));
        }
    }
    Ok(rules.into_values().collect())
}

fn bad(message: String) -> anyhow::Error {
    failure(Exit::Usage, message)
}

fn matches(line: &Line) -> Result<Match> {
    check::source("src", *line.src, line.server)?;
    Ok(Match {
        proto: line.proto,
        port: line.port,
        vlan: line.vlan,
        src: line.src,
    })
}

/// What the host says about an egress device, asked once.
struct Egress {
    name: String,
    source_mac: Mac,
    completes_checksum: bool,
}

fn device_of(known: &mut HashMap<u32, Egress>, ifindex: u32) -> Result<&Egress> {
    match known.entry(ifindex) {
        Occupied(egress) => Ok(egress.into_mut()),
        Vacant(new) => Ok(new.insert(look_up(ifindex)?)),
    }
}

fn look_up(ifindex: u32) -> Result<Egress> {
    let device = device::by_index(ifindex)?.ok_or_else(|| {
        failure(
            Exit::NotFound,
            format!("ifindex {ifindex}: no such device in this network namespace"),
        )
    })?;
    Ok(Egress {
        source_mac: device.require_source_mac()?,
        completes_checksum: device.completes_checksum()?,
        name: device.name,
    })
}

fn backend(line: &Line, egress: &Egress) -> Result<Backend> {
    check::server("server", line.server)?;
    if let Some(name) = line.ifname.as_ref().filter(|name| **name != egress.name) {
        let (ifindex, now) = (line.ifindex, &egress.name);
        return Err(bad(format!(
            "ifname {name}: ifindex {ifindex} is {now} now"
        )));
    }
    let rewrite = rewrite(line)?;
    if let Some(snat) = line.snat {
        check::snat("snat", snat, line.server)?;
    }
    let mac = line
        .mac
        .parse()
        .map_err(|error| bad(format!("mac {}: {error}", line.mac)))?;
    Ok(Backend {
        server: line.server,
        mac,
        source_mac: egress.source_mac,
        ifindex: line.ifindex,
        weight: line.weight,
        completes_checksum: egress.completes_checksum,
        rewrite,
        counter: 0,
        origin: line.origin.as_deref().map(origin).transpose()?,
    })
}

fn origin(text: &str) -> Result<Locator> {
    let origin = text
        .parse()
        .map_err(|error| bad(format!("origin {text:?}: {error}")))?;
    check::origin("origin", &origin)?;
    Ok(origin)
}

fn rewrite(line: &Line) -> Result<Rewrite> {
    if line.keep_ip && (line.to_port.is_some() || line.snat.is_some()) {
        return Err(bad(
            "keep_ip with to_port or snat: give the one or the other".into(),
        ));
    }
    Ok(Rewrite {
        to_port: line.to_port,
        keep_ip: line.keep_ip,
        push_vlan: line.push_vlan,
        pop_vlan: line.pop_vlan,
    })
}

/// Gives the rule what the line has of the rule as a whole, on which all of its lines must agree.
fn agree(rule: &mut Rule, line: &Line) -> Result<()> {
    let matches = rule.matches;
    let differ = |what| bad(format!("{matches}: backends with different {what}"));
    if !rule.backends.is_empty() && rule.decrement_ttl != line.decrement_ttl {
        return Err(differ("decrement_ttl"));
    }
    rule.decrement_ttl = line.decrement_ttl;
    if line.keep_ip {
        return Ok(());
    }
    if rule.backends.iter().any(|b| !b.rewrite.keep_ip) && rule.snat != line.snat {
        return Err(differ("snat"));
    }
    rule.snat = line.snat;
    Ok(())
}
