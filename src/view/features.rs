//! What devices can do, for people.

use std::io::stdout;

use super::columns::Columns;
use super::escape::escape;
use super::style::Tone;
use super::terminal;
use crate::model::{FeatureSource, Features, Offloads, Peer, Related, TcHook, XdpFeatures};

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
    Columns::of(all)
        .text("device", |device| device.ifname.clone())
        .text("driver", driver)
        .number("mtu", |device| device.mtu.to_string())
        .text("native", |device| native(&device.xdp).into())
        .text("redirect-to", |device| {
            answer(device.xdp.redirect_target).into()
        })
        .text("multi-buffer", |device| multi_buffer(&device.xdp).into())
        .text("zero-copy", |device| answer(device.xdp.zero_copy).into())
        .lines(&["mtu", "driver", "zero-copy", "multi-buffer"])
}

fn device_table(all: &[Features]) -> String {
    Columns::of(all)
        .text("device", |device| device.ifname.clone())
        .text("link", |device| link(device.up).into())
        .color(|link| (link == "down").then_some(Tone::Doubtful))
        .text("offloads", |device| names(&minded(&device.offloads), true))
        .values("connections", |device| match connections(device) {
            none if none.is_empty() => vec!["-".into()],
            some => some,
        })
        .lines(&["offloads"])
}

fn block(features: &Features) -> String {
    let xdp = &features.xdp;
    let offloads = offloads(&features.offloads);
    let mut lines = vec![
        ("driver", full_driver(features)),
        ("link", full_link(features)),
        ("native XDP", native_in_words(xdp).into()),
        ("redirect to it", redirect_target(features)),
        ("multi-buffer", multi_buffer(xdp).into()),
        ("zero-copy", answer(xdp.zero_copy).into()),
        ("tc hook", tc_hook(features.tc).into()),
        ("offloads on", names(&offloads, true)),
        ("offloads off", names(&offloads, false)),
    ];
    let connections = connections(features).into_iter();
    lines.extend(connections.map(|connection| ("connection", connection)));
    if is_guess(features) {
        lines.push(("guessed", GUESSED.into()));
    }
    let columns = terminal::width(&stdout()).map(usize::from);
    let name = escape(&features.ifname);
    let mut text = format!("{name} (ifindex {})\n", features.ifindex);
    for (name, value) in lines {
        text += &terminal::entry(&format!("  {name}"), &escape(&value), 18, columns);
        text.push('\n');
    }
    text
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

fn tc_hook(hook: Option<TcHook>) -> &'static str {
    match hook {
        Some(TcHook::Tcx) => "yes (tcx)",
        Some(TcHook::Clsact) => "yes (clsact)",
        None => "no: its frames have no Ethernet header",
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
fn multi_buffer(xdp: &XdpFeatures) -> &'static str {
    let (rx, tx) = (xdp.multi_buffer_rx, xdp.multi_buffer_tx);
    match (rx, tx) {
        (Some(true), Some(true)) => "rx tx",
        (Some(true), _) => "rx",
        (_, Some(true)) => "tx",
        _ => answer(rx.and(tx)),
    }
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

type Offload = (&'static str, Option<bool>);

/// The offloads that change what XDP sees or where it runs, by ethtool's names.
fn minded(offloads: &Offloads) -> [Offload; 4] {
    [
        ("tx-checksum", offloads.tx_checksum),
        ("gro", offloads.gro),
        ("lro", offloads.lro),
        ("rxvlan", offloads.rx_vlan),
    ]
}

fn offloads(offloads: &Offloads) -> Vec<Offload> {
    let further = [
        ("txvlan", offloads.tx_vlan),
        ("tso", offloads.tso),
        ("gso", offloads.gso),
        ("tx-udp-segmentation", offloads.tx_udp_segmentation),
    ];
    minded(offloads).into_iter().chain(further).collect()
}

/// Those that are on, or off.
fn names(offloads: &[Offload], wanted: bool) -> String {
    let with = offloads.iter().filter(|(_, on)| *on == Some(wanted));
    let names: Vec<&str> = with.map(|(name, _)| *name).collect();
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
    let program = match peer.native_program {
        Some(true) => ", a native XDP program",
        _ => "",
    };
    format!("peer {}{gro}{program}", peer.device)
}
