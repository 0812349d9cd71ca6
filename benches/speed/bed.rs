//! Where packets run: generator -> dut0, dut1 -> sink, over two veth pairs.
//!
//! ```text
//! namespace far            namespace of this process
//! generator (generate) --> dut0 (program under test)
//! sink      (sink)     <-- dut1
//! ```
//!
//! Neither namespace has a name: the kernel removes them when the process leaves them or ends, in
//! whatever way it ends.

use std::fs::File;
use std::mem::MaybeUninit;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use libbpf_rs::skel::{OpenSkel as _, SkelBuilder as _};
use libbpf_rs::{MapCore as _, MapFlags, OpenObject, Xdp, XdpFlags};
use nix::sched::{CloneFlags, setns};

use crate::frame;
use crate::host::{add_veth, enter_new_network_namespace, ifindex, run_on, within};
use crate::prefixes;
use crate::sys;

#[allow(clippy::all, clippy::undocumented_unsafe_blocks, unsafe_code)]
mod skel {
    include!(concat!(env!("OUT_DIR"), "/bench.skel.rs"));
}

use skel::{BenchSkel, BenchSkelBuilder};

pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub const SINK_MAC: &str = "02:00:00:00:00:04";
const DUT0_MAC: &str = "02:00:00:00:00:01"; // frame.rs has it, too
const GENERATOR_MAC: &str = "02:00:00:00:00:02";
const DUT1_MAC: &str = "02:00:00:00:00:03";
pub const PORT: u16 = 7999;
pub const FIRST_PORT: u16 = 10_000; // of the client, as in ../bench.bpf.c
pub const SERVERS: usize = 16;

const FIRST_SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 1);
const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 1);

pub fn server(index: usize) -> Ipv4Addr {
    (u32::from(FIRST_SERVER) + index as u32).into()
}

pub struct Bed<'obj> {
    pub dut0: i32,
    pub dut1: u32,
    pub far: File,
    skel: BenchSkel<'obj>,
    cpu: usize,
}

/// What the generator sends.
#[derive(Clone, Copy)]
pub struct Traffic {
    /// By source port.
    flows: u32,
    /// Prefixes to draw source addresses from.
    prefixes: u32,
    /// The number of addresses that repeat, a power of two; 0: each address is new.
    addresses: u32,
}

impl Traffic {
    pub fn flows(flows: u32) -> Self {
        Self {
            flows,
            prefixes: 0,
            addresses: 0,
        }
    }

    pub fn drawn(prefixes: u32, addresses: u32) -> Self {
        Self {
            flows: 1,
            prefixes,
            addresses,
        }
    }
}

impl<'obj> Bed<'obj> {
    pub fn new(storage: &'obj mut MaybeUninit<OpenObject>, cpu: usize) -> Result<Self> {
        let far = enter_new_network_namespace()?;
        enter_new_network_namespace()?;
        add_veth(&far, ["dut0", DUT0_MAC], ["generator", GENERATOR_MAC])?;
        add_veth(&far, ["dut1", DUT1_MAC], ["sink", SINK_MAC])?;

        let skel = load(storage, within(&far, || ifindex("generator"))?)?;
        let (dut0, dut1) = (ifindex("dut0")? as i32, ifindex("dut1")?);
        let map = &skel.maps.bare_egress;
        map.update(&0u32.to_ne_bytes(), &dut1.to_ne_bytes(), MapFlags::ANY)?;
        Ok(Self {
            dut0,
            dut1,
            far,
            skel,
            cpu,
        })
    }

    /// Counts what arrives at the sink, and drops it there.
    pub fn with_sink(self) -> Result<Self> {
        let program = self.skel.progs.sink.as_fd();
        within(&self.far, || attach(program, ifindex("sink")? as i32))?;
        Ok(self)
    }

    /// Counts where the stack of the sink's namespace begins, while the returned descriptor is open.
    pub fn attach_stack_sink(&self) -> Result<OwnedFd> {
        let program = self.skel.progs.stack_sink.as_fd();
        within(&self.far, || {
            sys::attach_ingress(program, ifindex("sink")?)
                .context("cannot count where the stack begins: needs Linux 6.6 or later")
        })
    }

    pub fn bare(&self) -> BorrowedFd<'_> {
        self.skel.progs.bare.as_fd()
    }

    pub fn pass(&self) -> BorrowedFd<'_> {
        self.skel.progs.pass.as_fd()
    }

    pub fn attach(&self, program: BorrowedFd<'_>) -> Result<()> {
        attach(program, self.dut0)
    }

    pub fn detach(&self, program: BorrowedFd<'_>) -> Result<()> {
        Ok(Xdp::new(program).detach(self.dut0, XdpFlags::DRV_MODE)?)
    }

    /// The id of the program that runs at dut0 in native mode.
    pub fn program_id(&self) -> Result<u32> {
        let id = Xdp::new(self.pass()).query_id(self.dut0, XdpFlags::DRV_MODE)?;
        ensure!(id != 0, "no program is attached to dut0 in native mode");
        Ok(id)
    }

    /// What `observe` returns while the generator transmits.
    pub fn transmitting<T>(
        &mut self,
        traffic: Traffic,
        observe: impl FnOnce(&Self) -> Result<T>,
    ) -> Result<T> {
        let globals = self.skel.maps.bss_data.as_deref_mut();
        let globals = globals.context("the generator has no globals")?;
        globals.flows = traffic.flows;
        globals.prefixes = traffic.prefixes;
        globals.last_draw = traffic.addresses.wrapping_sub(1);
        globals.draws = 0;

        let generator = self.start_generator()?;
        let observed = observe(self);
        ensure!(
            stop(generator)? || observed.is_err(),
            "the generator ended too early"
        );
        observed
    }

    fn start_generator(&self) -> Result<JoinHandle<Result<()>>> {
        let program: OwnedFd = self.skel.progs.generate.as_fd().try_clone_to_owned()?;
        let (far, cpu) = (self.far.try_clone()?, self.cpu);
        Ok(thread::spawn(move || {
            setns(far, CloneFlags::CLONE_NEWNET)?;
            run_on(&[cpu])?;
            sys::transmit(program.as_fd(), &[0; frame::LEN])
                .context("the generator does not transmit")
        }))
    }

    pub fn arrivals(&self) -> Result<Arrivals> {
        let map = &self.skel.maps.arrived;
        let values = map.lookup_percpu(&0u32.to_ne_bytes(), MapFlags::ANY)?;
        let values = values.context("the sink has no counters")?;
        let mut arrivals = Arrivals::default();
        for (cpu, value) in values.iter().enumerate() {
            arrivals.add(value, cpu == self.cpu);
        }
        Ok(arrivals)
    }
}

/// Packets that reached the sink.
#[derive(Default)]
pub struct Arrivals {
    pub by_server: [u64; SERVERS],
    pub others: u64,
    pub off_core: u64,
}

impl Arrivals {
    fn add(&mut self, value: &[u8], on_core: bool) {
        let (words, _) = value.as_chunks();
        let packets = words.iter().map(|&word| u64::from_ne_bytes(word));
        let slots = self.by_server.iter_mut().chain([&mut self.others]);
        for (slot, packets) in slots.zip(packets) {
            *slot += packets;
            self.off_core += if on_core { 0 } else { packets };
        }
    }

    pub fn total(&self) -> u64 {
        self.by_server.iter().sum::<u64>() + self.others
    }

    pub fn since(&self, before: &Self) -> Self {
        Self {
            by_server: std::array::from_fn(|i| self.by_server[i] - before.by_server[i]),
            others: self.others - before.others,
            off_core: self.off_core - before.off_core,
        }
    }
}

/// Whether the generator was still at work.
fn stop(generator: JoinHandle<Result<()>>) -> Result<bool> {
    let working = !generator.is_finished();
    // Repeated, because a signal that comes before the system call has no effect.
    while !generator.is_finished() {
        sys::interrupt(&generator);
        thread::sleep(Duration::from_millis(1));
    }
    match generator.join() {
        Ok(result) => result.map(|()| working),
        Err(_) => bail!("the generator panicked"),
    }
}

fn attach(program: BorrowedFd<'_>, ifindex: i32) -> Result<()> {
    Ok(Xdp::new(program).attach(ifindex, XdpFlags::DRV_MODE)?)
}

fn load(storage: &mut MaybeUninit<OpenObject>, generator: u32) -> Result<BenchSkel<'_>> {
    let mut skel = BenchSkelBuilder::default().open(storage)?;
    let globals = skel.maps.rodata_data.as_deref_mut();
    let globals = globals.context("the programs have no constants")?;
    let datagram = frame::datagram(CLIENT, SERVICE, PORT);
    let (words, _) = datagram.as_chunks();
    globals.frame = std::array::from_fn(|i| u64::from_ne_bytes(words[i]));
    globals.generator_ifindex = generator;
    globals.first_server = FIRST_SERVER.into();
    globals.lengths = prefixes::LENGTHS;
    globals.length_count = prefixes::LENGTHS.len() as u32;
    Ok(skel.load()?)
}
