//! What the host lacks.

use super::{mode, targets};
use crate::doctor::facts::Trial;
use crate::doctor::facts::{Facts, HostFacts};
use crate::model::Finding;

pub fn check(setup: &Facts) -> Vec<Finding> {
    let host = &setup.host;
    let all = [
        kernel(host),
        bpffs(host),
        capabilities(host),
        ledger(host),
        features(setup),
    ];
    all.into_iter().flatten().collect()
}

fn kernel(host: &HostFacts) -> Option<Finding> {
    let (evidence, mend) = refused(&host.program)?;
    Some(
        Finding::problem("kernel", "kernel")
            .consequence("the program can't be loaded, and `attach` fails")
            .evidence(evidence)
            .mend(mend),
    )
}

fn bpffs(host: &HostFacts) -> Option<Finding> {
    let why = host.no_bpffs.as_ref()?;
    let (evidence, mend) = why.rsplit_once(": ").unwrap_or((why, "mount one"));
    Some(
        Finding::problem("bpffs", "pins")
            .consequence("nothing can be attached or kept")
            .evidence(evidence)
            .mend(mend),
    )
}

fn capabilities(host: &HostFacts) -> Option<Finding> {
    let lacking = [&host.lacks_to_attach[..], &host.lacks_to_look].concat();
    if lacking.is_empty() {
        return forbidden(host);
    }
    let refused = match host.program {
        Trial::Loaded => "`attach` is refused",
        _ => "`attach` is refused, and whether this kernel loads the program was not tried",
    };
    let consequence = match host.lacks_to_attach.is_empty() {
        true => "some of these checks can't be made".to_string(),
        false => format!("some of these checks can't be made; {refused}"),
    };
    let finding = if host.lacks_to_attach.is_empty() || host.may_change_rules {
        Finding::warning("capabilities", "this process").mend("run as root to check all")
    } else {
        Finding::problem("capabilities", "this process")
            .mend("run as root, and give a container these capabilities")
    };
    let evidence = format!("it lacks {}", lacking.join(", "));
    Some(finding.consequence(consequence).evidence(evidence))
}

/// With all capabilities, but those of a user namespace.
fn forbidden(host: &HostFacts) -> Option<Finding> {
    let Trial::Forbidden(why) = &host.program else {
        return None;
    };
    let (evidence, mend) = why.rsplit_once(": ").unwrap_or((why, "run as root"));
    Some(
        Finding::problem("capabilities", "this process")
            .consequence(
                "`attach` is refused, and whether this kernel loads the program was not tried",
            )
            .evidence(evidence)
            .mend(mend),
    )
}

fn ledger(host: &HostFacts) -> Option<Finding> {
    let (evidence, mend) = refused(&host.ledger)?;
    Some(
        Finding::warning("btf", "kernel")
            .consequence("frames that are lost after they were redirected are not counted")
            .evidence(evidence)
            .mend(mend),
    )
}

/// Why, and the remedy.
fn refused(trial: &Trial) -> Option<(&str, &str)> {
    let Trial::Refused(why) = trial else {
        return None;
    };
    Some(
        why.rsplit_once(": ")
            .unwrap_or((why, "boot another kernel")),
    )
}

/// Where a finding rests on what was guessed.
fn features(setup: &Facts) -> Option<Finding> {
    let is_guessed = !setup.host.tells_features;
    let rests_on_it = || !targets::check(setup).is_empty() || !mode::check(setup).is_empty();
    (is_guessed && rests_on_it()).then(|| {
        Finding::warning("netdev", "kernel")
            .consequence("what drivers can do with XDP is guessed")
            .evidence("it has no netdev family of generic netlink")
            .mend("boot Linux 6.3 or later")
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{nic, redirecting};
    use super::*;
    use crate::model::Severity;

    fn names(host: HostFacts) -> Vec<&'static str> {
        let setup = Facts {
            host,
            ..Facts::default()
        };
        check(&setup).iter().map(|finding| finding.check).collect()
    }

    fn well() -> HostFacts {
        HostFacts {
            program: Trial::Loaded,
            ledger: Trial::Loaded,
            tells_features: true,
            ..HostFacts::default()
        }
    }

    #[test]
    fn what_this_kernel_refuses_is_named_with_its_words_and_the_remedy() {
        assert!(names(well()).is_empty());
        let refused = || Trial::Refused("this kernel refused it: R4 invalid: boot another".into());
        let old = HostFacts {
            program: refused(),
            ledger: refused(),
            ..well()
        };
        let setup = Facts {
            host: old,
            ..Facts::default()
        };
        let found = check(&setup);
        let checks: Vec<_> = found.iter().map(|finding| finding.check).collect();
        assert_eq!(checks, ["kernel", "btf"]);
        for finding in found {
            assert_eq!(finding.evidence, "this kernel refused it: R4 invalid");
            assert_eq!(finding.mend, "boot another");
        }
    }

    #[test]
    fn that_features_are_guessed_is_said_where_a_finding_rests_on_it() {
        let guessing = || HostFacts {
            tells_features: false,
            ..well()
        };
        assert!(names(guessing()).is_empty());
        let mut setup = redirecting(nic(1), nic(2));
        setup.host = guessing();
        assert!(check(&setup).is_empty());
        for known in [Some(false), None] {
            let egress = setup.devices.get_mut(&2).unwrap();
            egress.features.xdp.redirect_target = known;
            assert_eq!(check(&setup)[0].check, "netdev");
        }
    }

    #[test]
    fn who_may_change_rules_or_attach_can_do_without_capabilities() {
        let severity = |lacks_to_attach, may_change_rules| {
            let setup = Facts {
                host: HostFacts {
                    lacks_to_attach,
                    lacks_to_look: vec!["CAP_SYS_ADMIN"],
                    may_change_rules,
                    ..well()
                },
                ..Facts::default()
            };
            check(&setup)[0].severity
        };
        assert_eq!(severity(vec!["CAP_BPF"], true), Severity::Warning);
        assert_eq!(severity(vec!["CAP_BPF"], false), Severity::Problem);
        assert_eq!(severity(Vec::new(), false), Severity::Warning);
    }

    #[test]
    fn what_was_not_tried_is_said() {
        let host = HostFacts {
            lacks_to_attach: vec!["CAP_PERFMON"],
            program: Trial::NotTried,
            ..well()
        };
        let setup = Facts {
            host,
            ..Facts::default()
        };
        assert!(check(&setup)[0].consequence.contains("was not tried"));
    }
}
