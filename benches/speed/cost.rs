//! What attaching costs traffic that no rule matches: TCP in bulk over the interface's veth. A native
//! program on a veth switches off segmentation offload at its peer, so the peer's sender pays most.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::Setup;
use crate::bed::{Bed, Hook};
use crate::host::{run, run_on, within};
use crate::product::{Backend, Ledger, Product};
use crate::report::{Line, Section};
use crate::rounds::take_turns;
use crate::spread::Spread;
use crate::subject::Programs;
use crate::traffic::CLIENT;

const NEAR: &str = "10.9.0.1";
const FAR: &str = "10.9.0.2";
const BUFFER: usize = 1 << 17;

/// A connection becomes fast in its first moments.
const WARM_UP: Duration = Duration::from_millis(60);
const WINDOW: Duration = Duration::from_millis(150);

#[derive(Clone, Copy)]
enum Mode {
    NotAttached,
    Native,
    Generic,
}

const MODES: [Mode; 3] = [Mode::NotAttached, Mode::Native, Mode::Generic];

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
    let rule = ["--src", &CLIENT.to_string()];
    product.prepare(|product| product.add_rule(&rule, &Backend::first(&bed)))?;
    let programs = Attachable {
        bed: &bed,
        native: product.programs("native", Ledger::On)?,
        generic: product.programs("skb", Ledger::On)?,
    };
    let mut lines = direction_lines("TCP from the peer", Direction::In, &programs, setup)?;
    lines.extend(direction_lines(
        "TCP to the peer",
        Direction::Out,
        &programs,
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

struct Attachable<'a> {
    bed: &'a Bed<'a>,
    native: Programs,
    generic: Programs,
}

impl Attachable<'_> {
    /// What `measure` returns while the program is attached.
    fn attached(&self, mode: Mode, measure: impl FnOnce() -> Result<f64>) -> Result<f64> {
        let (programs, hook) = match mode {
            Mode::NotAttached => return measure(),
            Mode::Native => (&self.native, Hook::Native),
            Mode::Generic => (&self.generic, Hook::Generic),
        };
        let _tracing = programs.attach(self.bed, hook)?;
        let measured = measure();
        self.bed.detach(hook)?;
        measured
    }
}

fn direction_lines(
    case: &'static str,
    direction: Direction,
    programs: &Attachable,
    setup: &Setup,
) -> Result<Vec<Line>> {
    let ns = take_turns(setup.rounds, &MODES, |&mode| {
        programs.attached(mode, || {
            let [near, far] = connect(&programs.bed.far)?;
            match direction {
                Direction::In => ns_per_bit(far, near, setup.cpu),
                Direction::Out => ns_per_bit(near, far, setup.cpu),
            }
        })
    })?;
    let [without, native, generic] = [&ns[0], &ns[1], &ns[2]];
    let rate = |subject, ns: &[f64]| {
        let gbps = Spread::derived([ns], |[ns]| 1.0 / ns);
        Line::new(case, subject, gbps, "Gbit/s")
    };
    let ratio = |subject, ns: &[f64]| {
        let value = Spread::rate_ratio(ns, without);
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

/// What a stream takes for a bit. The sender runs on a CPU of its own.
pub fn ns_per_bit(mut sender: TcpStream, mut receiver: TcpStream, cpu: usize) -> Result<f64> {
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
    Ok(elapsed.as_nanos() as f64 / (bytes as f64 * 8.0))
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
