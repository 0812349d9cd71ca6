//! What devices can do, for people.

use std::io::stdout;

use super::columns::Columns;
use super::escape::escape;
use super::style::Tone;
use super::terminal;
use crate::model::{FeatureSource, Features, Offloads, Peer, Related, XdpFeatures};

/// Of kernels before 6.3.
pub const GUESSED: &str = "this kernel (before Linux 6.3) doesn't tell what drivers do with XDP, which is \
                           guessed from drivers and peers, and redirects no frame in several buffers natively";

/// Two tables: what the devices do with XDP, and what they are connected to.
pub fn table(all: &[Features]) -> String {
    let mut text = format!("{}\n{}", xdp_table(all), device_table(all));
    if all.iter().any(is_guess) {
        text += &format!("\n{}\n", terminal::fit(GUESSED, 0, stdout()));
    }
    text
}

/// All that is known, one device a block.
pub fn listing(all: &[Features]) -> String {
    let blocks: Vec<String> = all.iter().map(block).collect();
    blocks.join("\n")
}

fn xdp_table(all: &[Features]) -> String {
    let mut table = Columns::new(&[
        "device",
        "driver",
        "mtu",
        "native",
        "redirect-to",
        "multi-buffer",
        "zero-copy",
    ]);
    for features in all {
        let xdp = &features.xdp;
        table.add([
            features.ifname.clone(),
            driver(features),
            features.mtu.to_string(),
            native(xdp).into(),
            answer(xdp.redirect_target).into(),
            multi_buffer(xdp),
            answer(xdp.zero_copy).into(),
        ]);
    }
    let dispensable = ["mtu", "driver", "zero-copy", "multi-buffer"];
    table.text(&["mtu"], &dispensable)
}

fn device_table(all: &[Features]) -> String {
    let mut table = Columns::new(&["device", "link", "offloads", "connections"]);
    for features in all {
        let mut connections = connections(features).into_iter();
        table.add([
            features.ifname.clone(),
            link(features.up).into(),
            join(minded(&features.offloads).filter(|(_, on)| *on == Some(true))),
            or_dash(connections.next().unwrap_or_default()),
        ]);
        let nothing = String::new;
        connections.for_each(|further| table.add([nothing(), nothing(), nothing(), further]));
    }
    table.color("link", |link| (link == "down").then_some(Tone::Doubtful));
    table.text(&[], &["offloads"])
}

fn block(features: &Features) -> String {
    let xdp = &features.xdp;
    let mut lines = vec![
        ("driver", full_driver(features)),
        ("link", full_link(features)),
        ("native XDP", native_in_words(xdp).into()),
        ("redirect to it", redirect_target(features)),
        ("multi-buffer", multi_buffer(xdp)),
        ("zero-copy", answer(xdp.zero_copy).into()),
    ];
    lines.extend(offloads(&features.offloads));
    let connections = connections(features).into_iter();
    lines.extend(connections.map(|connection| ("connection", connection)));
    if is_guess(features) {
        lines.push(("guessed", GUESSED.into()));
    }
    let columns = terminal::width(&stdout()).map(usize::from);
    let line = |(name, value): &(&str, String)| {
        terminal::entry(&format!("  {name}"), &escape(value), 18, columns) + "\n"
    };
    let lines = lines.iter().map(line);
    let title = format!(
        "{} (ifindex {})\n",
        escape(&features.ifname),
        features.ifindex
    );
    std::iter::once(title).chain(lines).collect()
}

fn is_guess(features: &Features) -> bool {
    features.xdp.source == FeatureSource::Guess
}

fn answer(known: Option<bool>) -> &'static str {
    match known {
        Some(true) => "yes",
        Some(false) => "no",
        None => "?",
    }
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".into() } else { text }
}

fn link(up: bool) -> &'static str {
    if up { "up" } else { "down" }
}

fn driver(features: &Features) -> String {
    let name = features.driver.as_ref().or(features.kind.as_ref());
    or_dash(name.cloned().unwrap_or_default())
}

fn full_driver(features: &Features) -> String {
    match &features.bus {
        Some(bus) => format!("{} ({bus})", driver(features)),
        None => driver(features),
    }
}

fn full_link(features: &Features) -> String {
    let mac = features.mac.map(|mac| format!(", {mac}"));
    let (link, mtu) = (link(features.up), features.mtu);
    format!("{link}, MTU {mtu}{}", mac.unwrap_or_default())
}

/// A program that cannot redirect is of no use here.
fn native(xdp: &XdpFeatures) -> &'static str {
    match (xdp.native, xdp.redirect) {
        (Some(true), Some(false)) => "basic",
        (native, _) => answer(native),
    }
}

fn native_in_words(xdp: &XdpFeatures) -> &'static str {
    match native(xdp) {
        "basic" => "basic: programs run, but cannot redirect",
        other => other,
    }
}

/// The directions that there are.
fn multi_buffer(xdp: &XdpFeatures) -> String {
    let (rx, tx) = (xdp.multi_buffer_rx, xdp.multi_buffer_tx);
    match (rx, tx) {
        (Some(true), Some(true)) => "rx tx",
        (Some(true), _) => "rx",
        (_, Some(true)) => "tx",
        _ => answer(rx.and(tx)),
    }
    .into()
}

fn redirect_target(features: &Features) -> String {
    let known = features.xdp.redirect_target;
    let native = features.xdp.native == Some(true);
    let why = match (known, &features.peer) {
        (Some(false), Some(peer)) if native => lacking(peer),
        (Some(false), None) if native => ": some drivers want a program there first",
        _ => "",
    };
    format!("{}{why}", answer(known))
}

fn lacking(peer: &Peer) -> &'static str {
    match (peer.gro, peer.native_program) {
        (Some(false), Some(false)) => ": its peer has neither GRO nor a native XDP program",
        (None, _) => ": its peer needs GRO or a native XDP program",
        _ => "",
    }
}

/// The offloads that change what XDP sees or where it runs, by ethtool's names.
fn minded(offloads: &Offloads) -> impl Iterator<Item = (&'static str, Option<bool>)> {
    [
        ("tx-checksum", offloads.tx_checksum),
        ("gro", offloads.gro),
        ("lro", offloads.lro),
        ("rxvlan", offloads.rx_vlan),
    ]
    .into_iter()
}

/// One line for those that are on, and one for those that are off.
fn offloads(offloads: &Offloads) -> impl Iterator<Item = (&'static str, String)> {
    let all: Vec<_> = minded(offloads)
        .chain([
            ("txvlan", offloads.tx_vlan),
            ("tso", offloads.tso),
            ("gso", offloads.gso),
            ("tx-udp-segmentation", offloads.tx_udp_segmentation),
        ])
        .collect();
    [("offloads on", true), ("offloads off", false)]
        .into_iter()
        .map(move |(name, wanted)| {
            let with = all.iter().copied().filter(|(_, on)| *on == Some(wanted));
            (name, join(with))
        })
}

fn join(offloads: impl Iterator<Item = (&'static str, Option<bool>)>) -> String {
    let names: Vec<&str> = offloads.map(|(name, _)| name).collect();
    or_dash(names.join(" "))
}

fn connections(features: &Features) -> Vec<String> {
    let named = |what: &str, all: &[Related]| {
        let names: Vec<&str> = all.iter().map(|device| device.ifname.as_str()).collect();
        Some(format!("{what} {}", names.join(" "))).filter(|_| !names.is_empty())
    };
    let master = features.master.as_ref();
    let all = [
        master.map(|master| format!("port of {}", master.ifname)),
        named("ports", &features.ports),
        lower(features),
        named("below", &features.upper),
        features.peer.as_ref().map(peer),
    ];
    all.into_iter().flatten().collect()
}

fn lower(features: &Features) -> Option<String> {
    let lower = features.lower.as_ref()?;
    Some(match features.vlan {
        Some(vlan) => format!("VLAN {vlan} on {lower}"),
        None => format!("on {lower}"),
    })
}

fn peer(peer: &Peer) -> String {
    let gro = match peer.gro {
        Some(true) => ", GRO on",
        Some(false) => ", GRO off",
        None => "",
    };
    format!("peer {}{gro}", peer.device)
}
