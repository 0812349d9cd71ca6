//! What this process may do.

use std::fs;

use crate::model::Refusal;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    NetAdmin,
    SysAdmin,
    Perfmon,
    Bpf,
}

use Capability::{Bpf, NetAdmin, Perfmon, SysAdmin};

/// What `attach` needs besides write access to the pins: to make maps and load programs, to load XDP
/// programs, and to load programs that calculate with pointers, or trace.
pub const ATTACH: [Capability; 3] = [Bpf, NetAdmin, Perfmon];

/// What looking into other network namespaces needs.
pub const ENTER: [Capability; 1] = [SysAdmin];

impl Capability {
    pub fn name(self) -> &'static str {
        match self {
            NetAdmin => "CAP_NET_ADMIN",
            SysAdmin => "CAP_SYS_ADMIN",
            Perfmon => "CAP_PERFMON",
            Bpf => "CAP_BPF",
        }
    }

    /// Linux uapi: linux/capability.h.
    fn bit(self) -> u64 {
        1 << match self {
            NetAdmin => 12,
            SysAdmin => 21,
            Perfmon => 38,
            Bpf => 39,
        }
    }

    /// CAP_SYS_ADMIN stands for those that were once a part of it.
    fn is_in(self, effective: u64) -> bool {
        let part = matches!(self, Perfmon | Bpf) && effective & SysAdmin.bit() != 0;
        part || effective & self.bit() != 0
    }
}

/// Those that this process has not. What can't be known is not missing.
pub fn missing(needed: &[Capability]) -> Vec<&'static str> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    effective.map_or_else(Vec::new, |effective| of(needed, effective))
}

fn of(needed: &[Capability], effective: u64) -> Vec<&'static str> {
    let missing = needed.iter().filter(|needed| !needed.is_in(effective));
    missing.map(|capability| capability.name()).collect()
}

/// What keeps this process from attaching, and the remedy; None where nothing does that can be known.
pub fn refused_to_attach() -> Option<Refusal> {
    let lacking = missing(&ATTACH);
    if !lacking.is_empty() {
        let (lacking, all) = (join(&lacking), join(&ATTACH.map(Capability::name)));
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
fn join(names: &[&str]) -> String {
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
        assert_eq!(of(&ATTACH, 0), ["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"]);
        assert_eq!(of(&ATTACH, 1 << 39 | 1 << 12), ["CAP_PERFMON"]);
        assert_eq!(of(&ATTACH, 1 << 39 | 1 << 38 | 1 << 12), [""; 0]);
        assert_eq!(of(&ATTACH, 1 << 21), ["CAP_NET_ADMIN"]);
        assert_eq!(of(&ENTER, 1 << 12), ["CAP_SYS_ADMIN"]);
    }
}
