//! Tables of rules and their backends.

use super::columns::Columns;
use super::style::Tone;
use super::table::is_marked;
use super::units;
use crate::model::{ActionKind, BackendState, HashOf, Pops, Proto, Reply, RuleRecord, TooLong};

/// One backend a row.
pub fn table(rows: &[RuleRecord]) -> String {
    if rows.is_empty() {
        return "no rules\n".into();
    }
    let is_rewritten = rows.iter().any(|row| !rewriting(row).is_empty());
    let has_state = rows.iter().any(|row| row.state != BackendState::Up);
    with_match(Columns::of(rows), rows)
        .text("server", |row| or_dash(row.server))
        .text("mac", |row| or_dash(row.mac))
        .text("device", |row| or_dash(row.device()))
        .color(is_marked)
        .number("weight", |row| or_dash(row.server.map(|_| row.weight)))
        .number("packets", |row| units::number(row.forward_packages as f64))
        .number("bytes", |row| units::bytes(row.forward_bytes as f64))
        .when(rows.iter().any(|row| row.lost() > 0), |table| {
            let lost = |row: &RuleRecord| units::number(row.lost() as f64);
            table.number("lost", lost).color(is_lost)
        })
        .when(has_state, |table| {
            table
                .text("state", |row| row.state.to_string())
                .color(is_not_up)
        })
        .when(is_rewritten, |table| table.text("rewriting", rewriting))
        .lines(&["mac", "weight", "bytes"])
}

impl AsRef<RuleRecord> for RuleRecord {
    fn as_ref(&self) -> &RuleRecord {
        self
    }
}

/// What rules match, and their actions; of what few rules say, a column only where some rule says it.
pub(super) fn with_match<'a, T: AsRef<RuleRecord>>(
    table: Columns<'a, T>,
    rows: &[T],
) -> Columns<'a, T> {
    let any = |says: fn(&RuleRecord) -> bool| rows.iter().any(|row| says(row.as_ref()));
    let has_interface = any(|row| row.in_ifindex.is_some());
    let has_dst = any(|row| row.matches().dst.prefix_len() > 0);
    let has_action = any(|row| row.action != ActionKind::Redirect);
    table
        .when(has_interface, |table| {
            table
                .text("in", |row| {
                    let interface = row.as_ref().interface();
                    interface.unwrap_or_else(|| "any".into())
                })
                .color(is_marked)
        })
        .when(has_dst, |table| {
            table.text("destination", |row| row.as_ref().matches().dst.to_string())
        })
        .text("source", |row| row.as_ref().src.to_string())
        .text("port", |row| port(row.as_ref()))
        .when(has_action, |table| {
            table.text("action", |row| row.as_ref().action.to_string())
        })
}

pub(super) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".into(), |value| value.to_string())
}

/// Where nothing is lost, or that is not known, the cell has no colour.
pub(super) fn is_lost(number: &str) -> Option<Tone> {
    (!["", "0"].contains(&number)).then_some(Tone::Bad)
}

/// What somebody has chosen is nothing bad.
fn is_not_up(state: &str) -> Option<Tone> {
    match state {
        "up" => None,
        "draining" => Some(Tone::Doubtful),
        _ => Some(Tone::Bad),
    }
}

/// udp/53, tcp/7000-7010, udp/any, icmp; with tags, udp/53@5 or udp/53@5.6.
fn port(row: &RuleRecord) -> String {
    let proto = match row.proto {
        Proto::Icmp | Proto::Any if row.port.is_any() => row.proto.to_string(),
        proto => format!("{proto}/{}", row.port),
    };
    match (row.vlan, row.inner_vlan) {
        (None, None) => proto,
        (vlan, None) => format!("{proto}@{}", or_dash(vlan)),
        (vlan, Some(inner)) => format!("{proto}@{}.{inner}", or_dash(vlan)),
    }
}

/// The action of a rule without backends, in the words of the command line.
pub fn action(row: &RuleRecord) -> String {
    let device = row.device().map(|device| format!(" {device}"));
    let mac = row.mac.map(|mac| format!(" mac {mac}"));
    let too_long = too_long(row).map(|words| format!(" {words}"));
    let words = [device, mac, too_long].into_iter().flatten();
    row.action.to_string() + &words.collect::<String>()
}

fn too_long(row: &RuleRecord) -> Option<String> {
    let choice = row.too_long;
    (choice != TooLong::default()).then(|| format!("too-long {choice}"))
}

/// The rewriting that is not the default, in the words of the command line.
pub fn rewriting(row: &RuleRecord) -> String {
    let words = [
        row.to_port.map(|port| format!("to-port {port}")),
        snat(row),
        row.keep_ip.then(|| "keep-ip".into()),
        (row.reply == Some(Reply::Nat)).then(|| "reply nat".into()),
        row.sticky.then(|| "sticky".into()),
        row.announce.then(|| "announce".into()),
        (row.hash != HashOf::default()).then(|| format!("hash {}", row.hash)),
        (row.server.is_some() && !row.decrement_ttl).then(|| "keep-ttl".into()),
        row.pops().and_then(pop_vlan),
        row.push_vlan.map(|vlan| format!("push-vlan {vlan}")),
        too_long(row),
    ];
    let words: Vec<String> = words.into_iter().flatten().collect();
    words.join(" ")
}

/// An address that was found is named, too.
fn snat(row: &RuleRecord) -> Option<String> {
    let addr = row.snat?;
    Some(match row.snat_auto {
        true => format!("snat auto ({addr})"),
        false => format!("snat {addr}"),
    })
}

fn pop_vlan(pops: Pops) -> Option<String> {
    match pops.get() {
        0 => None,
        1 => Some("pop-vlan".into()),
        _ => Some("pop-vlan twice".into()),
    }
}
