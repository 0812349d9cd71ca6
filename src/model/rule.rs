//! Rules and their backends.

use std::net::IpAddr;
use std::ops::Deref;

use super::{
    Action, Adjacency, HashOf, Locator, Match, Pops, Port, Reply, Snat, TooLong, VlanId, Weight,
    maglev,
};

/// The most backends of a rule: a set has its size in a byte.
pub const MAX_BACKENDS: usize = u8::MAX as usize;

/// One of the servers that a rule sends packets to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    pub adjacency: Adjacency,
    /// Its share of the flows, relative to the rule's other backends. 0: it is drained, and keeps only the
    /// connections that stand.
    pub weight: Weight,
    /// Somebody has said that the server is down: no packet goes there.
    pub marked_down: bool,
    pub rewrite: Rewrite,
    /// The key of its counter; None: it is new, and gets one when its rule is stored.
    pub counter: Option<u32>,
    /// How the backend is found again; None: the user gave its MAC address.
    pub origin: Option<Locator>,
    /// The address by which this host reaches the server, where the rule's source is that (`Snat::Auto`).
    pub own_source: Option<IpAddr>,
}

impl Backend {
    /// A new backend that changes nothing else in packets.
    pub fn new(adjacency: Adjacency) -> Self {
        Backend {
            adjacency,
            weight: Weight::default(),
            marked_down: false,
            rewrite: Rewrite::default(),
            counter: None,
            origin: None,
            own_source: None,
        }
    }

    /// Whether new flows may go there.
    pub fn takes_flows(&self) -> bool {
        !self.marked_down && self.weight != Weight::NONE
    }
}

/// Its address, MAC addresses and device can be read like its own fields.
impl Deref for Backend {
    type Target = Adjacency;

    fn deref(&self) -> &Adjacency {
        &self.adjacency
    }
}

/// What becomes of a packet to one backend, beside its new addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rewrite {
    pub to_port: Option<Port>,
    /// Only MAC addresses change.
    pub keep_ip: bool,
    /// The 802.1Q tag that is added.
    pub push_vlan: Option<VlanId>,
    /// How many tags are removed, the outer one first.
    pub pops: Pops,
}

/// What a request says of rewriting, for a backend and for its rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rewriting {
    pub backend: Rewrite,
    /// The rule's; None: as it is.
    pub snat: Option<Snat>,
    /// The rule's; None: as it is.
    pub decrement_ttl: Option<bool>,
    /// The rule's, None or Nat; None: as it is.
    pub reply: Option<Reply>,
    /// The rule's; None: as it is.
    pub sticky: Option<bool>,
    /// The rule's; None: as it is.
    pub announce: Option<bool>,
}

impl Rewriting {
    /// How answers come back, where the request says nothing else. That is the rule's: what is rewritten for
    /// the backend stays.
    pub fn reply_alone(&self) -> Option<Reply> {
        let reply = self.reply?;
        let alone = Rewriting {
            reply: Some(reply),
            ..Rewriting::default()
        };
        (*self == alone).then_some(reply)
    }
}

/// A match, and what becomes of the packets that it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub matches: Match,
    pub action: Action,
    /// What becomes of packets that the egress device is too small for.
    pub too_long: TooLong,
    /// The packets' new source address; packets to a backend with `keep_ip` keep theirs.
    pub snat: Option<Snat>,
    /// The TTL or hop limit is decremented, which alone ends a loop.
    pub decrement_ttl: bool,
    /// How answers come back, of all backends but those with `keep_ip`: None or Nat.
    pub reply: Reply,
    /// A flow keeps its backend when others join and weights change.
    pub sticky: bool,
    /// Its destination is an address that no host has: the program answers for it on the link.
    pub announce: bool,
    /// What of a packet chooses one of several backends.
    pub hash: HashOf,
    /// Where packets are redirected to; none with another action. They are in the order of their
    /// addresses, so that the same set always spreads the same way.
    pub backends: Vec<Backend>,
    /// With an action that has no backends, the key of the rule's counter. None: it is new, and gets one
    /// when it is stored.
    pub counter: Option<u32>,
}

impl Rule {
    /// A rule that redirects, still without backends.
    pub fn new(matches: Match) -> Self {
        Rule {
            matches,
            action: Action::Redirect,
            too_long: TooLong::default(),
            snat: None,
            decrement_ttl: true,
            reply: Reply::default(),
            sticky: false,
            announce: false,
            hash: HashOf::default(),
            backends: Vec::new(),
            counter: None,
        }
    }

    /// A rule without backends.
    pub fn acting(matches: Match, action: Action) -> Self {
        Rule {
            action,
            ..Rule::new(matches)
        }
    }

    /// What becomes of packets that are too long, with an action that takes the place of the rule's own.
    pub fn too_long_of(&self, action: Action) -> TooLong {
        match action {
            Action::Redirect | Action::Forward { .. } => self.too_long,
            Action::Pass | Action::Drop | Action::Socket => TooLong::default(),
        }
    }

    /// The same rule with other backends.
    pub fn with(&self, backends: Vec<Backend>) -> Self {
        Rule { backends, ..*self }
    }

    /// The new source address of packets to one of the backends.
    pub fn snat_of(&self, backend: &Backend) -> Option<IpAddr> {
        let snat = self.snat.filter(|_| !backend.rewrite.keep_ip)?;
        snat.address().or(backend.own_source)
    }

    /// Whether packets to one of the backends get the address by which this host reaches it.
    pub fn finds_snat_of(&self, backend: &Backend) -> bool {
        self.snat == Some(Snat::Auto) && !backend.rewrite.keep_ip
    }

    /// The request that gives a backend this rewriting, and leaves the rule's own as it is.
    pub fn rewriting(&self, backend: Rewrite) -> Rewriting {
        Rewriting {
            backend,
            snat: self.snat.filter(|_| !backend.keep_ip),
            decrement_ttl: Some(self.decrement_ttl),
            reply: Some(self.reply).filter(|_| !backend.keep_ip),
            sticky: Some(self.sticky),
            announce: Some(self.announce),
        }
    }

    /// How the answers of one of the backends come back.
    pub fn reply_of(&self, backend: &Backend) -> Reply {
        if backend.rewrite.keep_ip {
            return Reply::Direct;
        }
        self.reply
    }

    /// Whether it does the same as another rule, whatever was counted.
    pub fn does_the_same(&self, other: &Rule) -> bool {
        let uncounted = |backend: &Backend| Backend {
            counter: None,
            ..backend.clone()
        };
        let same = |(a, b): (&Backend, &Backend)| a == b || uncounted(a) == uncounted(b);
        let mut pairs = self.backends.iter().zip(&other.backends);
        let head = |rule: &Rule| Rule {
            counter: None,
            ..rule.with(Vec::new())
        };
        self.backends.len() == other.backends.len() && head(self) == head(other) && pairs.all(same)
    }

    /// The devices where answers arrive that the program has to translate.
    pub fn answers_by(&self) -> impl Iterator<Item = u32> {
        let backends = self.backends.iter();
        let translated = backends.filter(|backend| self.reply_of(backend) == Reply::Nat);
        let devices = translated.map(|backend| backend.ifindex);
        devices.filter(|&ifindex| ifindex != 0)
    }

    /// The devices where answers arrive that could be translated: of all backends that answer with an
    /// address of their own.
    pub fn translatable_by(&self) -> impl Iterator<Item = u32> {
        let backends = self.backends.iter();
        let own = backends.filter(|backend| !backend.rewrite.keep_ip);
        own.map(|backend| backend.ifindex)
    }

    /// Whether the program remembers connections for the rule.
    pub fn remembers(&self) -> bool {
        let mut backends = self.backends.iter();
        backends.any(|backend| self.remembers_those_of(backend))
    }

    /// Whether the program remembers the connections of one of the backends.
    pub fn remembers_those_of(&self, backend: &Backend) -> bool {
        self.sticky || self.reply_of(backend) == Reply::Nat
    }

    /// The backend with this address.
    pub fn backend(&self, server: IpAddr) -> Option<&Backend> {
        self.backends
            .iter()
            .find(|backend| backend.server == server)
    }

    /// Adds the backend, in place of an earlier one with the same address.
    pub fn put(&mut self, backend: Backend) {
        match self
            .backends
            .binary_search_by_key(&backend.server, |b| b.server)
        {
            Ok(place) => self.backends[place] = backend,
            Err(place) => self.backends.insert(place, backend),
        }
    }

    /// Gives a backend of the rule other rewriting. What the request leaves open of the rule stays as long
    /// as the rule has other backends, to which it applies, and is the default otherwise.
    pub fn set_rewriting(&mut self, server: IpAddr, new: Rewriting) {
        let others = || self.backends.iter().filter(|b| b.server != server);
        let snat = self.snat.filter(|_| others().any(|b| !b.rewrite.keep_ip));
        let decrement_ttl = others().next().is_none() || self.decrement_ttl;
        let sticky = others().next().is_some() && self.sticky;
        let reply = self.reply;
        let announce = others().next().is_some() && self.announce;
        self.decrement_ttl = new.decrement_ttl.unwrap_or(decrement_ttl);
        self.sticky = new.sticky.unwrap_or(sticky);
        self.announce = new.announce.unwrap_or(announce);
        let mut backends = self.backends.iter_mut();
        if let Some(backend) = backends.find(|b| b.server == server) {
            backend.rewrite = new.backend;
        }
        let uses_snat = self.backends.iter().any(|b| !b.rewrite.keep_ip);
        self.snat = new.snat.or(snat).filter(|_| uses_snat);
        // What is answered to an address of this host ends here if it isn't translated.
        let finds = new.snat == Some(Snat::Auto);
        let reply = new.reply.unwrap_or(if finds { Reply::Nat } else { reply });
        self.reply = if uses_snat { reply } else { Reply::None };
        let finds = self.snat == Some(Snat::Auto);
        for backend in &mut self.backends {
            let stays = finds && !backend.rewrite.keep_ip;
            backend.own_source = backend.own_source.filter(|_| stays);
        }
    }

    /// Removes the backend with this address.
    pub fn remove(&mut self, server: IpAddr) -> Option<Backend> {
        let place = self.backends.iter().position(|b| b.server == server)?;
        Some(self.backends.remove(place))
    }

    /// The backends as the Maglev table knows them: rules with the same ones have the same table.
    pub fn members(&self) -> Vec<maglev::Member> {
        let weight = |backend: &Backend| match backend.takes_flows() {
            true => backend.weight,
            false => Weight::NONE,
        };
        let member = |backend: &Backend| maglev::Member {
            identity: identity(backend.server),
            weight: weight(backend).get(),
        };
        self.backends.iter().map(member).collect()
    }
}

fn identity(server: IpAddr) -> u64 {
    match server {
        IpAddr::V4(addr) => u32::from(addr).into(),
        IpAddr::V6(addr) => {
            let bits = u128::from(addr);
            maglev::mix((bits >> 64) as u64) ^ bits as u64
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend(server: [u8; 4], weight: u16) -> Backend {
        Backend {
            weight: Weight::new(weight).unwrap(),
            ..Backend::new(Adjacency::example(server))
        }
    }

    #[test]
    fn backends_stay_sorted_and_the_same_server_is_replaced() {
        let mut rule = Rule::new(Match::example(1));
        for last in [3, 1, 2, 1] {
            rule.put(backend([10, 0, 0, last], u16::from(last) * 10));
        }
        let weights = |rule: &Rule| -> Vec<u16> {
            let backends = rule.backends.iter();
            backends.map(|backend| backend.weight.get()).collect()
        };
        assert_eq!(weights(&rule), [10, 20, 30]);
        assert!(rule.remove([10, 0, 0, 2].into()).is_some());
        assert!(rule.remove([10, 0, 0, 2].into()).is_none());
        assert_eq!(weights(&rule), [10, 30]);
    }

    fn only(backend: Rewrite) -> Rewriting {
        Rewriting {
            backend,
            ..Rewriting::default()
        }
    }

    fn snat(addr: [u8; 4]) -> Snat {
        Snat::Address(addr.into())
    }

    /// A sticky rule with snat and without decrementing, and one or two backends.
    fn rewriting(backends: u8) -> Rule {
        let mut rule = Rule::new(Match::example(1));
        (rule.snat, rule.decrement_ttl) = (Some(snat([10, 9, 9, 9])), false);
        rule.sticky = true;
        (1..=backends).for_each(|last| rule.put(backend([10, 0, 0, last], 1)));
        rule
    }

    #[test]
    fn rewriting_of_the_rule_stays_as_long_as_another_backend_has_it() {
        let server = IpAddr::from([10, 0, 0, 1]);
        let to_port = only(Rewrite {
            to_port: Port::new(53),
            ..Rewrite::default()
        });
        let of_rule = |rule: &Rule| (rule.snat, rule.decrement_ttl, rule.sticky);
        let mut alone = rewriting(1);
        alone.set_rewriting(server, to_port);
        assert_eq!(of_rule(&alone), (None, true, false));
        let mut rule = rewriting(2);
        let before = of_rule(&rule);
        rule.set_rewriting(server, to_port);
        assert_eq!(of_rule(&rule), before);
        assert_eq!(rule.backend(server).unwrap().rewrite, to_port.backend);
    }

    #[test]
    fn a_request_may_change_the_rewriting_of_the_rule() {
        let mut rule = rewriting(2);
        let (snat, decrement_ttl) = (Some(snat([10, 8, 8, 8])), Some(true));
        let new = Rewriting {
            backend: Rewrite::default(),
            snat,
            decrement_ttl,
            reply: Some(Reply::Nat),
            sticky: Some(false),
            announce: Some(true),
        };
        rule.set_rewriting([10, 0, 0, 1].into(), new);
        assert!(!rule.sticky && rule.remembers());
        assert_eq!((rule.snat, rule.decrement_ttl), (snat, true));
        assert_eq!(rule.reply, Reply::Nat);
        assert!(rule.announce);
        rule.set_rewriting([10, 0, 0, 2].into(), Rewriting::default());
        assert!(rule.announce);
    }

    #[test]
    fn no_source_is_kept_for_backends_that_keep_addresses() {
        let keep_ip = only(Rewrite {
            keep_ip: true,
            ..Rewrite::default()
        });
        let mut rule = rewriting(2);
        rule.set_rewriting([10, 0, 0, 1].into(), keep_ip);
        assert!(rule.snat.is_some());
        assert_eq!(rule.snat_of(&rule.backends[0]), None);
        assert_eq!(rule.snat_of(&rule.backends[1]), Some([10, 9, 9, 9].into()));
        assert!(rule.remembers());
        rule.sticky = false;
        assert!(!rule.remembers());
        rule.reply = Reply::Nat;
        assert_eq!(rule.reply_of(&rule.backends[0]), Reply::Direct);
        assert!(rule.remembers());
        rule.set_rewriting([10, 0, 0, 2].into(), keep_ip);
        assert_eq!((rule.snat, rule.reply), (None, Reply::None));
    }

    #[test]
    fn an_address_that_is_found_is_each_backend_s_own() {
        let mut rule = rewriting(2);
        let auto = Rewriting {
            snat: Some(Snat::Auto),
            ..Rewriting::default()
        };
        rule.set_rewriting([10, 0, 0, 1].into(), auto);
        assert_eq!((rule.snat, rule.reply), (auto.snat, Reply::Nat));
        for (last, backend) in (1..).zip(&mut rule.backends) {
            backend.own_source = Some([10, 0, last, 9].into());
        }
        let found = |rule: &Rule, n: usize| rule.snat_of(&rule.backends[n]);
        assert_eq!(found(&rule, 0), Some([10, 0, 1, 9].into()));
        assert_eq!(found(&rule, 1), Some([10, 0, 2, 9].into()));

        // What is given by hand is for all of them.
        let given = Rewriting {
            snat: Some(snat([10, 8, 8, 8])),
            ..Rewriting::default()
        };
        rule.set_rewriting([10, 0, 0, 2].into(), given);
        assert_eq!(found(&rule, 0), Some([10, 8, 8, 8].into()));
        assert!(rule.backends.iter().all(|b| b.own_source.is_none()));
    }
}
