//! Into the stack of another namespace: xdpredir beside other means of the kernel to rewrite a
//! packet and send it there.

use std::mem::MaybeUninit;
use std::net::SocketAddrV4;
use std::thread::sleep;

use anyhow::{Context as _, Result};

use crate::arrivals::Check;
use crate::bed::{Bed, SINK_MAC, server};
use crate::host::{run, set_sysctl};
use crate::means::{Mean, Means};
use crate::product::{Backend, Product};
use crate::receiver::Receiver;
use crate::report::{Goal, Line, Section};
use crate::rounds::take_turns;
use crate::spread::Spread;
use crate::traffic::{CLIENT, FIRST_PORT, PORT, Traffic};
use crate::{SETTLE, Setup};

/// The ledger of xdpredir has nothing that corresponds to it beside the others, so their comparisons are
/// without it.
const RATIOS: [(Mean, Mean, &str, Option<f64>); 7] = [
    (Mean::NativeToPass, Mean::Tc, "× tc", None),
    (Mean::NativeToPassWithout, Mean::Tc, "× tc", Some(1.15)),
    (Mean::NativeWithout, Mean::Tc, "× tc", None),
    (Mean::Generic, Mean::Tc, "× tc", None),
    (Mean::GenericWithout, Mean::Tc, "× tc", Some(0.95)),
    (
        Mean::NativeToPassWithout,
        Mean::NftDnat,
        "× nft DNAT",
        Some(2.7),
    ),
    (
        Mean::NativeToPass,
        Mean::NativeToPassWithout,
        "× without ledger",
        None,
    ),
];

pub fn measure(setup: &Setup) -> Result<Section> {
    let (mut storage, mut tc_storage) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    let mut bed = Bed::new(&mut storage, setup.cpu)?;
    prepare_host()?;
    let far = bed.far.try_clone()?;
    let ends = [(server(0), PORT), (CLIENT, FIRST_PORT)];
    let [server, client] = ends.map(|(address, port)| SocketAddrV4::new(address, port));
    let receiver = Receiver::new(&far, server, client)?;
    let product = Product::new("stack");
    let rule = ["--src", &CLIENT.to_string(), "--port", &PORT.to_string()];
    product.prepare(|product| product.add_rule(&rule, &Backend::first(&bed)))?;

    let mut means = Means::new(&mut tc_storage, &bed, &product)?;
    let working = means.find_working(&bed);
    let sink = bed.attach_stack_sink()?;
    let to_stack = measure_all(&mut bed, &mut means, &working, setup, |bed| {
        bed.ns_per_packet(Check::Rewritten(1))
    })?;
    drop(sink);
    let to_socket = measure_all(&mut bed, &mut means, &working, setup, |_| {
        receiver.ns_per_datagram()
    })?;
    let mut lines = lines("to the stack", &working, &to_stack, Line::goal);
    lines.extend(self::lines(
        "to a socket",
        &working,
        &to_socket,
        |line, _| line,
    ));
    Ok(Section {
        name: "stack",
        about: "from veth to veth, rewritten, into the stack there; 1 flow, 1 backend; the peer's GRO is off, \
                unless the program says otherwise",
        lines,
    })
}

/// Nanoseconds for each packet, as `arriving` sees them.
fn measure_all(
    bed: &mut Bed,
    means: &mut Means,
    working: &[Mean],
    setup: &Setup,
    arriving: impl Fn(&Bed) -> Result<f64>,
) -> Result<Vec<Vec<f64>>> {
    bed.transmitting(&Traffic::flows(1), |bed| {
        take_turns(setup.rounds, working, |&mean| {
            let installed = means.install(bed, mean)?;
            sleep(SETTLE);
            let ns = arriving(bed).with_context(|| mean.name())?;
            means.remove(bed, mean)?;
            drop(installed);
            Ok(ns)
        })
    })
}

fn lines(
    case: &str,
    working: &[Mean],
    ns: &[Vec<f64>],
    judged: impl Fn(Line, Goal) -> Line,
) -> Vec<Line> {
    let of = |mean| Some(&ns[working.iter().position(|&other| other == mean)?]);
    let rate = |mean: &Mean| {
        let value = Spread::mpps(of(*mean)?);
        Some(Line::new(case, mean.name(), value, "Mpps"))
    };
    let ratio = |&(mean, reference, unit, goal): &(Mean, Mean, _, Option<f64>)| {
        let value = Spread::rate_ratio(of(mean)?, of(reference)?);
        let line = Line::new(case, mean.name(), value, unit);
        Some(match goal {
            Some(goal) => judged(line, Goal::AtLeast(goal)),
            None => line,
        })
    };
    let rates = working.iter().filter_map(rate);
    rates.chain(RATIOS.iter().filter_map(ratio)).collect()
}

/// What nft's DNAT needs; it makes no difference to the others.
fn prepare_host() -> Result<()> {
    set_sysctl("net/ipv4/ip_forward", "1")?;
    let (server, gateway) = (server(0).to_string(), "10.0.1.254/24");
    run("ip", &["address", "add", gateway, "dev", "dut1"])?;
    let neighbour = ["neighbour", "add", &server, "lladdr", SINK_MAC];
    run("ip", &[&neighbour[..], &["dev", "dut1"]].concat())?;
    // A veth without an XDP program takes no redirected frames unless its GRO is on.
    run("ethtool", &["-K", "dut0", "gro", "on"])
}
