//! At the tc hook: xdpredir beside a program by hand, whose service and backend are constants, and
//! conversations beside routing and nft's DNAT.

use std::mem::MaybeUninit;
use std::net::SocketAddrV4;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::thread::sleep;

use anyhow::{Context as _, Result, ensure};

use crate::arrivals::Check;
use crate::bed::{self, Bed, server};
use crate::ends::Ends;
use crate::host::run;
use crate::hot::RUNS_PER_ROUND;
use crate::product::{Backend, Ledger, Product};
use crate::receiver::Receiver;
use crate::relays::Relays;
use crate::report::{Goal, Line, Section};
use crate::rounds::take_turns;
use crate::spread::Spread;
use crate::tc::Tc;
use crate::traffic::{CLIENT, FIRST_PORT, PORT, Traffic};
use crate::{SETTLE, Setup, echo, iperf, sys};

const PASS: &str = "pass";
const BY_HAND: &str = "by hand";
const XDPREDIR: &str = "xdpredir";

// As in vmlinux.h.
const TC_ACT_UNSPEC: u32 = -1i32 as u32;
const TC_ACT_REDIRECT: u32 = 7;

pub fn measure(setup: &Setup) -> Result<Section> {
    let mut lines = beside_hand(setup).context("by hand")?;
    let ends = Ends::new()?;
    let mut storage = MaybeUninit::uninit();
    let programs = bed::load(&mut storage, 0)?;
    let relays = Relays::new(&ends, programs.progs.pass.as_fd())?;
    ensure!(
        relays.has_tc(),
        "this kernel has no tcx: needs Linux 6.6 or later"
    );
    lines.extend(echo::WITH_TC.lines(&relays, &ends, setup).context("echo")?);
    lines.extend(iperf::lines(&relays, &ends, setup).context("iperf3")?);
    Ok(Section {
        name: "tc",
        about: "at the tc hook, without ledger: beside a program by hand with constants and redirect_peer, in \
                test runs and from veth to veth; then conversations of a client and a server with sockets, \
                over two veths with all offloads, with --reply nat",
        lines,
    })
}

fn beside_hand(setup: &Setup) -> Result<Vec<Line>> {
    let (mut storage, mut tc_storage) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    let mut bed = Bed::new(&mut storage, setup.cpu)?;
    // A veth without an XDP program takes no redirected frames unless its GRO is on.
    run("ethtool", &["-K", "dut0", "gro", "on"])?;
    let far = bed.far.try_clone()?;
    let ends = [(server(0), PORT), (CLIENT, FIRST_PORT)];
    let [server, client] = ends.map(|(address, port)| SocketAddrV4::new(address, port));
    let receiver = Receiver::new(&far, server, client)?;
    let product = Product::new("tc");
    let rule = ["--src", &CLIENT.to_string(), "--port", &PORT.to_string()];
    product.prepare(|product| product.add_rule(&rule, &Backend::first(&bed)))?;
    let program = product.programs("tc", Ledger::Off)?;
    let by_hand = Tc::new(&mut tc_storage, &bed)?;
    let subjects = [
        (XDPREDIR, program.as_fd()),
        (BY_HAND, by_hand.redirect()),
        (PASS, by_hand.pass()),
    ];

    let hot = take_turns(
        setup.rounds * RUNS_PER_ROUND,
        &subjects,
        |&(name, program)| {
            let expected = match name {
                PASS => TC_ACT_UNSPEC,
                _ => TC_ACT_REDIRECT,
            };
            let ns = by_hand.ns_per_call(program, setup.cpu, expected);
            ns.context(name)
        },
    )?;
    let live = &subjects[..2];
    let sink = bed.attach_stack_sink()?;
    let to_stack = take_turns_live(&mut bed, live, setup, |bed| {
        bed.ns_per_packet(Check::Rewritten(1))
    })?;
    drop(sink);
    let to_socket = take_turns_live(&mut bed, live, setup, |_| receiver.ns_per_datagram())?;
    let mut lines = hot_lines(&hot);
    lines.extend(live_lines("to the stack", &to_stack));
    lines.extend(live_lines("to a socket", &to_socket));
    Ok(lines)
}

/// Nanoseconds for each packet, as `arriving` sees them.
fn take_turns_live(
    bed: &mut Bed,
    subjects: &[(&str, BorrowedFd<'_>)],
    setup: &Setup,
    arriving: impl Fn(&Bed) -> Result<f64>,
) -> Result<Vec<Vec<f64>>> {
    bed.transmitting(&Traffic::flows(1), |bed| {
        take_turns(setup.rounds, subjects, |&(name, program)| {
            let _attached = sys::attach_ingress(program, bed.dut0 as u32)?;
            sleep(SETTLE);
            arriving(bed).context(name.to_string())
        })
    })
}

fn hot_lines(ns: &[Vec<f64>]) -> Vec<Line> {
    let over = |subject, ns, reference, unit| {
        Line::new("test runs", subject, Spread::above(ns, reference), unit)
    };
    vec![
        over(XDPREDIR, &ns[0], &ns[2], "ns over pass"),
        over(BY_HAND, &ns[1], &ns[2], "ns over pass"),
        over(XDPREDIR, &ns[0], &ns[1], "ns over by hand"),
    ]
}

fn live_lines(case: &str, ns: &[Vec<f64>]) -> Vec<Line> {
    let ratio = Spread::rate_ratio(&ns[0], &ns[1]);
    vec![
        Line::new(case, XDPREDIR, Spread::mpps(&ns[0]), "Mpps"),
        Line::new(case, BY_HAND, Spread::mpps(&ns[1]), "Mpps"),
        Line::new(case, XDPREDIR, ratio, "× by hand").goal(Goal::AtLeast(0.95)),
    ]
}
