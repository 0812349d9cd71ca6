//! The XDP programs that take turns at dut0.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread::sleep;

use anyhow::{Context as _, Result};
use libbpf_rs::query::{ProgInfoIter, ProgInfoQueryOptions};
use libbpf_rs::{Link, Program};

use crate::SETTLE;
use crate::arrivals::Check;
use crate::bed::{Bed, Hook};
use crate::rounds::take_turns;
use crate::sys;
use crate::traffic::Traffic;

pub struct Subject {
    pub name: &'static str,
    pub programs: Programs,
    pub check: Check,
}

/// An XDP program, and the tracing programs that run while it does.
pub struct Programs {
    xdp: OwnedFd,
    tracing: Vec<OwnedFd>,
}

impl Programs {
    /// One of the benchmark's own.
    pub fn new(xdp: &impl AsFd) -> Result<Self> {
        Ok(Self {
            xdp: xdp.as_fd().try_clone_to_owned()?,
            tracing: Vec::new(),
        })
    }

    /// What runs for a device, by the links of the product that are pinned in the directory.
    pub fn pinned(directory: &Path, device: u32) -> Result<Self> {
        let link = format!("if-{device}/link");
        let (mut xdp, mut tracing) = (None, Vec::new());
        for path in files(directory)? {
            if path.ends_with(&link) {
                xdp = Some(program_of(&path)?);
            } else if path
                .parent()
                .is_some_and(|parent| parent.ends_with("ledger"))
            {
                tracing.push(program_of(&path)?);
            }
        }
        let xdp = xdp.with_context(|| format!("no XDP link in {}", directory.display()))?;
        Ok(Self { xdp, tracing })
    }

    pub fn try_clone(&self) -> Result<Self> {
        self.tracing_of(self)
    }

    /// The same tracing programs, with another XDP program.
    pub fn tracing_of(&self, xdp: &impl AsFd) -> Result<Self> {
        let tracing = self.tracing.iter().map(OwnedFd::try_clone);
        Ok(Self {
            xdp: xdp.as_fd().try_clone_to_owned()?,
            tracing: tracing.collect::<Result<_, _>>()?,
        })
    }

    /// Attaches in the place of the program that is there. The tracing programs run for as long as the
    /// returned descriptors are open.
    pub fn attach(&self, bed: &Bed, hook: Hook) -> Result<Vec<OwnedFd>> {
        bed.attach(self.xdp.as_fd(), hook)?;
        self.trace()
    }

    /// Runs the tracing programs for as long as the returned descriptors are open.
    pub fn trace(&self) -> Result<Vec<OwnedFd>> {
        let links = self
            .tracing
            .iter()
            .map(|program| sys::trace(program.as_fd()));
        links.collect::<Result<_, _>>().context("cannot trace")
    }

    /// Instructions that the verifier walked, one path after the other.
    pub fn verified_insns(&self) -> Result<u32> {
        let id = Program::id_from_fd(self.xdp.as_fd())?;
        let program = ProgInfoIter::with_query_opts(ProgInfoQueryOptions::default())
            .find(|program| program.id == id);
        Ok(program
            .context("the program under test is gone")?
            .verified_insns)
    }
}

impl AsFd for Programs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.xdp.as_fd()
    }
}

/// Nanoseconds for each packet, by subject and round, under one run of the generator.
pub fn take_turns_live(
    bed: &mut Bed,
    traffic: &Traffic,
    subjects: &[Subject],
    rounds: u32,
) -> Result<Vec<Vec<f64>>> {
    bed.transmitting(traffic, |bed| {
        let ns = take_turns(rounds, subjects, |subject| subject.ns_per_packet(bed));
        bed.detach(Hook::Native)?;
        ns
    })
}

impl Subject {
    fn ns_per_packet(&self, bed: &Bed) -> Result<f64> {
        let _tracing = self.programs.attach(bed, Hook::Native)?;
        sleep(SETTLE);
        bed.ns_per_packet(self.check).context(self.name)
    }
}

fn program_of(link: &Path) -> Result<OwnedFd> {
    let info = Link::open(link).and_then(|link| link.info());
    let info = info.with_context(|| format!("no link is at {}", link.display()))?;
    Ok(Program::fd_from_id(info.prog_id)?)
}

fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in directory.read_dir()? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => files.extend(self::files(&entry.path())?),
            false => files.push(entry.path()),
        }
    }
    Ok(files)
}
