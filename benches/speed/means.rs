//! The means to rewrite a packet and send it into another namespace's stack, one of which is
//! installed at a time.

use std::cell::Cell;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use anyhow::Result;
use libbpf_rs::OpenObject;

use crate::bed::{Bed, Hook, SINK_MAC, attach, detach, server};
use crate::host::{ifindex, run, within};
use crate::product::{Ledger, Product};
use crate::subject::Programs;
use crate::tc::Tc;
use crate::traffic::{CLIENT, PORT};

#[derive(Clone, Copy, PartialEq)]
pub enum Mean {
    /// The peer has GRO on.
    Native,
    NativeWithout,
    /// The peer has a program that only passes.
    NativeToPass,
    NativeToPassWithout,
    Generic,
    GenericWithout,
    Tc,
    NftIngress,
    NftDnat,
}

const ALL: [Mean; 9] = [
    Mean::Native,
    Mean::NativeWithout,
    Mean::NativeToPass,
    Mean::NativeToPassWithout,
    Mean::Generic,
    Mean::GenericWithout,
    Mean::Tc,
    Mean::NftIngress,
    Mean::NftDnat,
];

/// How the peer takes frames. One with neither takes none that are redirected natively.
#[derive(Clone, Copy, PartialEq)]
pub enum Peer {
    Plain,
    Gro,
    Pass,
}

pub struct Means<'obj> {
    native: [Programs; 2],
    generic: [Programs; 2],
    tc: Tc<'obj>,
    peer: Cell<Peer>,
}

impl Mean {
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "native, GRO at the peer",
            Self::NativeWithout => "the same without ledger",
            Self::NativeToPass => "native, pass at the peer",
            Self::NativeToPassWithout => "pass, without ledger",
            Self::Generic => "generic",
            Self::GenericWithout => "generic without ledger",
            Self::Tc => "tc redirect_peer",
            Self::NftIngress => "nft ingress fwd",
            Self::NftDnat => "nft DNAT",
        }
    }

    fn peer(self) -> Peer {
        match self {
            Self::Native | Self::NativeWithout => Peer::Gro,
            Self::NativeToPass | Self::NativeToPassWithout => Peer::Pass,
            _ => Peer::Plain,
        }
    }
}

impl<'obj> Means<'obj> {
    pub fn new(
        storage: &'obj mut MaybeUninit<OpenObject>,
        bed: &Bed,
        product: &Product,
    ) -> Result<Self> {
        let programs = |mode| -> Result<_> {
            let with = product.programs(mode, Ledger::On)?;
            Ok([with, product.programs(mode, Ledger::Off)?])
        };
        Ok(Self {
            native: programs("native")?,
            generic: programs("skb")?,
            tc: Tc::new(storage, bed)?,
            peer: Cell::new(Peer::Plain),
        })
    }

    /// Some kernels lack nft.
    pub fn find_working(&mut self, bed: &Bed) -> Vec<Mean> {
        let mut works = |mean: &Mean| {
            let installed = self.install(bed, *mean);
            match installed.and_then(|_| self.remove(bed, *mean)) {
                Ok(()) => true,
                Err(error) => {
                    eprintln!("left out: {}: {error:#}", mean.name());
                    false
                }
            }
        };
        ALL.into_iter().filter(|mean| works(mean)).collect()
    }

    /// What is returned must be kept until the mean is removed.
    pub fn install(&mut self, bed: &Bed, mean: Mean) -> Result<Vec<OwnedFd>> {
        self.set_peer(bed, mean.peer())?;
        let server = server(0);
        match mean {
            Mean::Native | Mean::NativeToPass => self.native[0].attach(bed, Hook::Native),
            Mean::NativeWithout | Mean::NativeToPassWithout => {
                self.native[1].attach(bed, Hook::Native)
            }
            Mean::Generic => self.generic[0].attach(bed, Hook::Generic),
            Mean::GenericWithout => self.generic[1].attach(bed, Hook::Generic),
            Mean::Tc => self.tc.attach().map(|()| Vec::new()),
            Mean::NftIngress => nft(&format!(
                "table netdev bench {{ chain ingress {{
                    type filter hook ingress device dut0 priority 0;
                    ip saddr {CLIENT} udp dport {PORT} ether daddr set {SINK_MAC} \
                        ip daddr set {server} fwd to \"dut1\"; }}; }}",
            ))
            .map(|()| Vec::new()),
            Mean::NftDnat => nft(&format!(
                "table ip bench {{ chain prerouting {{
                    type nat hook prerouting priority -100;
                    ip saddr {CLIENT} udp dport {PORT} dnat to {server}; }}; }}",
            ))
            .map(|()| Vec::new()),
        }
    }

    pub fn remove(&mut self, bed: &Bed, mean: Mean) -> Result<()> {
        match mean {
            Mean::Generic | Mean::GenericWithout => bed.detach(Hook::Generic),
            Mean::Tc => self.tc.detach(),
            Mean::NftIngress | Mean::NftDnat => nft("flush ruleset"),
            _ => bed.detach(Hook::Native),
        }
    }

    fn set_peer(&self, bed: &Bed, peer: Peer) -> Result<()> {
        let before = self.peer.replace(peer);
        if before == peer {
            return Ok(());
        }
        let pass = bed.skel.progs.pass.as_fd();
        within(&bed.far, || peer.replace(before, "sink", pass))
    }
}

impl Peer {
    /// Makes a device of this namespace such a peer, which was another one before.
    pub fn replace(self, before: Self, device: &str, pass: BorrowedFd<'_>) -> Result<()> {
        let index = ifindex(device)? as i32;
        match before {
            Self::Plain => {}
            Self::Gro => run("ethtool", &["-K", device, "gro", "off"])?,
            Self::Pass => detach(pass, index, Hook::Native)?,
        }
        match self {
            Self::Plain => Ok(()),
            Self::Gro => run("ethtool", &["-K", device, "gro", "on"]),
            Self::Pass => attach(pass, index, Hook::Native),
        }
    }
}

pub fn nft(commands: &str) -> Result<()> {
    run("nft", &[commands])
}
