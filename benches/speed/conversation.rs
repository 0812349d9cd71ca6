//! Questions and their answers: what connections cost, and whole conversations beside other means.

use std::mem::MaybeUninit;
use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result};

use crate::ends::Ends;
use crate::relays::Relays;
use crate::report::Section;
use crate::{Setup, bed, echo, established, peers};

pub fn measure(setup: &Setup) -> Result<Section> {
    let mut lines = established::lines(setup).context("established")?;
    let ends = Ends::new()?;
    let mut storage = MaybeUninit::uninit();
    let programs = bed::load(&mut storage, 0)?;
    let relays = Relays::new(&ends, programs.progs.pass.as_fd())?;
    lines.extend(
        echo::WITH_XDP
            .lines(&relays, &ends, setup)
            .context("echo")?,
    );
    lines.extend(peers::lines(&relays, &ends, setup).context("peers")?);
    Ok(Section {
        name: "conversation",
        about: "connections: native test runs of the program alone, without ledger, ns over a program that only \
                passes; then conversations of a client and a server with sockets, over two veths and on one core",
        lines,
    })
}
