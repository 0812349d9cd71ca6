//! Rules whose own devices are gone, or have no program.

use super::bed::Bed;

/// The remedy of the finding that a check has; None where it has none.
fn mend(bed: &Bed, check: &str) -> Option<String> {
    let findings = bed.tool().run("doctor --json").json();
    let mut findings = findings.as_array().expect("findings").iter();
    let finding = findings.find(|finding| finding["check"] == check)?;
    finding["mend"].as_str().map(String::from)
}

#[test]
fn a_rule_says_when_its_devices_are_gone() {
    let bed = Bed::bare();
    let (tool, host) = (bed.tool(), bed.host());
    tool.ok("attach lan --mode skb");
    host.ip("link add aside type veth peer name beside");
    host.ip("link set aside up");
    host.ip("link set beside up");
    tool.ok("rule add --src 10.0.0.0/8 --proto icmp --in aside --pass");
    let attach = mend(&bed, "rule-interface").expect("a finding");
    assert!(attach.ends_with("attach aside`"), "{attach}");
    tool.ok("attach aside --mode skb");
    tool.ok("rule add --src 10.0.0.0/8 --port 9 --in lan --forward aside");
    for check in ["rule-interface", "rule-device"] {
        assert_eq!(mend(&bed, check), None);
    }
    host.ip("link del aside");
    tool.ok("detach aside");
    let delete = mend(&bed, "rule-interface").expect("a finding");
    assert!(
        delete.contains("rule del --src 10.0.0.0/8 --proto icmp"),
        "{delete}"
    );
    let delete = mend(&bed, "rule-device").expect("a finding");
    assert!(delete.contains("--port 9 --in lan"), "{delete}");
}
