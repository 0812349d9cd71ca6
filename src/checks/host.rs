//! What the host lacks.

use super::Setup;
use crate::model::{Finding, OLDEST_KERNEL};

pub fn check(setup: &Setup) -> Vec<Finding> {
    let host = &setup.host;
    let kernel = host
        .kernel
        .filter(|kernel| *kernel < OLDEST_KERNEL)
        .map(|(major, minor)| {
            Finding::problem("kernel", "kernel")
                .consequence("the program can't be loaded")
                .evidence(format!(
                    "it is {major}.{minor}, and has no bpf_xdp_load_bytes"
                ))
                .mend(format!(
                    "boot Linux {}.{} or later",
                    OLDEST_KERNEL.0, OLDEST_KERNEL.1
                ))
        });
    let bpffs = host.no_bpffs.as_ref().map(|why| {
        let (evidence, mend) = why.rsplit_once(": ").unwrap_or((why, "mount one"));
        Finding::problem("bpffs", "pins")
            .consequence("nothing can be attached or kept")
            .evidence(evidence)
            .mend(mend)
    });
    let capabilities = Some(&host.missing_capabilities).filter(|missing| !missing.is_empty());
    let capabilities = capabilities.map(|missing| {
        let evidence = format!("it lacks {}", missing.join(", "));
        if host.may_change_rules {
            return Finding::warning("capabilities", "this process")
                .consequence(
                    "some of these checks can't be made; `attach` and `detach` are refused",
                )
                .evidence(evidence)
                .mend("run as root to check all");
        }
        Finding::problem("capabilities", "this process")
            .consequence("`attach`, `detach` and some of these checks are refused")
            .evidence(evidence)
            .mend("run as root, in a container with these capabilities added")
    });
    let btf = (!host.has_btf).then(|| {
        Finding::warning("btf", "kernel")
            .consequence("frames that are lost after they were redirected are not counted")
            .evidence("it has no BTF (/sys/kernel/btf/vmlinux)")
            .mend("boot a kernel built with CONFIG_DEBUG_INFO_BTF")
    });
    let features = (!host.tells_features).then(|| {
        Finding::warning("netdev", "kernel")
            .consequence("what drivers can do with XDP is guessed")
            .evidence("it has no netdev family of generic netlink")
            .mend("boot Linux 6.3 or later")
    });
    let all = [kernel, bpffs, capabilities, btf, features];
    all.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::super::Host;
    use super::*;
    use crate::model::Severity;

    fn names(host: Host) -> Vec<&'static str> {
        let setup = Setup {
            host,
            ..Setup::default()
        };
        check(&setup).iter().map(|finding| finding.check).collect()
    }

    fn well() -> Host {
        Host {
            kernel: Some(OLDEST_KERNEL),
            has_btf: true,
            tells_features: true,
            ..Host::default()
        }
    }

    #[test]
    fn what_this_kernel_has_and_others_lack_is_named() {
        assert!(names(well()).is_empty());
        let old = Host {
            kernel: Some((5, 17)),
            ..well()
        };
        assert_eq!(names(old), ["kernel"]);
        let bare = Host {
            has_btf: false,
            tells_features: false,
            ..well()
        };
        assert_eq!(names(bare), ["btf", "netdev"]);
    }

    #[test]
    fn who_may_change_rules_can_do_without_capabilities() {
        let severity = |may_change_rules| {
            let setup = Setup {
                host: Host {
                    missing_capabilities: vec!["CAP_BPF"],
                    may_change_rules,
                    ..well()
                },
                ..Setup::default()
            };
            check(&setup)[0].severity
        };
        assert_eq!(severity(true), Severity::Warning);
        assert_eq!(severity(false), Severity::Problem);
    }
}
