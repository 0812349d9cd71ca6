//! What somebody does to the rules while packets come.

use std::fmt::Write as _;
use std::net::IpAddr;

use fastrand::Rng;

use super::DEVICES;
use super::INTERFACES;
use super::bed::Bed;
use super::rules::{self, host};
use super::words::{acting, hash, load, mac, matching, reply, rows, too_long};
use crate::fixture::Run;
use crate::fixture::model::{Action, Backend, Options, Policy, Rule, TooLong};

impl Bed<'_> {
    pub fn change(&mut self, rng: &mut Rng) {
        let rule = rng.usize(..self.model.rules.len());
        match rng.u8(..32) {
            0..8 => self.add_rule(rng, rule),
            8..13 if self.model.rules.len() > 2 => {
                let words = matching(&self.model.rules.remove(rule).matches);
                self.tool.ok(&format!("rule del {words}"));
            }
            13..15 => {
                let more = rng.usize(1..40);
                self.load_rules(rng, more);
            }
            15 => {
                self.tool.ok("rule del --all");
                self.model.rules.clear();
                let size = self.shape.size(rng);
                self.load_rules(rng, size);
            }
            16..19 => self.change_policy(rng),
            _ if self.model.rules[rule].action == Action::Redirect => {
                self.change_backend(rng, rule)
            }
            _ => self.change_action(rng, rule),
        }
    }

    /// Packets that no rule takes are mostly left to the host, or the names of their outcomes would be rare.
    fn change_policy(&mut self, rng: &mut Rng) {
        let name = INTERFACES[rng.usize(..INTERFACES.len())].0;
        let devices = ["on", "off", "late"];
        let device = devices[rng.usize(..devices.len())];
        let policy = match rng.u8(..12) {
            0 => Policy::Drop,
            1 | 2 if !self.model.devices[device].gone => Policy::Forward(device),
            _ => Policy::Pass,
        };
        self.set_policy(name, policy);
    }

    /// None where there is a rule with its match.
    fn new_rule(&mut self, mut rule: Rule) -> Option<Rule> {
        let is_known = self
            .model
            .rules
            .iter()
            .any(|known| known.matches == rule.matches);
        rule.id = self.new_id();
        (!is_known).then_some(rule)
    }

    /// By a file.
    pub fn load_rules(&mut self, rng: &mut Rng, count: usize) {
        let start = self.model.rules.len();
        while self.model.rules.len() < start + count {
            let rule = self.shape.rule(rng);
            let Some(mut rule) = self.new_rule(rule) else {
                continue;
            };
            rule.options = rules::options(rng, self.options, rule.matches.proto);
            for _ in 0..rules::backends(rng, self.shape) {
                if rule.action != Action::Redirect {
                    break;
                }
                let server = host(rng, rule.matches.dst.addr.is_ipv4());
                let mut backend = rules::backend(rng, &mut rule, server);
                backend.id = self.new_id();
                if self.model.devices[backend.device].gone {
                    backend.device = "on";
                }
                if rule.backends.iter().all(|known| known.server != server) {
                    rule.backends.push(backend);
                }
            }
            rule.backends_changed();
            self.model.rules.push(rule);
        }
        let new = self.model.rules[start..].iter();
        load(&self.tool, new.flat_map(|rule| rows(rule, &self.ifindexes))).ok();
    }

    /// Of any kind, or beside another one.
    fn add_rule(&mut self, rng: &mut Rng, beside: usize) {
        let rule = match rng.bool() {
            true => self.shape.rule(rng),
            false => rules::beside(rng, &self.model.rules[beside]),
        };
        let Some(rule) = self.new_rule(rule) else {
            return;
        };
        let words = format!("rule add {}{}", matching(&rule.matches), acting(&rule));
        let (redirects, place) = (rule.action == Action::Redirect, self.model.rules.len());
        self.model.rules.push(rule);
        if !redirects {
            self.tool.ok(&words);
            return;
        }
        for _ in 0..rules::backends(rng, self.shape) {
            self.add_backend(rng, place);
        }
    }

    fn add_backend(&mut self, rng: &mut Rng, rule: usize) {
        let of = &self.model.rules[rule];
        let server = host(rng, of.matches.dst.addr.is_ipv4());
        if of.backends.iter().any(|b| b.server == server) {
            return;
        }
        let backend = Backend {
            id: self.new_id(),
            server,
            mac: [0; 6],
            device: "on",
            weight: 1,
            down: false,
            to_port: None,
            keep_ip: false,
            push_vlan: None,
            pops: 0,
        };
        let (weight, rewrite) = (rng.bool(), rng.bool());
        self.put_backend(rng, rule, backend, true, weight, rewrite);
    }

    /// Adds a backend or updates it: where it is, its weight, what becomes of its packets.
    fn put_backend(
        &mut self,
        rng: &mut Rng,
        rule: usize,
        mut backend: Backend,
        place: bool,
        weight: bool,
        rewrite: bool,
    ) {
        let rule = &mut self.model.rules[rule];
        let is_new = rule.backends.is_empty();
        let mut words = format!(
            "rule add {} --server {}",
            matching(&rule.matches),
            backend.server
        );
        if place {
            let there: Vec<&str> = DEVICES
                .into_iter()
                .filter(|name| !self.model.devices[name].gone)
                .collect();
            backend.device = there[rng.usize(..there.len())];
            backend.mac = [2, 1, rng.u8(..), rng.u8(..), rng.u8(..), rng.u8(..)];
            let _ = write!(
                words,
                " --dev {} --mac {}",
                backend.device,
                mac(backend.mac)
            );
        }
        if weight {
            backend.weight = rules::weight(rng);
            let _ = write!(words, " --weight {}", backend.weight);
        }
        if is_new || rng.u8(..4) == 0 {
            rule.too_long = rules::too_long(rng);
            let _ = write!(words, " --too-long {}", too_long(rule.too_long));
        }
        if is_new || rng.u8(..4) == 0 {
            rule.by_source = rng.bool();
            words.push_str(hash(rule.by_source));
        }
        let before = rule.backends.len();
        rule.backends.retain(|b| b.server != backend.server);
        // A rule that is new announces nothing until it is told.
        rule.announce &= !is_new;
        let is_known = rule.backends.len() < before;
        let must_keep_ip = !rules::rewrites(rule.matches.proto);
        // What the default is depends on more than the model knows.
        let must_say_reply = !is_known && !rule.rewrites_addresses();
        if rewrite || must_say_reply || (must_keep_ip && !backend.keep_ip) {
            let told = rewriting(rng, rule, &mut backend, is_known, self.options);
            words.push_str(&told);
        }
        rule.backends.push(backend);
        rule.backends_changed();
        // What the words leave open stays.
        let output = self.tool.typed(&words).output();
        Run::from(output.expect("the binary runs")).ok();
    }

    fn change_backend(&mut self, rng: &mut Rng, rule: usize) {
        let backends = &self.model.rules[rule].backends;
        let backend = backends[rng.usize(..backends.len())].clone();
        let gone = self.model.devices[backend.device].gone;
        match rng.u8(..7) {
            0 => self.add_backend(rng, rule),
            6 => self.mark(rng, backend.server),
            1 if backends.len() > 1 => {
                let rule = &mut self.model.rules[rule];
                rule.backends.retain(|b| b.server != backend.server);
                rule.backends_changed();
                let words = matching(&rule.matches);
                let server = backend.server;
                self.tool.ok(&format!("rule del {words} --server {server}"));
            }
            2 if !gone => self.put_backend(rng, rule, backend, false, true, false),
            3 if !gone => self.put_backend(rng, rule, backend, false, true, true),
            4 => self.put_backend(rng, rule, backend, true, false, false),
            _ => self.put_backend(rng, rule, backend, true, true, true),
        }
    }

    /// In all rules that have the server.
    fn mark(&mut self, rng: &mut Rng, server: IpAddr) {
        let down = rng.bool();
        for rule in &mut self.model.rules {
            let mut backends = rule.backends.iter_mut();
            if let Some(backend) = backends.find(|backend| backend.server == server) {
                backend.down = down;
                rule.backends_changed();
            }
        }
        let mark = if down { "down" } else { "up" };
        self.tool.ok(&format!("rule mark --server {server} {mark}"));
    }

    /// Of a rule that has no backends.
    fn change_action(&mut self, rng: &mut Rng, rule: usize) {
        let of = &mut self.model.rules[rule];
        match rules::action(rng, &of.matches) {
            Action::Redirect => {
                of.action = Action::Redirect;
                return self.add_backend(rng, rule);
            }
            action => of.action = action,
        }
        of.too_long = match of.action {
            Action::Forward(..) => rules::too_long(rng),
            _ => TooLong::Icmp,
        };
        let words = format!("rule add {}{}", matching(&of.matches), acting(of));
        self.tool.ok(&words);
    }
}

/// Chooses the rewriting of a backend that the rule doesn't have now, and gives it as words. Given
/// any, all of it is replaced, but for what the rule's other backends have in common; and given how answers come
/// back alone, only that.
fn rewriting(
    rng: &mut Rng,
    rule: &mut Rule,
    backend: &mut Backend,
    is_known: bool,
    may: Options,
) -> String {
    let mut words = String::new();
    let mut told = |one_in: u8, word: &str| {
        let told = rng.u8(..one_in) == 0;
        if told {
            words.push_str(word);
        }
        told
    };
    let mut seeded = Rng::with_seed(backend.mac[4].into());
    let proto = rule.matches.proto;
    let must_keep_ip = !rules::rewrites(proto);
    let keep_ip = told(if must_keep_ip { 1 } else { 5 }, " --keep-ip");
    let others = !rule.backends.is_empty();
    let others_rewrite = rule.rewrites_addresses();

    let new = rules::options(&mut seeded, may, proto);
    let is_in_the_way = |b: &Backend| !b.keep_ip && b.pops == 2;
    let is_any = is_in_the_way(backend) || rule.backends.iter().any(is_in_the_way);
    let nat = new.nat && !is_any;
    if !keep_ip && told(if others_rewrite { 3 } else { 1 }, reply(nat)) {
        rule.options.nat = nat;
    }
    let sticky = [" --no-sticky", " --sticky"][usize::from(new.sticky)];
    let is_sticky = match may.sticky && !must_keep_ip && told(2, sticky) {
        true => new.sticky,
        false => others && rule.options.sticky,
    };

    let port = [7999, 53, 1, 65535, 4321][usize::from(backend.mac[3]) % 5];
    let to_port = (!keep_ip && told(3, &format!(" --to-port {port}"))).then_some(port);
    let vlan = [1, 5, 4094][usize::from(backend.mac[3]) % 3];
    let push_vlan = told(4, &format!(" --push-vlan {vlan}")).then_some(vlan);
    let pops = 1 + usize::from(backend.mac[5] % 2);
    let pops = pops.min(rule.most_pops(keep_ip));
    let pops = if told(3, &" --pop-vlan".repeat(pops)) {
        pops
    } else {
        0
    };
    let keep_ttl = told(4, " --keep-ttl");
    let decrement_ttl = !keep_ttl && told(4, " --decrement-ttl");
    let source = host(&mut seeded, rule.matches.dst.addr.is_ipv4());
    let announce = rule.matches.may_be_announced() && told(3, " --announce");
    let snat = (!keep_ip && told(3, &format!(" --snat {source}"))).then_some(source);
    let is_reply_alone = words == reply(nat) && !backend.keep_ip;
    if words.is_empty() || (is_reply_alone && (is_known || others)) {
        return words;
    }
    backend.keep_ip = keep_ip;
    backend.to_port = to_port;
    backend.push_vlan = push_vlan;
    backend.pops = pops;
    rule.options.sticky = is_sticky;
    rule.snat = snat.or(rule.snat.filter(|_| others_rewrite));
    let kept = keep_ttl || (others && !rule.decrement_ttl && !decrement_ttl);
    rule.decrement_ttl = !kept;
    rule.announce = announce || (others && rule.announce);
    words
}
