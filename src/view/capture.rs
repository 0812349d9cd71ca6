//! Captured frames: lines, objects, and capture files.

use std::collections::HashMap;
use std::io::Write;
use std::net::IpAddr;

use anyhow::Result;
use serde::Serialize;

use super::escape::escape;
use super::frame_line::{frame_line, time_of_day};
use super::json;
use super::pcapng::{Frame, InterfaceId, Writer};
use crate::model::{Loss, Packet, Sighting, Stage};

/// A frame on one line, safe for a terminal.
pub fn line(sighting: &Sighting) -> String {
    let (time, stage) = (time_of_day(sighting.time), sighting.stage.name());
    let device = escape(sighting.device());
    let frame = frame_line(&sighting.bytes, sighting.len);
    let fate = escape(&fate(sighting));
    format!("{time} {stage:<7} {device} {frame}; {fate}")
}

/// What became of it: "redirected to 10.0.0.2 by veth1", "answered: leaves by veth0", "no rule: passed".
fn fate(sighting: &Sighting) -> String {
    let mut fate = sighting.outcome.replace('_', " ");
    let (server, egress) = (sighting.server, &sighting.egress);
    let to = server.map_or_else(|| ": leaves".into(), |server| format!(" to {server}"));
    match (sighting.action, egress) {
        ("redirect", Some(egress)) => fate += &format!("{to} by {egress}"),
        ("tx", Some(egress)) => fate += &format!(": answered by {egress}"),
        ("drop", _) if !fate.contains("drop") => fate += ": dropped",
        ("pass", _) if !fate.contains("pass") => fate += ": passed",
        _ => {}
    }
    match &sighting.loss {
        None => fate,
        Some((loss, error)) => {
            let error = error.as_ref().map(|error| format!(" ({error})"));
            let error = error.unwrap_or_default();
            format!("{fate}, and lost: {}{error}", why(*loss))
        }
    }
}

fn why(loss: Loss) -> &'static str {
    match loss {
        Loss::NotSupported => "the device, or its peer, takes no redirected frames",
        Loss::Mtu => "it is longer than the device's MTU",
        Loss::LinkDown => "the device or its peer is down",
        Loss::NoDevice => "the device went away",
        Loss::QueueFull => "the device's queue was full, or its peer's MTU is smaller",
        Loss::Other => "for a reason that is not listed",
    }
}

fn name(loss: Loss) -> &'static str {
    match loss {
        Loss::NotSupported => "not_supported",
        Loss::Mtu => "mtu",
        Loss::LinkDown => "link_down",
        Loss::NoDevice => "no_device",
        Loss::QueueFull => "queue_full",
        Loss::Other => "other",
    }
}

/// As scripts read it.
#[derive(Serialize)]
struct Object<'a> {
    time: String,
    packet: u64,
    stage: &'static str,
    #[serde(rename = "in")]
    ingress: &'a str,
    egress: Option<&'a str>,
    outcome: &'static str,
    action: &'static str,
    rule: Option<&'a str>,
    server: Option<IpAddr>,
    reason: Option<&'static str>,
    error: Option<&'a str>,
    len: usize,
    parsed: Option<Packet>,
    frame: String,
}

/// A frame as an object on one line.
pub fn object(sighting: &Sighting) -> Result<String> {
    let loss = sighting.loss.as_ref();
    json::line(&Object {
        time: humantime::format_rfc3339_nanos(sighting.time).to_string(),
        packet: sighting.packet,
        stage: sighting.stage.name(),
        ingress: &sighting.ingress,
        egress: sighting.egress.as_deref(),
        outcome: sighting.outcome,
        action: sighting.action,
        rule: sighting.rule.as_deref(),
        server: sighting.server,
        reason: loss.map(|(loss, _)| name(*loss)),
        error: loss.and_then(|(_, error)| error.as_deref()),
        len: sighting.len,
        parsed: Packet::read_part(&sighting.bytes, sighting.len),
        frame: sighting.bytes.iter().map(|b| format!("{b:02x}")).collect(),
    })
}

/// A capture file whose interfaces are devices at a stage.
pub struct CaptureFile<W> {
    writer: Writer<W>,
    interfaces: HashMap<(String, Stage), InterfaceId>,
}

impl<W: Write> CaptureFile<W> {
    pub fn new(out: W) -> Result<Self> {
        Ok(CaptureFile {
            writer: Writer::new(out)?,
            interfaces: HashMap::new(),
        })
    }

    pub fn add(&mut self, sighting: &Sighting) -> Result<()> {
        let interface = self.interface(sighting.device(), sighting.stage)?;
        self.writer.frame(&Frame {
            interface,
            time: sighting.time,
            bytes: &sighting.bytes,
            len: sighting.len,
            comment: Some(&comment(sighting)),
        })
    }

    fn interface(&mut self, device: &str, stage: Stage) -> Result<InterfaceId> {
        let key = (device.to_string(), stage);
        if let Some(known) = self.interfaces.get(&key) {
            return Ok(*known);
        }
        let name = format!("{device} {}", stage.name());
        let new = self.writer.interface(&name)?;
        self.interfaces.insert(key, new);
        Ok(new)
    }
}

fn comment(sighting: &Sighting) -> String {
    let (stage, ingress) = (sighting.stage.name(), &sighting.ingress);
    let rule = sighting.rule.as_ref().map(|rule| format!("; rule {rule}"));
    let rule = rule.unwrap_or_default();
    let came = match sighting.stage {
        Stage::Arrived => String::new(),
        _ => format!("; arrived at {ingress}"),
    };
    escape(&format!(
        "{stage}: {}{rule}{came}; packet {}",
        fate(sighting),
        sighting.packet
    ))
}
