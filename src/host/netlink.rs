//! Requests over netlink.

use anyhow::{Context, Result};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage,
    NetlinkPayload, NetlinkSerializable,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// A message of a netlink protocol.
pub trait Message: NetlinkSerializable + NetlinkDeserializable {
    const PROTOCOL: isize;
}

impl Message for RouteNetlinkMessage {
    const PROTOCOL: isize = NETLINK_ROUTE;
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
    let mut socket = Socket::new(M::PROTOCOL).context("cannot open a netlink socket")?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    // Without it (Linux 4.20) a dump takes no notice of what its request asks for.
    let _ = socket.set_netlink_get_strict_chk(true);

    let mut header = NetlinkHeader::default();
    header.flags = flags;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(request));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;

    let mut answers = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        if !collect(&datagram, flags & NLM_F_DUMP == NLM_F_DUMP, &mut answers)? {
            return Ok(answers);
        }
    }
}

/// Adds a datagram's messages to the answers; true where more are to come.
pub fn collect<M: Message>(datagram: &[u8], dump: bool, answers: &mut Vec<M>) -> Result<bool> {
    let mut rest = datagram;
    while !rest.is_empty() {
        let message = NetlinkMessage::<M>::deserialize(rest)?;
        // Messages are aligned to 4 bytes; 16 is the header's own size.
        let length = (message.header.length as usize).next_multiple_of(4).max(16);
        match message.payload {
            NetlinkPayload::InnerMessage(inner) => answers.push(inner),
            NetlinkPayload::Error(error) if error.code.is_some() => {
                return Err(error.to_io().into());
            }
            NetlinkPayload::Done(_) => return Ok(false),
            _ => {}
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok(dump)
}
