//! What packets meet while chains change, and runs that are killed then.

use super::MODES;
use super::bed::Bed;
use crate::fixture::kill;
use crate::fixture::lan::mac;

#[test]
fn while_a_chain_changes_no_packet_is_lost_and_none_gets_through() {
    for mode in MODES {
        let bed = Bed::new(mode);
        bed.add(7001, "");
        let pin = bed.pin(7002);
        // The policy drops ARP, which the VM would repeat on a slow machine.
        let host = mac(&bed.lan.host, "lan");
        let neighbour = format!("neigh replace 192.168.122.1 lladdr {host} dev eth0 nud permanent");
        bed.lan.vm.ip(&neighbour);
        let sent = bed.under_traffic(7001, || {
            for turn in 0..6 {
                // Before and behind the one that drops, by turns.
                let priority = if turn % 2 == 0 { 10 } else { 90 };
                bed.tool()
                    .ok(&format!("chain add lan {pin} --priority {priority}"));
                if turn == 3 {
                    bed.tool().ok("policy lan drop");
                    bed.tool().ok("rule add --port 9 --drop");
                }
                bed.tool().ok(&format!("chain del lan {priority}"));
            }
        });
        assert!(sent > 100, "{mode}: {sent}");
        let [drop, _, skipped] = bed.counted("drop_7001");
        assert_eq!([drop, skipped], [sent, 0], "{mode}: counts are kept");
        let stats = bed.tool().json("stats");
        assert_eq!(stats["interfaces"][0]["not_reached"], 0, "{mode}");
        assert_eq!(
            stats["interfaces"][0]["outcomes"]["redirected"]["packets"],
            sent + 1
        );
    }
}

#[test]
fn a_change_killed_at_any_instant_leaves_the_chain_as_it_was_or_is_to_be() {
    let bed = Bed::new("skb");
    bed.add(7001, "");
    let pin = bed.pin(7002);
    let (add, del) = (format!("chain add lan {pin}"), "chain del lan drop_7002");
    let (old, new) = (vec!["drop_7001"], vec!["drop_7001", "drop_7002"]);
    let pinned = bed.lan.pins.left().len();
    let is_new = |what: &str| {
        let left = bed.chain();
        assert!(left == old || left == new, "{what}: {left:?}");
        let closed: &[u16] = if left == old { &[7001] } else { &[7001, 7002] };
        assert_eq!(bed.dropped(&[7001, 7002]), closed, "{what}");
        left == new
    };
    let changes = kill::count_changes(&mut bed.tool().command(&add));
    bed.tool().ok(del);
    // From when the chain is pinned on.
    for n in changes - 12..changes {
        let _ = kill::before_change(&mut bed.tool().command(&add), n);
        if is_new(&format!("add killed before {n}")) {
            bed.tool().ok(del);
        }
    }
    bed.tool().ok(&add);
    for n in (changes - 12..changes).step_by(3) {
        let _ = kill::before_change(&mut bed.tool().command(del), n);
        if !is_new(&format!("del killed before {n}")) {
            bed.tool().ok(&add);
        }
    }
    bed.tool().ok(del);
    assert_eq!(bed.chain(), old);
    // A run that changes something removes what others have left.
    bed.tool().ok("rule del --all");
    bed.tool().ok("attach lan");
    assert_eq!(bed.lan.pins.left().len(), pinned);
}

#[test]
fn a_chain_stays_while_the_interface_changes() {
    let bed = Bed::new("skb");
    bed.add(7001, "");
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("lan.toml");
    for ledger in [false, true] {
        let text = format!("[[interface]]\nname = \"lan\"\nmode = \"skb\"\nledger = {ledger}\n");
        std::fs::write(&file, text).expect("it is written");
        bed.tool().ok(&format!("apply {}", file.display()));
        let status = bed.tool().json("status");
        let on = if ledger { "on" } else { "unwanted" };
        assert_eq!(status["interfaces"][0]["ledger"], on);
        assert_eq!(bed.chain(), ["drop_7001"]);
        assert_eq!(bed.counted("drop_7001")[2], 0);
        bed.add_rule();
        assert_eq!(bed.dropped(&[7001, 7002]), [7001]);
    }
    let explained = bed
        .tool()
        .run("explain --in lan --src 192.168.122.10 --dst 11.22.33.44 --port 7001");
    assert_eq!(explained.code, 0, "{explained:?}");
    assert!(explained.out.contains("drop_7001"), "{explained:?}");
    // Another interface that comes and goes changes nothing here.
    bed.tool().ok("attach wan0 --mode native");
    bed.tool().ok("detach wan0");
    assert_eq!(bed.dropped(&[7001, 7002]), [7001]);
    bed.tool().ok("detach lan");
    assert_eq!(bed.program(), None);
    assert_eq!(
        bed.tool().json("status")["interfaces"],
        serde_json::json!([])
    );
}
