//! Where this kernel keeps whether a device has a link, which no helper tells the program: see bpf/link.h.

use std::path::Path;

use anyhow::{Context, Result};
use libbpf_rs::btf::Btf;
use libbpf_rs::btf::types::{MemberAttr, Struct};
use libbpf_rs::{ProgramType, libbpf_sys};

use super::abi;
use super::refusal::no_btf;
use crate::error::{Exit, failure};
use crate::host::kernel::{BTF, release};

/// Distances in bytes.
#[derive(Clone, Copy)]
pub struct LinkLayout {
    /// From a value of a map of devices back to the pointer to its device.
    to_device: u16,
    /// From a device to its flags, and to its state.
    to_flags: u16,
    to_state: u16,
}

/// That the program can see links on this kernel.
pub fn require() -> Result<()> {
    LinkLayout::of_kernel().map(drop)
}

impl LinkLayout {
    /// As the kernel's own types say. Exit 6 where it does not have them, or lets no program read its memory.
    pub fn of_kernel() -> Result<Self> {
        if !Path::new(BTF).exists() {
            return Err(no_btf());
        }
        let read = libbpf_sys::BPF_FUNC_probe_read_kernel;
        if ProgramType::Xdp.is_helper_supported(read).ok() == Some(false) {
            let why = "this kernel lets no program read its memory (lockdown)";
            return Err(failure(Exit::Unsupported, why));
        }
        let btf = Btf::from_vmlinux().context("cannot read the kernel's types")?;
        find(&btf).ok_or_else(|| {
            let why = format!("this kernel ({}) keeps links where nobody knows", release());
            failure(Exit::Unsupported, why)
        })
    }

    pub fn put(self, config: &mut abi::interface) {
        config.to_device = self.to_device;
        config.to_flags = self.to_flags;
        config.to_state = self.to_state;
    }
}

fn find(btf: &Btf) -> Option<LinkLayout> {
    // The program reads 64 bits of the state, and a pointer of 64 bits.
    btf.ptr_size().ok().filter(|size| size.get() == 8)?;
    let (map, device) = ("bpf_dtab_netdev", "net_device");
    let value = distance(btf, map, "val")?;
    Some(LinkLayout {
        to_device: value.checked_sub(distance(btf, map, "dev")?)?,
        to_flags: distance(btf, device, "flags")?,
        to_state: distance(btf, device, "state")?,
    })
}

/// Of a field from the beginning of its structure.
fn distance(btf: &Btf, structure: &str, field: &str) -> Option<u16> {
    let structure: Struct = btf.type_by_name(structure)?;
    let mut members = structure.iter();
    let member = members.find(|member| member.name.is_some_and(|name| name == field))?;
    match member.attr {
        MemberAttr::Normal { offset } => u16::try_from(offset / 8).ok(),
        MemberAttr::BitField { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_says_where_it_keeps_links() {
        let btf = Btf::from_vmlinux().expect("it has BTF");
        let found = find(&btf).expect("it has these fields");
        assert!(found.to_device > 0 && found.to_flags != found.to_state);
        assert_eq!(distance(&btf, "net_device", "no such field"), None);
        assert_eq!(distance(&btf, "no_such_structure", "dev"), None);
    }
}
