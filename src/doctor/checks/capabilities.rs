//! What this process may not do.

use crate::doctor::facts::{Facts, HostFacts, Trial};
use crate::model::Finding;

const REFUSED: &str = "`attach` is refused";
const NOT_TRIED: &str =
    "`attach` is refused, and whether this kernel loads the program was not tried";

pub fn check(facts: &Facts) -> Vec<Finding> {
    lacking(&facts.host).into_iter().collect()
}

fn lacking(host: &HostFacts) -> Option<Finding> {
    let lacking = [&host.lacks_to_attach[..], &host.lacks_to_look].concat();
    if lacking.is_empty() {
        return forbidden(host);
    }
    let some = "some of these checks can't be made";
    let consequence = match (&host.program, host.lacks_to_attach.is_empty()) {
        (_, true) => some.to_string(),
        (Trial::Loaded, _) => format!("{some}; {REFUSED}"),
        _ => format!("{some}; {NOT_TRIED}"),
    };
    let finding = if host.lacks_to_attach.is_empty() || host.may_change_rules {
        Finding::warning("capabilities", "this process").remedy("run as root to check all")
    } else {
        Finding::problem("capabilities", "this process")
            .remedy("run as root, and give a container these capabilities")
    };
    let evidence = format!("it lacks {}", lacking.join(", "));
    Some(finding.consequence(consequence).evidence(evidence))
}

/// The process has all capabilities, but those of a user namespace.
fn forbidden(host: &HostFacts) -> Option<Finding> {
    let Trial::Forbidden(refusal) = &host.program else {
        return None;
    };
    Some(
        Finding::problem("capabilities", "this process")
            .consequence(NOT_TRIED)
            .evidence(&refusal.why)
            .remedy(refusal.remedy.clone()),
    )
}

#[cfg(test)]
mod tests {
    use super::super::testing::host;
    use super::*;
    use crate::model::Severity;

    #[test]
    fn who_may_change_rules_or_attach_can_do_without_capabilities() {
        let severity = |lacks_to_attach, may_change_rules| {
            let mut facts = host();
            facts.host.lacks_to_attach = lacks_to_attach;
            facts.host.lacks_to_look = vec!["CAP_SYS_ADMIN".into()];
            facts.host.may_change_rules = may_change_rules;
            check(&facts)[0].severity
        };
        assert_eq!(severity(vec!["CAP_BPF".into()], true), Severity::Warning);
        assert_eq!(severity(vec!["CAP_BPF".into()], false), Severity::Problem);
        assert_eq!(severity(Vec::new(), false), Severity::Warning);
    }

    #[test]
    fn what_was_not_tried_is_said() {
        let mut facts = host();
        facts.host.lacks_to_attach = vec!["CAP_PERFMON".into()];
        facts.host.program = Trial::NotTried;
        assert!(check(&facts)[0].consequence.contains("was not tried"));
    }
}
