//! Where packets run: generator -> dut0, dut1 -> sink, over veth pairs.
//!
//! ```text
//! namespace far            namespace of this process
//! generator (generate) --> dut0 (program under test)
//! sink      (sink)     <-- dut1
//! sink2 …   (sink)     <-- dut2 …    where a case wants more devices
//! ```
//!
//! Neither namespace has a name: the kernel removes them when the process leaves them or ends, in
//! whatever way it ends.

use std::fs::File;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context as _, Result};
use libbpf_rs::skel::{OpenSkel as _, SkelBuilder as _};
use libbpf_rs::{MapCore as _, MapFlags, OpenObject, Xdp, XdpFlags};

use crate::host::{add_veth, enter_new_network_namespace, ifindex, within};
use crate::prefixes;
use crate::sys;

#[allow(clippy::all, clippy::undocumented_unsafe_blocks, unsafe_code)]
mod skel {
    include!(concat!(env!("OUT_DIR"), "/bench.skel.rs"));
}

pub use skel::BenchSkel;
use skel::BenchSkelBuilder;

pub const SINK_MAC: &str = "02:00:00:00:00:04";
pub const DUT0_MAC: &str = "02:00:00:00:00:01"; // frame.rs has it, too
pub const GENERATOR_MAC: &str = "02:00:00:00:00:02";
pub const DUT1_MAC: &str = "02:00:00:00:00:03";
/// As in ../arrivals.h and ../bench.bpf.c.
pub const SERVERS: usize = 16;

const FIRST_SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 1);

pub const fn server(index: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(FIRST_SERVER.to_bits() + index as u32)
}

/// It ends with the IPv4 address, by which the sink knows it.
pub fn server_v6(index: usize) -> Ipv6Addr {
    let prefix = u128::from(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0));
    (prefix | u128::from(u32::from(server(index)))).into()
}

/// Where XDP programs run.
#[derive(Clone, Copy)]
pub enum Hook {
    Native,
    Generic,
}

pub struct Bed<'obj> {
    pub dut0: i32,
    pub dut1: u32,
    pub far: File,
    pub(crate) skel: BenchSkel<'obj>,
    pub(crate) cpu: usize,
}

impl<'obj> Bed<'obj> {
    pub fn new(storage: &'obj mut MaybeUninit<OpenObject>, cpu: usize) -> Result<Self> {
        let far = enter_new_network_namespace()?;
        enter_new_network_namespace()?;
        add_veth(&far, ["dut0", DUT0_MAC], ["generator", GENERATOR_MAC])?;
        add_veth(&far, ["dut1", DUT1_MAC], ["sink", SINK_MAC])?;

        let skel = load(storage, within(&far, || ifindex("generator"))?)?;
        let (dut0, dut1) = (ifindex("dut0")? as i32, ifindex("dut1")?);
        let bed = Self {
            dut0,
            dut1,
            far,
            skel,
            cpu,
        };
        bed.set_bare_egress(0, dut1)?;
        Ok(bed)
    }

    /// Counts what arrives at the sink, and drops it there.
    pub fn with_sink(self) -> Result<Self> {
        self.attach_sink("sink")?;
        Ok(self)
    }

    /// A device for each server, the first one's is dut1.
    pub fn add_devices(&self) -> Result<Vec<u32>> {
        let mut devices = vec![self.dut1];
        for number in 2..=SERVERS {
            let [dut, sink] = ["dut", "sink"].map(|end| format!("{end}{number}"));
            let [dut_mac, sink_mac] =
                [1, 2].map(|end| format!("02:00:00:00:{end:02x}:{number:02x}"));
            add_veth(&self.far, [&dut, &dut_mac], [&sink, &sink_mac])?;
            self.attach_sink(&sink)?;
            let device = ifindex(&dut)?;
            self.set_bare_egress(devices.len() as u32, device)?;
            devices.push(device);
        }
        Ok(devices)
    }

    /// Has a device at the far end count and drop what arrives.
    pub fn attach_sink(&self, device: &str) -> Result<()> {
        let program = self.skel.progs.sink.as_fd();
        within(&self.far, || {
            attach(program, ifindex(device)? as i32, Hook::Native)
        })
    }

    fn set_bare_egress(&self, index: u32, device: u32) -> Result<()> {
        let map = &self.skel.maps.bare_egress;
        Ok(map.update(&index.to_ne_bytes(), &device.to_ne_bytes(), MapFlags::ANY)?)
    }

    /// Counts where the stack of the sink's namespace begins, while the returned descriptor is open.
    pub fn attach_stack_sink(&self) -> Result<OwnedFd> {
        let program = self.skel.progs.stack_sink.as_fd();
        within(&self.far, || {
            sys::attach_ingress(program, ifindex("sink")?)
                .context("cannot count where the stack begins: needs Linux 6.6 or later")
        })
    }

    /// Attaches to dut0, in the place of what is there.
    pub fn attach(&self, program: BorrowedFd<'_>, hook: Hook) -> Result<()> {
        attach(program, self.dut0, hook)
    }

    /// Takes off what is there.
    pub fn detach(&self, hook: Hook) -> Result<()> {
        detach(self.skel.progs.pass.as_fd(), self.dut0, hook)
    }
}

pub fn attach(program: BorrowedFd<'_>, ifindex: i32, hook: Hook) -> Result<()> {
    Ok(Xdp::new(program).attach(ifindex, hook.flags())?)
}

/// Takes off what is there: `any` need not be that program.
pub fn detach(any: BorrowedFd<'_>, ifindex: i32, hook: Hook) -> Result<()> {
    Ok(Xdp::new(any).detach(ifindex, hook.flags())?)
}

impl Hook {
    fn flags(self) -> XdpFlags {
        match self {
            Self::Native => XdpFlags::DRV_MODE,
            Self::Generic => XdpFlags::SKB_MODE,
        }
    }
}

/// The benchmark's own programs.
pub fn load(storage: &mut MaybeUninit<OpenObject>, generator: u32) -> Result<BenchSkel<'_>> {
    let mut skel = BenchSkelBuilder::default().open(storage)?;
    let globals = skel.maps.rodata_data.as_deref_mut();
    let globals = globals.context("the programs have no constants")?;
    globals.generator_ifindex = generator;
    globals.first_server = FIRST_SERVER.into();
    globals.lengths = prefixes::LENGTHS;
    globals.length_count = prefixes::LENGTHS.len() as u32;
    Ok(skel.load()?)
}
