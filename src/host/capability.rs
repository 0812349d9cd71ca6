//! What this process may do.

use std::fs;

use rustix::thread::{CapabilitySet, capabilities};

use crate::model::Refusal;

/// What `attach` needs besides write access to the pins: to make maps and load programs, to load XDP
/// programs, and to load programs that calculate with pointers, or trace.
pub const ATTACH: CapabilitySet = CapabilitySet::BPF
    .union(CapabilitySet::NET_ADMIN)
    .union(CapabilitySet::PERFMON);

/// What looking into other network namespaces needs.
pub const ENTER: CapabilitySet = CapabilitySet::SYS_ADMIN;

/// Those that this process has not. What can't be known is not missing.
pub fn missing(needed: CapabilitySet) -> Vec<String> {
    capabilities(None).map_or_else(|_| Vec::new(), |has| names(lacking(needed, has.effective)))
}

/// CAP_SYS_ADMIN stands for those that were once a part of it.
fn lacking(needed: CapabilitySet, mut effective: CapabilitySet) -> CapabilitySet {
    if effective.contains(CapabilitySet::SYS_ADMIN) {
        effective |= CapabilitySet::PERFMON | CapabilitySet::BPF;
    }
    needed - effective
}

fn names(set: CapabilitySet) -> Vec<String> {
    let mut names: Vec<_> = set
        .iter_names()
        .map(|(name, _)| format!("CAP_{name}"))
        .collect();
    names.sort();
    names
}

/// What keeps this process from attaching, and the remedy; None where nothing does that can be known.
pub fn refused_to_attach() -> Option<Refusal> {
    let lacking = missing(ATTACH);
    if !lacking.is_empty() {
        let (lacking, all) = (join(&lacking), join(&names(ATTACH)));
        let remedy = format!("run it as root, or with {all}");
        return Some((format!("this process lacks {lacking}"), remedy).into());
    }
    let refusal = (
        "this process is in a user namespace",
        "run it as root of the host",
    );
    in_user_namespace().then(|| refusal.into())
}

/// "A, B and C".
fn join(names: &[String]) -> String {
    match names {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        _ => names.concat(),
    }
}

/// Whether this process is root, or has capabilities, in a user namespace alone, as in a rootless
/// container: the kernel asks for those of the host.
fn in_user_namespace() -> bool {
    let all = ["0", "0", "4294967295"];
    let map = fs::read_to_string("/proc/self/uid_map");
    map.is_ok_and(|map| !map.split_whitespace().eq(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let of = |effective| names(lacking(ATTACH, effective));
        let (bpf, net) = (CapabilitySet::BPF, CapabilitySet::NET_ADMIN);
        let none = CapabilitySet::empty();
        assert_eq!(of(none), ["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"]);
        assert_eq!(of(bpf | net), ["CAP_PERFMON"]);
        assert_eq!(of(ATTACH), [""; 0]);
        assert_eq!(of(CapabilitySet::SYS_ADMIN), ["CAP_NET_ADMIN"]);
    }
}
