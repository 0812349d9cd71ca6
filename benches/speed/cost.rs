//! What attaching costs traffic that no rule matches: TCP in bulk over the interface's veth. A native
//! program on a veth switches off segmentation offload at its peer, so the peer's sender pays most.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::bed::{Bed, CLIENT};
use crate::host::{run, run_on, within};
use crate::product::Product;
use crate::report::{Line, Section, Spread};
use crate::rounds::take_turns;
use crate::{Setup, WARM_UP, WINDOW};

const NEAR: &str = "10.9.0.1";
const FAR: &str = "10.9.0.2";
const BUFFER: usize = 1 << 17;

/// The mode in which the program is attached, if it is.
const MODES: [Option<&str>; 3] = [None, Some("native"), Some("skb")];

#[derive(Clone, Copy)]
enum Direction {
    /// From the peer, through the program.
    In,
    /// To the peer; acknowledgements go through the program.
    Out,
}

pub fn measure(setup: &Setup) -> Result<Section> {
    let mut storage = MaybeUninit::uninit();
    let bed = Bed::new(&mut storage, setup.cpu)?;
    add_address(NEAR, "dut0")?;
    within(&bed.far, || add_address(FAR, "generator"))?;
    let product = Product::new("cost");
    product.prepare(|product| product.add_rule(&bed, &CLIENT.to_string(), 0))?;

    let mut lines = direction_lines("TCP from the peer", Direction::In, &bed, &product, setup)?;
    lines.extend(direction_lines(
        "TCP to the peer",
        Direction::Out,
        &bed,
        &product,
        setup,
    )?);
    Ok(Section {
        name: "cost",
        about: "traffic of an interface that no rule matches: 1 TCP stream over its veth, MTU 1,500; \
                sender and receiver have a core each",
        lines,
    })
}

fn add_address(address: &str, device: &str) -> Result<()> {
    let prefix = format!("{address}/24");
    run("ip", &["address", "add", &prefix, "dev", device])
}

fn direction_lines(
    case: &'static str,
    direction: Direction,
    bed: &Bed,
    product: &Product,
    setup: &Setup,
) -> Result<Vec<Line>> {
    let gbps = take_turns(setup.rounds, &MODES, |mode| {
        if let Some(mode) = mode {
            product.attach(mode)?;
        }
        let gbps = bulk_rate(connect(&bed.far)?, direction, setup.cpu)?;
        if mode.is_some() {
            product.detach()?;
        }
        Ok(gbps)
    })?;
    let [without, native, generic] = &gbps[..] else {
        unreachable!("as many as there are modes")
    };
    let value = |&gbps: &f64| gbps;
    let rate = |subject, samples| Line::new(case, subject, Spread::of(samples, value), "Gbit/s");
    let ratio = |subject, samples| {
        let value = Spread::ratio(samples, without, value);
        Line::new(case, subject, value, "× not attached")
    };
    Ok(vec![
        rate("not attached", without),
        rate("native", native),
        rate("generic", generic),
        ratio("native", native),
        ratio("generic", generic),
    ])
}

/// The near and the far end of a new connection.
fn connect(far: &File) -> Result<[TcpStream; 2]> {
    let listener = TcpListener::bind((NEAR, 0))?;
    let address = listener.local_addr()?;
    let far_end = within(far, || Ok(TcpStream::connect(address)?))?;
    Ok([listener.accept()?.0, far_end])
}

/// What a stream carries. The sender runs on a CPU of its own.
fn bulk_rate([near, far]: [TcpStream; 2], direction: Direction, cpu: usize) -> Result<f64> {
    let (mut sender, mut receiver) = match direction {
        Direction::In => (far, near),
        Direction::Out => (near, far),
    };
    let sending = thread::spawn(move || -> Result<()> {
        run_on(&[cpu])?;
        while sender.write_all(&[0; BUFFER]).is_ok() {} // until the receiver is closed
        Ok(())
    });
    read_for(&mut receiver, WARM_UP)?;
    let start = Instant::now();
    let bytes = read_for(&mut receiver, WINDOW)?;
    let elapsed = start.elapsed();
    drop(receiver);
    sending.join().expect("the sender does not panic")?;
    Ok(bytes as f64 * 8.0 / elapsed.as_secs_f64() / 1e9)
}

fn read_for(stream: &mut TcpStream, duration: Duration) -> Result<usize> {
    let (mut buffer, mut total) = (vec![0; BUFFER], 0);
    let start = Instant::now();
    while start.elapsed() < duration {
        let bytes = stream.read(&mut buffer)?;
        ensure!(bytes > 0, "the sender ended too early");
        total += bytes;
    }
    Ok(total)
}
