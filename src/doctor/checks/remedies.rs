//! Commands that several findings name as their mend.

use crate::doctor::facts::{BackendFacts, Facts, LostLocator};
use crate::model::{Match, Rewrite, Rule};

/// A command for another machine, which nobody completes with what this run was told.
pub fn elsewhere(words: &str) -> String {
    format!("'{words}'")
}

/// Attaches interfaces anew, and keeps their rules.
pub fn reattach(names: &str, options: &str) -> String {
    format!("`xdpredir detach {names} --keep-rules && xdpredir attach {names}{options}`")
}

/// Takes the interfaces out of native mode.
pub fn natives_to_skb(setup: &Facts) -> String {
    reattach(&setup.native_names().join(" "), " --mode skb")
}

/// Gives the rules of a backend its new way.
pub fn renew(target: &BackendFacts) -> String {
    let server = target.server;
    if target.is_own {
        let Some(rule) = target.by_hand.1 else {
            return format!(
                "take {server} off this host, or `xdpredir rule del --server {server}` and add another host's"
            );
        };
        let rule = words(&rule);
        return format!(
            "`xdpredir rule del {rule} --server {server}`: it is an address of this host: add another host's"
        );
    }
    let refresh = format!("`xdpredir rule refresh --server {server}`");
    let told = target.by_hand.1.map(|rule| {
        let others = match target.by_hand.0 {
            1 => "it was told by hand".to_string(),
            count => format!("it was told by hand, as in {count} rules"),
        };
        let rule = words(&rule);
        format!("`xdpredir rule add {rule} --server {server}` ({others})")
    });
    match told {
        Some(told) if target.found => format!("{refresh} and {told}"),
        Some(told) => told,
        None => refresh,
    }
}

/// Gives a rule of a backend another device as its locator.
pub fn by_device(target: &BackendFacts, lost: &LostLocator, device: &str) -> String {
    let rules = match lost.rules {
        1 => String::new(),
        count => format!(" (and so in {count} rules)"),
    };
    let rule = words(&lost.first);
    let server = target.server;
    format!("`xdpredir rule add {rule} --server {server} --dev {device}`{rules}")
}

/// As `rule add` takes them.
pub fn words(rule: &Match) -> String {
    let Match {
        proto,
        port,
        vlan,
        src,
    } = rule;
    let vlan = vlan.map_or_else(String::new, |vlan| format!(" --vlan {vlan}"));
    format!("--src {src} --proto {proto} --port {port}{vlan}")
}

/// What a rule does to packets but for the tag that it pushes, as `rule add` takes it.
pub fn rewriting(rule: &Rule, rewrite: &Rewrite) -> String {
    let mut options = String::new();
    if let Some(port) = rewrite.to_port {
        options += &format!(" --to-port {port}");
    }
    if let Some(snat) = rule.snat.filter(|_| !rewrite.keep_ip) {
        options += &format!(" --snat {snat}");
    }
    for (wanted, option) in [
        (rewrite.keep_ip, " --keep-ip"),
        (!rule.decrement_ttl, " --keep-ttl"),
        (rewrite.pop_vlan, " --pop-vlan"),
    ] {
        options += if wanted { option } else { "" };
    }
    options
}
