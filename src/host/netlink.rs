//! Requests over netlink.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::ErrorKind;

use anyhow::{Context, Result, bail};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NetlinkDeserializable, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::time::TimeVal;

/// The kernel answers within the call that asks, so that only a lost answer takes this long.
const ANSWER_WITHIN: TimeVal = TimeVal::new(3, 0);

/// The kernel's own address; processes have other port numbers.
const KERNEL: u32 = 0;

/// A message of a netlink protocol.
pub trait Message: NetlinkSerializable + NetlinkDeserializable {
    const PROTOCOL: isize;
}

impl Message for RouteNetlinkMessage {
    const PROTOCOL: isize = NETLINK_ROUTE;
}

/// The value of the first attribute of a kind.
pub fn attribute(attributes: &[(u16, Vec<u8>)], wanted: u16) -> Option<&[u8]> {
    let found = attributes.iter().find(|(kind, _)| *kind == wanted);
    found.map(|(_, value)| value.as_slice())
}

/// A socket to the kernel. It belongs to the network namespace in which its thread was when it was
/// opened, wherever the thread goes.
struct Netlink {
    socket: Socket,
    sequence: u32,
}

thread_local! {
    /// The thread's sockets by protocol, so that one serves many questions.
    static OPEN: RefCell<HashMap<isize, Netlink>> = RefCell::default();
}

/// Closes the sockets of this thread, which is about to enter another network namespace: they would
/// go on asking about the one that it leaves.
pub fn leave_namespace() {
    OPEN.take();
}

/// The one message that answers a request.
pub fn get<M: Message>(request: M) -> Result<Option<M>> {
    Ok(exchange(request, NLM_F_REQUEST)?.into_iter().next())
}

/// All messages that answer a request.
pub fn dump<M: Message>(request: M) -> Result<Vec<M>> {
    exchange(request, NLM_F_REQUEST | NLM_F_DUMP)
}

/// A request that changes something, and is acknowledged.
pub fn change<M: Message>(request: M) -> Result<()> {
    exchange(request, NLM_F_REQUEST | NLM_F_ACK).map(drop)
}

/// The kernel's error number, where it answered a request with one.
pub fn errno(error: &anyhow::Error) -> Option<i32> {
    error.downcast_ref::<std::io::Error>()?.raw_os_error()
}

fn exchange<M: Message>(request: M, flags: u16) -> Result<Vec<M>> {
    let open = OPEN.with_borrow_mut(|open| open.remove(&M::PROTOCOL));
    let mut netlink = open.map_or_else(|| Netlink::open(M::PROTOCOL), Ok)?;
    // After an error the rest of an answer may be left in the socket, which is closed then.
    let answers = netlink.exchange(request, flags)?;
    OPEN.with_borrow_mut(|open| open.insert(M::PROTOCOL, netlink));
    Ok(answers)
}

impl Netlink {
    fn open(protocol: isize) -> Result<Self> {
        let mut socket = Socket::new(protocol).context("cannot open a netlink socket")?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(KERNEL, 0))?;
        // Without it (Linux 4.20) a dump takes no notice of what its request asks for.
        let _ = socket.set_netlink_get_strict_chk(true);
        setsockopt(&socket, ReceiveTimeout, &ANSWER_WITHIN)?;
        let sequence = 0;
        Ok(Netlink { socket, sequence })
    }

    fn exchange<M: Message>(&mut self, request: M, flags: u16) -> Result<Vec<M>> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(request));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;

        self.receive(Answer::to(self.sequence, flags & NLM_F_DUMP == NLM_F_DUMP))
    }

    fn receive<M: Message>(&self, mut answer: Answer<M>) -> Result<Vec<M>> {
        loop {
            let (datagram, from) = match self.socket.recv_from_full() {
                Ok(received) => received,
                // signal(7): with a timeout, even a run that is stopped and continued gets this.
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    bail!("the kernel does not answer over netlink")
                }
                Err(error) => return Err(error.into()),
            };
            // In a container's namespace, its root may send to this socket, too.
            if from.port_number() == KERNEL && answer.take(&datagram)? {
                return Ok(answer.messages);
            }
        }
    }
}

/// What has come so far of an answer.
pub struct Answer<M> {
    sequence: u32,
    is_dump: bool,
    messages: Vec<M>,
}

impl<M: Message> Answer<M> {
    /// Nothing yet of the answer to the request with this number.
    pub fn to(sequence: u32, is_dump: bool) -> Self {
        Answer {
            sequence,
            is_dump,
            messages: Vec::new(),
        }
    }

    /// Takes a datagram's messages; true where that was the last one.
    pub fn take(&mut self, datagram: &[u8]) -> Result<bool> {
        let mut rest = datagram;
        let mut is_last = false;
        while !rest.is_empty() {
            // Messages are aligned to 4 bytes; 16 is the header's own size.
            let length = NetlinkBuffer::new_checked(rest)?.length() as usize;
            let message = NetlinkMessage::<M>::deserialize(rest);
            rest = rest
                .get(length.next_multiple_of(4).max(16)..)
                .unwrap_or_default();
            let message = match message {
                Ok(message) => message,
                // A device whose name is not UTF-8 would hide all others.
                Err(_) if self.is_dump => continue,
                Err(error) => return Err(error.into()),
            };
            if message.header.sequence_number != self.sequence {
                continue;
            }
            match message.payload {
                NetlinkPayload::InnerMessage(inner) => self.messages.push(inner),
                NetlinkPayload::Error(error) if error.code.is_some() => {
                    return Err(error.to_io().into());
                }
                NetlinkPayload::Done(_) => return Ok(true),
                _ => {}
            }
            is_last = !self.is_dump;
        }
        Ok(is_last)
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::DoneMessage;
    use netlink_packet_route::link::LinkMessage;

    use super::*;

    fn datagram(sequence: u32, payload: NetlinkPayload<RouteNetlinkMessage>) -> Vec<u8> {
        let mut header = NetlinkHeader::default();
        header.sequence_number = sequence;
        let mut message = NetlinkMessage::new(header, payload);
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes
    }

    fn link() -> NetlinkPayload<RouteNetlinkMessage> {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(LinkMessage::default()))
    }

    fn answer(is_dump: bool) -> Answer<RouteNetlinkMessage> {
        Answer::to(7, is_dump)
    }

    #[test]
    fn an_answer_to_another_question_is_none() {
        let mut one = answer(false);
        assert!(!one.take(&datagram(6, link())).unwrap());
        assert!(one.messages.is_empty());
        assert!(one.take(&datagram(7, link())).unwrap());
        assert_eq!(one.messages.len(), 1);
    }

    #[test]
    fn an_answer_that_never_comes_is_not_waited_for_forever() {
        let netlink = Netlink::open(NETLINK_ROUTE).unwrap();
        let error = netlink
            .receive(answer(false))
            .map(drop)
            .expect_err("no answer");
        assert_eq!(error.to_string(), "the kernel does not answer over netlink");
    }

    #[test]
    fn a_dump_ends_with_its_own_end() {
        let done = || NetlinkPayload::Done(DoneMessage::default());
        let mut all = answer(true);
        let two = [datagram(7, link()), datagram(7, link())].concat();
        assert!(!all.take(&two).unwrap());
        assert!(!all.take(&datagram(6, done())).unwrap());
        assert!(all.take(&datagram(7, done())).unwrap());
        assert_eq!(all.messages.len(), 2);
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        for length in [0u32, 15, 17, 1 << 20, u32::MAX] {
            let mut bytes = datagram(7, link());
            bytes[..4].copy_from_slice(&length.to_ne_bytes());
            assert!(answer(false).take(&bytes).is_err(), "{length}");
        }
        assert!(answer(false).take(&[0; 3]).is_err());
    }
}
