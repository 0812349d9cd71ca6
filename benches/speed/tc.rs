//! A program of our own at tc ingress.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};

use anyhow::{Context as _, Result};
use libbpf_rs::skel::{OpenSkel as _, SkelBuilder as _};
use libbpf_rs::{
    MapCore as _, MapFlags, OpenObject, ProgramInput, TC_EGRESS, TC_INGRESS, TcHook, TcHookBuilder,
};

use crate::bed::{self, Bed};
use crate::frame::SHORTEST;
use crate::hot::{REPEAT, test_runs};
use crate::traffic::{CLIENT, PORT, Traffic};

#[allow(clippy::all, clippy::undocumented_unsafe_blocks, unsafe_code)]
mod skel {
    include!(concat!(env!("OUT_DIR"), "/tc.skel.rs"));
}

pub struct Tc<'obj> {
    hook: TcHook,
    skel: skel::TcSkel<'obj>,
}

impl<'obj> Tc<'obj> {
    pub fn new(storage: &'obj mut MaybeUninit<OpenObject>, bed: &Bed) -> Result<Self> {
        let mut skel = skel::TcSkelBuilder::default().open(storage)?;
        let globals = skel.maps.rodata_data.as_deref_mut();
        let globals = globals.context("the program has no constants")?;
        globals.service_source = u32::from(CLIENT).to_be();
        globals.service_port = PORT.to_be();
        globals.server = u32::from(bed::server(0)).to_be();
        globals.egress = bed.dut1;
        globals.macs = [2, 0, 0, 0, 0, 4, 2, 0, 0, 0, 0, 3];
        globals.original = Traffic::flows(1).first_frame();

        let skel = skel.load()?;
        let mut builder = TcHookBuilder::new(skel.progs.redirect.as_fd());
        builder.ifindex(bed.dut0).handle(1).priority(1);
        let hook = builder.hook(TC_INGRESS);
        Ok(Self { hook, skel })
    }

    pub fn attach(&mut self) -> Result<()> {
        self.hook.create()?;
        self.hook.attach()?;
        Ok(())
    }

    /// Removes the qdisc as well, because it would slow the others down.
    pub fn detach(&mut self) -> Result<()> {
        let mut qdisc = self.hook;
        Ok(qdisc.attach_point(TC_INGRESS | TC_EGRESS).destroy()?)
    }

    pub fn redirect(&self) -> BorrowedFd<'_> {
        self.skel.progs.redirect.as_fd()
    }

    pub fn pass(&self) -> BorrowedFd<'_> {
        self.skel.progs.pass.as_fd()
    }

    /// Nanoseconds for each call of a program in test runs, with writing the frame.
    pub fn ns_per_call(&self, program: BorrowedFd<'_>, cpu: usize, expected: u32) -> Result<f64> {
        let fd = program.as_raw_fd().to_ne_bytes();
        let map = &self.skel.maps.subject;
        map.update(&0u32.to_ne_bytes(), &fd, MapFlags::ANY)?;
        let skel = &self.skel;
        test_runs(cpu, expected, || {
            let input = ProgramInput {
                data_in: Some(&[0; SHORTEST]),
                repeat: REPEAT,
                ..Default::default()
            };
            let output = skel.progs.call_subject.test_run(input)?;
            Ok(output.return_value)
        })
    }
}
