//! Tracing programs that tell a capture which of its frames the kernel lost. They belong to this process.

use std::mem::MaybeUninit;

use anyhow::{Context, Result};
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{Link, OpenObject};

use super::abi::{LostSkel, LostSkelBuilder, LostTcSkel, LostTcSkelBuilder};
use super::ledger::{self, Hook};
use super::load::reuse_shared;
use super::{Pins, refusal};
use crate::host::netns;

/// Those for one hook.
pub struct Lost {
    programs: Programs,
    _links: Vec<Link>,
}

enum Programs {
    Xdp(LostSkel<'static>),
    Tc(LostTcSkel<'static>),
}

impl Lost {
    /// Has them run, with what `prepare` does to them before they are loaded.
    pub fn begin(
        pins: &Pins,
        hook: Hook,
        prepare: impl FnOnce(&mut OpenObject) -> Result<()>,
    ) -> Result<Self> {
        // It has to outlive the skeleton, and a run has two at most.
        let storage: &'static mut MaybeUninit<OpenObject> =
            Box::leak(Box::new(MaybeUninit::uninit()));
        match hook {
            Hook::Xdp => {
                let mut open = LostSkelBuilder::default().open(storage)?;
                let constants = open.maps.rodata_data.as_deref_mut();
                constants.context("no constants")?.netns = netns::inode()?;
                prepare(open.open_object_mut())?;
                let mut skeleton = refusal::explain(|| open.load())?;
                let data = skeleton.maps.bss_data.as_deref_mut();
                data.context("no variables")?.egress_id = ledger::egress_id(pins)?;
                let programs = &skeleton.progs;
                let links = vec![
                    programs.redirect_err.attach_trace()?,
                    programs.devmap_xmit.attach_trace()?,
                    programs.exception.attach_trace()?,
                ];
                Ok(Lost {
                    programs: Programs::Xdp(skeleton),
                    _links: links,
                })
            }
            Hook::Tc => {
                let mut open = LostTcSkelBuilder::default().open(storage)?;
                let constants = open.maps.rodata_data.as_deref_mut();
                constants.context("no constants")?.netns = netns::inode()?;
                reuse_shared(pins, open.open_object_mut(), |_| true)?;
                prepare(open.open_object_mut())?;
                let skeleton = refusal::explain(|| open.load())?;
                let link = skeleton.progs.skb_dropped.attach_trace()?;
                Ok(Lost {
                    programs: Programs::Tc(skeleton),
                    _links: vec![link],
                })
            }
        }
    }

    /// How many lost frames there was no room to tell of.
    pub fn missed(&self) -> u64 {
        let missed = match &self.programs {
            Programs::Xdp(skeleton) => skeleton.maps.bss_data.as_deref().map(|data| data.missed),
            Programs::Tc(skeleton) => skeleton.maps.bss_data.as_deref().map(|data| data.missed),
        };
        missed.unwrap_or(0)
    }
}
