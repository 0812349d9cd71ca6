//! Peers that receive by fewer queues than CPUs redirect to them. A CPU hands its frames to the queue of its
//! number, modulo the queues, so that several of them wait for each other at one.

use super::remedies;
use crate::doctor::facts::{DeviceFacts, Facts};
use crate::model::{Finding, Tool};

pub fn check(facts: &Facts, device: &DeviceFacts) -> Option<Finding> {
    let queues = device.peer_facts.as_ref()?.rx_queues?;
    let peer = device.peer().filter(|_| device.is("veth"))?;
    let cpus = redirecting(facts);
    let better = cpus.min(queues.most);
    if queues.now == 0 || better <= queues.now {
        return None;
    }
    let has = match queues.now {
        1 => "1 queue".into(),
        queues => format!("{queues} queues"),
    };
    let more = |name: &str| {
        Tool::new("ethtool -L")
            .arg(name)
            .words(&format!("rx {better}"))
    };
    Some(
        Finding::hint("rx-queues", device.name())
            .consequence("CPUs that redirect to it at the same time wait for each other")
            .evidence(format!(
                "{cpus} may do so, and its peer {peer} receives by {has}"
            ))
            .remedy(remedies::at_device(peer, more)),
    )
}

/// How many CPUs may redirect natively at a time: each queue of an interface is polled by one.
fn redirecting(facts: &Facts) -> u32 {
    let native = facts.native().filter_map(|i| facts.devices.get(&i.ifindex));
    let queues = |device: &DeviceFacts| device.rx_queues.map_or(1, |queues| queues.now.max(1));
    native.map(queues).sum::<u32>().min(facts.host.cpus)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{attach, nic, redirecting};
    use super::*;
    use crate::doctor::facts::PeerFacts;
    use crate::model::{Mode, Peer, Remote, RxQueues};

    /// A veth whose peer has a queue, below a NIC with some, on a host with some CPUs.
    fn facts(now: u32, most: u32, cpus: u32) -> Facts {
        let (mut from, mut to) = (nic(1), nic(2));
        from.rx_queues = Some(RxQueues { now, most: now });
        to.features.kind = Some("veth".into());
        to.features.peer = Some(Peer {
            device: Remote::here(3, "eth0"),
            ..Peer::default()
        });
        to.peer_facts = Some(PeerFacts {
            rx_queues: Some(RxQueues { now: 1, most }),
            ..PeerFacts::default()
        });
        let mut facts = redirecting(from, to);
        facts.host.cpus = cpus;
        facts
    }

    fn found(facts: &Facts) -> Option<String> {
        check(facts, &facts.devices[&2]).map(|finding| finding.evidence)
    }

    #[test]
    fn one_queue_is_too_few_for_several_cpus_that_redirect() {
        let said = |cpus| {
            Some(format!(
                "{cpus} may do so, and its peer eth0 receives by 1 queue"
            ))
        };
        // Queues of the interface, queues that the peer can have, and CPUs.
        assert_eq!(found(&facts(8, 8, 4)), said(4));
        assert_eq!(found(&facts(2, 8, 4)), said(2));
        assert_eq!(found(&facts(1, 8, 4)), None);
        assert_eq!(found(&facts(8, 1, 4)), None);
        assert_eq!(found(&facts(8, 8, 1)), None);
        let mut two = facts(1, 8, 4);
        attach(&mut two, nic(4), Mode::Native);
        assert_eq!(found(&two), said(2));
        two.interfaces[1].mode = Mode::Skb;
        assert_eq!(found(&two), None);
    }
}
