//! What a request makes of a rule: a backend is added, or merged into the one that is there.

use super::AddRequest;
use super::resolve::Resolution;
use crate::model::{Backend, Rule, Snat};

/// Adds a backend, or updates the one with its address: what the request leaves open stays. A new backend
/// has no counter yet.
pub fn merge(rule: &mut Rule, request: &AddRequest, found: &Resolution) {
    let server = found.adjacency.server;
    let known = rule.backend(server).cloned();
    let mut backend = known.clone().unwrap_or(Backend::new(found.adjacency));
    match known {
        Some(known) if found.is_kept => {
            // Another run may have found a new adjacency since this one looked.
            if known.ifindex == found.adjacency.ifindex {
                backend.adjacency = found.adjacency;
            }
            backend.adjacency.mac = request.mac.unwrap_or(known.mac);
            if request.gives_locator(&known) {
                backend.origin = found.origin.clone();
            }
        }
        _ => {
            backend.adjacency = found.adjacency;
            backend.origin = found.origin.clone();
        }
    }
    backend.weight = request.weight.unwrap_or(backend.weight);
    let keeps_ip = backend.rewrite.keep_ip;
    rule.put(backend);
    let alone = request.rewriting.and_then(|new| new.reply_alone());
    match (alone, request.rewriting) {
        // With a source that this host finds, answers are translated, or it is given up.
        (Some(reply), _) if !keeps_ip && rule.snat != Some(Snat::Auto) => rule.reply = reply,
        (_, Some(rewriting)) => rule.set_rewriting(server, rewriting),
        (_, None) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::MatchSpec;
    use crate::model::{Adjacency, Locator, Mac, Pops, Port, Proto, Rewrite, Rewriting, Weight};

    const SERVER: [u8; 4] = [10, 0, 0, 1];

    fn mac(last: u8) -> Mac {
        Mac([2, 0, 0, 0, 0, last])
    }

    fn request() -> AddRequest {
        AddRequest {
            matches: MatchSpec {
                dst: None,
                src: None,
                proto: Proto::Udp,
                ports: Port::new(53).unwrap().into(),
                vlan: None,
                inner_vlan: None,
                ingress: None,
            },
            server: Some(SERVER.into()),
            mac: None,
            device: None,
            namespace: None,
            weight: None,
            rewriting: None,
            too_long: None,
            hash: None,
        }
    }

    /// By a device, with a MAC address that ends in its number.
    fn found(device: u8) -> Resolution {
        let adjacency = Adjacency {
            mac: mac(device),
            ifindex: device.into(),
            ..Adjacency::example(SERVER)
        };
        Resolution {
            adjacency,
            device: String::new(),
            found: Vec::new(),
            origin: Some(Locator::Route),
            is_kept: false,
            not_found: None,
        }
    }

    /// The only backend after a first request, and then another.
    fn then(first: [(AddRequest, Resolution); 2]) -> Backend {
        let mut rule = Rule::new(request().matches.for_new(SERVER.into()).unwrap());
        for (request, found) in first {
            merge(&mut rule, &request, &found);
            rule.backends[0].counter = Some(9);
        }
        let [backend] = rule.backends.try_into().unwrap();
        backend
    }

    #[test]
    fn what_is_not_given_stays() {
        let pop_vlan = Rewriting {
            backend: Rewrite {
                pops: Pops::new(1).unwrap(),
                ..Rewrite::default()
            },
            ..Rewriting::default()
        };
        let first = AddRequest {
            weight: Weight::new(7),
            rewriting: Some(pop_vlan),
            ..request()
        };
        let backend = then([(first, found(1)), (request(), found(2))]);
        assert_eq!((backend.weight.get(), backend.counter), (7, Some(9)));
        assert_eq!(backend.rewrite.pops.get(), 1);
        assert_eq!((backend.ifindex, backend.mac), (2, mac(2)));
    }

    #[test]
    fn a_kept_adjacency_is_what_another_run_has_found_meanwhile() {
        let weight = AddRequest {
            weight: Weight::new(3),
            ..request()
        };
        let kept = Resolution {
            is_kept: true,
            origin: Some(Locator::Device("old".into())),
            ..found(1)
        };
        let backend = then([(request(), found(2)), (weight, kept)]);
        assert_eq!((backend.ifindex, backend.mac), (2, mac(2)));
        let expected = (3, Some(Locator::Route));
        assert_eq!((backend.weight.get(), backend.origin), expected);
    }

    #[test]
    fn a_mac_address_that_is_given_is_taken_and_ends_the_search() {
        let given = AddRequest {
            mac: Some(mac(77)),
            ..request()
        };
        let kept = Resolution {
            is_kept: true,
            origin: None,
            ..found(1)
        };
        let backend = then([(request(), found(1)), (given, kept)]);
        assert_eq!((backend.mac, backend.origin), (mac(77), None));
    }
}
