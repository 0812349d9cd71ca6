//! The program that passes every frame, at the peers of veths. It stays while its link is pinned, in
//! `<state>/passes/`, and its device exists.

use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use anyhow::{Context, Result};
use libbpf_rs::Link;
use libbpf_rs::query::LinkTypeInfo;
use libbpf_rs::skel::{OpenSkel, SkelBuilder};

use super::abi::PassSkelBuilder;
use super::bpffs::{At, exists, mkdir, remove_file};
use super::{Pins, mode, refusal, sys};
use crate::host::device::Device;
use crate::model::{DeviceRef, Mode};

/// Puts the program on a device of the network namespace that the caller is in, natively, where no other
/// program is.
pub fn attach(pins: &Pins, device: &Device, place: &DeviceRef) -> Result<()> {
    let program = load()?;
    let link = mode::link(&program, device, Mode::Native);
    let link = link.map_err(|refused| refused.of(&format!("{place} takes no pass program")))?;
    mkdir(&pins.passes(), 0o700).at("cannot make", &pins.passes())?;
    let path = pin(pins, place);
    // Of a device that had this index before.
    remove_file(&path)?;
    sys::pin(link.as_fd(), &path)
}

fn load() -> Result<OwnedFd> {
    let mut storage = MaybeUninit::uninit();
    let open = PassSkelBuilder::default().open(&mut storage)?;
    let loaded = refusal::explain(|| open.load())?;
    Ok(loaded.progs.xdpredir_pass.as_fd().try_clone_to_owned()?)
}

/// Takes it off, from whatever network namespace. False where the device is gone, or somebody else has
/// taken it off.
pub fn detach(pins: &Pins, place: &DeviceRef) -> Result<bool> {
    let path = pin(pins, place);
    if !exists(&path)? {
        return Ok(false);
    }
    let link = Link::open(&path).at("cannot open", &path)?;
    let is_attached = matches!(link.info()?.info, LinkTypeInfo::Xdp(xdp) if xdp.ifindex != 0);
    // The pin first: should this run end here, the link goes with its last descriptor.
    fs::remove_file(&path).at("cannot remove", &path)?;
    if is_attached {
        link.detach()
            .with_context(|| format!("cannot take the pass program off {place}"))?;
    }
    Ok(is_attached)
}

fn pin(pins: &Pins, place: &DeviceRef) -> PathBuf {
    let name = format!("{}-{}", place.cookie, place.ifindex);
    pins.passes().join(name)
}
