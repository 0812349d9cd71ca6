//! Hosts that are not as they were: after a reboot, and with servers that come later.

use super::bed::{Bed, MAC};
use super::interfaces::said;
use crate::fixture::{Ns, eventually};

/// A server behind a device of the host.
fn connect(bed: &Bed, device: &str, server: &Ns, addr: &str) {
    bed.ns.veth(device, server, "eth0");
    server.ip(&format!("addr add {addr}/24 dev eth0"));
}

/// The host's devices go, and come again under other indexes: out0 and other0 have swapped their names.
fn reboot(bed: &Bed, server: &Ns, routed: &Ns) {
    bed.tool().ok("detach --all");
    for device in ["in0", "out0", "other0", "new0", "web0", "far0"] {
        if bed.ns.ip("-br link").contains(&format!("{device}@")) {
            bed.ns.ip(&format!("link del {device}"));
        }
    }
    eventually("the kernel has removed the devices", || {
        !server.ip("-br link").contains("eth0") && !routed.ip("-br link").contains("eth0")
    });
    for pair in ["new", "other", "out", "in"] {
        bed.ns
            .ip(&format!("link add {pair}0 type veth peer name {pair}1"));
        bed.ns.ip(&format!("link set {pair}0 up"));
        bed.ns.ip(&format!("link set {pair}1 up"));
    }
    connect(bed, "far0", routed, "10.3.0.2");
    bed.ns.ip("addr add 10.3.0.1/24 dev far0");
    connect(bed, "web0", server, "10.2.0.2");
}

#[test]
fn one_apply_restores_what_there_was_before_a_reboot() {
    let bed = Bed::new();
    let (server, routed) = (Ns::new("server"), Ns::new("routed"));
    connect(&bed, "web0", &server, "10.2.0.2");
    connect(&bed, "far0", &routed, "10.3.0.2");
    bed.ns.ip("addr add 10.3.0.1/24 dev far0");
    let tool = bed.tool();
    tool.ok(&format!("rule add --port 1 --server-netns {}", server.name));
    tool.ok("rule add --port 2 --server 10.3.0.2");
    tool.ok("rule add --port 3 --dev web0");
    tool.ok(&format!(
        "rule add --port 4 --server 10.1.1.1 --mac {MAC} --dev out0"
    ));
    tool.ok(&format!(
        "rule add --port 5 --server 10.1.1.1 --mac {MAC} --dev other0"
    ));
    tool.ok("rule add --port 6 --in in0 --forward other0");
    let listed = bed.file("listed.json", &tool.ok("rule list --json").out);
    let exported = bed.file("exported.toml", &bed.export());
    let before = bed.export();
    for file in [exported, listed] {
        reboot(&bed, &server, &routed);
        if file.ends_with("json") {
            tool.ok("attach in0");
        }
        tool.ok(&format!("apply {file}"));
        assert_eq!(bed.export(), before, "{file}");
        for row in bed.rows() {
            let name = row["ifname"].as_str().unwrap();
            assert_eq!(row["ifindex"], bed.ns.ifindex(name), "{row}");
            // That of the others was given, and nobody has it.
            let is_found = !row["origin"].is_null() || row["server"].is_null();
            assert!(!is_found || row["state"] == "up", "{row}");
        }
    }
}

#[test]
fn a_server_that_comes_later_is_found_then() {
    let bed = Bed::new();
    let (soon, later) = (Ns::new("soon"), Ns::new("later"));
    let text = format!(
        "[[rule]]\nsrc = \"10.0.0.1\"\nreply = \"none\"\n\
         [[rule.backend]]\nserver = \"10.2.0.2\"\nnetns = \"{}\"\n\
         [[rule.backend]]\nserver = \"10.1.1.1\"\nmac = \"{MAC}\"\ndevice = \"out0\"\n\
         [[rule]]\nsrc = \"10.0.0.2\"\nreply = \"none\"\n[[rule.backend]]\nnetns = \"{}\"\n\
         [[rule]]\nsrc = \"10.0.0.3\"\naction = \"forward\"\ndevice = \"plugged0\"\n",
        soon.name, later.name,
    );
    let file = bed.file("a.toml", &text);
    let tool = bed.tool();
    tool.run(&format!("apply {file}"))
        .fails(3, &[&file, "and 2 more can't be found"]);
    assert!(bed.rows().is_empty());
    let run = tool.run(&format!("apply --partial {file}"));
    assert_eq!((run.code, said(&run)), (1, 3), "{run:?}");
    let state = |server: &str| {
        let rows = bed.rows();
        let row = rows.iter().find(|row| row["server"] == server);
        row.map(|row| row["state"].as_str().unwrap().to_string())
    };
    // The one whose address is known has its place, and no packets.
    assert_eq!(state("10.2.0.2").as_deref(), Some("device_gone"));
    assert_eq!(bed.rows().len(), 3);
    let listed = bed.file("listed.json", &tool.ok("rule list --json").out);
    let run = tool.run(&format!("apply --partial {listed}"));
    assert!(
        run.code == 1 && run.out.starts_with("nothing to change"),
        "{run:?}"
    );

    connect(&bed, "soon0", &soon, "10.2.0.2");
    tool.ok("rule refresh");
    assert_eq!(state("10.2.0.2").as_deref(), Some("up"));
    connect(&bed, "later0", &later, "10.4.0.2");
    bed.ns.ip("link add plugged0 type veth peer name plugged1");
    bed.ns.ip("link set plugged1 up");
    bed.ns.ip("link set plugged0 up");
    tool.ok(&format!("apply {file}"));
    assert_eq!(state("10.4.0.2").as_deref(), Some("up"));
    assert!(
        bed.rows()
            .iter()
            .all(|row| row["state"] == "up" || row["mac"] == MAC)
    );
    tool.ok(&format!("diff {file}"));

    // One that is there, and can't be found again, stays as it is.
    let before = bed.rows();
    later.ip("addr flush dev eth0");
    tool.run(&format!("apply {file}")).fails(3, &[&file]);
    let run = tool.run(&format!("apply --partial {file}"));
    assert!(
        run.code == 1 && run.out.starts_with("nothing to change"),
        "{run:?}"
    );
    assert_eq!(bed.rows(), before);
}
