//! Where this kernel keeps what no helper tells the programs: whether a device has a link (bpf/link.h), and in
//! which network namespace it is (bpf/hook_tc.h).

use std::path::Path;

use anyhow::{Context, Result};
use libbpf_rs::btf::Btf;
use libbpf_rs::btf::types::{Composite, MemberAttr, Struct};
use libbpf_rs::{ProgramType, libbpf_sys};

use super::abi;
use super::refusal::no_btf;
use crate::error::{Exit, failure};
use crate::host::kernel::{BTF, release};

/// Where a program finds whether a device has a link. Distances in bytes.
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

/// Where a tc program finds the network namespace that an interface is in: see bpf/hook_tc.h.
#[derive(Clone, Copy)]
pub struct NetnsLayout {
    to_skb_device: u16,
    to_net: u16,
    to_inum: u16,
}

impl NetnsLayout {
    /// None where the kernel does not say, or lets no program read its memory.
    pub fn of_kernel() -> Option<Self> {
        LinkLayout::of_kernel().ok()?;
        find_netns(&Btf::from_vmlinux().ok()?)
    }

    pub fn put(self, config: &mut abi::interface) {
        config.to_skb_device = self.to_skb_device;
        config.to_net = self.to_net;
        config.to_inum = self.to_inum;
    }
}

fn find_netns(btf: &Btf) -> Option<NetnsLayout> {
    Some(NetnsLayout {
        to_skb_device: distance(btf, "sk_buff", "dev")?,
        to_net: distance(btf, "net_device", "nd_net")?,
        to_inum: distance(btf, "net", "ns")? + distance(btf, "ns_common", "inum")?,
    })
}

/// Of a field from the beginning of its structure.
fn distance(btf: &Btf, structure: &str, field: &str) -> Option<u16> {
    let structure: Struct = btf.type_by_name(structure)?;
    u16::try_from(bits_to(btf, structure.into(), field)? / 8).ok()
}

/// The same in bits, also of a field in a structure or union without a name.
fn bits_to(btf: &Btf, within: Composite, field: &str) -> Option<u32> {
    within.iter().find_map(|member| {
        let MemberAttr::Normal { offset } = member.attr else {
            return None;
        };
        match member.name {
            Some(name) if !name.is_empty() => (name == field).then_some(offset),
            _ => {
                let inner: Composite = btf.type_by_id(member.ty)?;
                Some(offset + bits_to(btf, inner, field)?)
            }
        }
    })
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
        let netns = find_netns(&btf).expect("it has these fields");
        assert!(netns.to_skb_device > 0 && netns.to_net > 0 && netns.to_inum > 0);
        assert_eq!(distance(&btf, "no_such_structure", "dev"), None);
    }
}
