//! Programs that the kernel refuses to load.

use crate::doctor::facts::{Facts, Trial};
use crate::model::{Finding, Refusal};

pub fn check(facts: &Facts) -> Vec<Finding> {
    let program = Finding::problem("kernel", "kernel")
        .consequence("the program can't be loaded, and `attach` fails");
    let ledger = Finding::warning("btf", "kernel")
        .consequence("frames that are lost after they were redirected are not counted");
    let links = Finding::warning("btf", "kernel")
        .consequence("backends whose link is down get new flows, too");
    let host = &facts.host;
    let all = [
        (program, &host.program),
        (ledger, &host.ledger),
        (links, &host.links),
    ];
    let refused = |(finding, trial): (Finding, &Trial)| match trial {
        Trial::Refused(Refusal { why, remedy }) => {
            Some(finding.evidence(why).remedy(remedy.clone()))
        }
        _ => None,
    };
    all.into_iter().filter_map(refused).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::host;
    use super::*;
    use crate::model::Remedy;

    #[test]
    fn what_this_kernel_refuses_is_named_with_its_words_and_the_remedy() {
        assert!(check(&host()).is_empty());
        let why = "this kernel refused it: R4 invalid";
        let mut facts = host();
        facts.host.program = Trial::Refused((why, "boot another").into());
        facts.host.ledger = facts.host.program.clone();
        facts.host.links = facts.host.program.clone();
        let found = check(&facts);
        let checks: Vec<_> = found.iter().map(|finding| finding.check).collect();
        assert_eq!(checks, ["kernel", "btf", "btf"]);
        for finding in found {
            assert_eq!(finding.evidence, why);
            assert_eq!(finding.remedy, Remedy::from("boot another"));
        }
    }
}
