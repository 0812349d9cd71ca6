//! What a request makes of a rule: how a backend is added, or merged into the one that is there.

use super::{Adjacency, Backend, Locator, Mac, Rewrite, Rewriting, Rule, Weight};

/// What a request has for one backend.
#[derive(Clone, Debug)]
pub struct BackendUpdate {
    /// How the server is reached. Where it is kept, with the device of the backend that is there.
    pub adjacency: Adjacency,
    /// The adjacency and the locator are those of the backend that is there, but for what was given.
    pub is_kept: bool,
    /// How the server was found; None: the user gave its MAC address.
    pub origin: Option<Locator>,
    /// The request has a locator for a backend that is there, or takes its locator away.
    pub gives_origin: bool,
    /// The MAC address that was given.
    pub mac: Option<Mac>,
    /// The weight that was given.
    pub weight: Option<Weight>,
    /// The rewriting that was given.
    pub rewriting: Option<Rewriting>,
}

impl Rule {
    /// Adds a backend, or updates the one with its address: what the request leaves open stays. A new
    /// backend has no counter yet.
    pub fn apply(&mut self, update: &BackendUpdate) {
        let server = update.adjacency.server;
        let backend = match self.backend(server) {
            None => update.backend(),
            Some(known) => update.merged(known),
        };
        self.put(backend);
        if let Some(rewriting) = update.rewriting {
            self.set_rewriting(server, rewriting);
        }
    }
}

impl BackendUpdate {
    fn backend(&self) -> Backend {
        let Adjacency {
            server,
            mac,
            source_mac,
            ifindex,
            completes_checksum,
        } = self.adjacency;
        Backend {
            server,
            mac,
            source_mac,
            ifindex,
            completes_checksum,
            weight: self.weight.unwrap_or_default(),
            rewrite: Rewrite::default(),
            counter: 0,
            origin: self.origin.clone(),
        }
    }

    fn merged(&self, known: &Backend) -> Backend {
        let mut adjacency = self.adjacency;
        let mut origin = &self.origin;
        if self.is_kept {
            // Another run may have found a new adjacency since this one looked.
            if known.ifindex != adjacency.ifindex {
                adjacency = Adjacency::of(known);
            }
            adjacency.mac = self.mac.unwrap_or(known.mac);
            if !self.gives_origin {
                origin = &known.origin;
            }
        }
        Backend {
            weight: self.weight.unwrap_or(known.weight),
            origin: origin.clone(),
            ..adjacency.given_to(known)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Match, Port, Prefix, Proto};

    const SERVER: [u8; 4] = [10, 0, 0, 1];

    fn mac(last: u8) -> Mac {
        Mac([2, 0, 0, 0, 0, last])
    }

    /// By a device, with a MAC address that ends in its number.
    fn update(device: u8) -> BackendUpdate {
        BackendUpdate {
            adjacency: Adjacency {
                server: SERVER.into(),
                mac: mac(device),
                source_mac: mac(device + 100),
                ifindex: device.into(),
                completes_checksum: true,
            },
            is_kept: false,
            origin: Some(Locator::Route),
            gives_origin: false,
            mac: None,
            weight: None,
            rewriting: None,
        }
    }

    fn rule(first: &BackendUpdate) -> Rule {
        let mut rule = Rule::new(Match {
            proto: Proto::Udp,
            port: Port::new(53).unwrap(),
            vlan: None,
            src: Prefix::any_like(SERVER.into()),
        });
        rule.apply(first);
        rule.backends[0].counter = 9;
        rule
    }

    /// The only backend after a second update.
    fn then(mut rule: Rule, second: &BackendUpdate) -> Backend {
        rule.apply(second);
        let [backend] = rule.backends.try_into().unwrap();
        backend
    }

    #[test]
    fn what_is_not_given_stays() {
        let pop_vlan = Rewriting {
            backend: Rewrite {
                pop_vlan: true,
                ..Rewrite::default()
            },
            ..Rewriting::default()
        };
        let first = BackendUpdate {
            weight: Weight::new(7),
            rewriting: Some(pop_vlan),
            ..update(1)
        };
        let backend = then(rule(&first), &update(2));
        assert_eq!((backend.weight.get(), backend.counter), (7, 9));
        assert!(backend.rewrite.pop_vlan);
        assert_eq!((backend.ifindex, backend.mac), (2, mac(2)));
    }

    #[test]
    fn a_kept_adjacency_is_what_another_run_has_found_meanwhile() {
        let kept = BackendUpdate {
            is_kept: true,
            origin: Some(Locator::Device("old".into())),
            weight: Weight::new(3),
            ..update(1)
        };
        let backend = then(rule(&update(2)), &kept);
        assert_eq!((backend.ifindex, backend.mac), (2, mac(2)));
        assert_eq!(
            (backend.weight.get(), backend.origin),
            (3, Some(Locator::Route))
        );
    }

    #[test]
    fn a_mac_address_that_is_given_is_taken_and_ends_the_search() {
        let given = BackendUpdate {
            is_kept: true,
            origin: None,
            gives_origin: true,
            mac: Some(mac(77)),
            ..update(1)
        };
        let backend = then(rule(&update(1)), &given);
        assert_eq!((backend.mac, backend.origin), (mac(77), None));
    }
}
