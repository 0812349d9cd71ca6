//! `xdpredir dump`

use std::io::{BufWriter, Stdout, Write, stdout};

use anyhow::{Context, Result};
use serde::Serialize;
use xdpredir::control::{self, DumpRequest, DumpedFrames, Dumping, FrameSink};
use xdpredir::host::device::Device;
use xdpredir::model::{Mode, Packet, ReadQueue, Taken, TakenFrame};
use xdpredir::view::{self, pcapng, watch};

use super::grammar::{Dump, Global, Queue, XdpMode};
use super::pins;
use super::target::{Blocks, Target};

/// A frame as scripts read it.
#[derive(Serialize)]
struct Row<'a> {
    time: String,
    ifname: &'a str,
    ifindex: u32,
    queue: u32,
    len: usize,
    parsed: Option<Packet>,
    frame: String,
}

pub fn run(global: &Global, args: &Dump) -> Result<()> {
    // Opening a pipe waits for its reader, and Ctrl-C is to end that.
    let target = args.write.as_deref().map(Target::open).transpose()?;
    let stop = watch::on_interrupt()?;
    let mut dumping = control::dump(&pins(global)?, &request(args))?;
    let device = dumping.device.clone();
    let mut sink = Sink {
        form: Form::new(global, args, target, &device.name)?,
        device,
    };
    dumping.begin()?;
    view::notice(begun(&dumping));
    let report = dumping.run(args.count, || stop.try_recv().is_ok(), &mut sink)?;
    view::notice(ended(&report.taken));
    report.broken.map_or(Ok(()), Err)
}

fn request(args: &Dump) -> DumpRequest {
    DumpRequest {
        interface: args.interface.clone(),
        mode: args.mode.map(|mode| match mode {
            XdpMode::Native => Mode::Native,
            XdpMode::Skb => Mode::Skb,
        }),
        queue: match args.queue {
            Queue::All => None,
            Queue::One(queue) => Some(queue),
        },
        what: match args.rules {
            true => DumpedFrames::OfRules,
            false => DumpedFrames::Matching((&args.filter).into()),
        },
    }
}

/// Shows frames.
struct Sink {
    device: Device,
    form: Form,
}

enum Form {
    Lines(BufWriter<Stdout>),
    Hex(BufWriter<Stdout>),
    Json(BufWriter<Stdout>),
    Pcapng(pcapng::Writer<Blocks>, pcapng::InterfaceId),
}

impl Form {
    fn new(global: &Global, args: &Dump, target: Option<Target>, name: &str) -> Result<Self> {
        let out = BufWriter::new(stdout());
        Ok(match target {
            Some(target) => {
                let mut writer = pcapng::Writer::new(target.begin()?)?;
                let interface = writer.interface(name)?;
                Form::Pcapng(writer, interface)
            }
            None if global.json => Form::Json(out),
            None if args.hex => Form::Hex(out),
            None => Form::Lines(out),
        })
    }
}

impl FrameSink for Sink {
    fn frame(&mut self, frame: &TakenFrame) -> Result<()> {
        let (bytes, len) = (frame.bytes, frame.bytes.len());
        let (out, text) = match &mut self.form {
            Form::Lines(out) => {
                let time = view::time_of_day(frame.time);
                let line = view::frame_line(bytes, len);
                (out, format!("{time} queue {} {line}", frame.queue))
            }
            Form::Hex(out) => (out, view::hex_lines(bytes)),
            Form::Json(out) => (out, view::json::line(&row(&self.device, frame))?),
            Form::Pcapng(writer, interface) => {
                let frame = pcapng::Frame {
                    interface: *interface,
                    time: frame.time,
                    bytes,
                    len,
                    comment: None,
                };
                return writer.frame(&frame);
            }
        };
        writeln!(out, "{text}").context("cannot write to standard output")
    }

    fn pause(&mut self) -> Result<()> {
        match &mut self.form {
            Form::Lines(out) | Form::Hex(out) | Form::Json(out) => {
                out.flush().context("cannot write to standard output")
            }
            Form::Pcapng(..) => Ok(()),
        }
    }
}

fn row<'a>(device: &'a Device, frame: &TakenFrame) -> Row<'a> {
    Row {
        time: humantime::format_rfc3339_nanos(frame.time).to_string(),
        ifname: &device.name,
        ifindex: device.ifindex,
        queue: frame.queue,
        len: frame.bytes.len(),
        parsed: Packet::read(frame.bytes),
        frame: view::hex(frame.bytes),
    }
}

/// Which queues are read, and how their frames get here.
fn begun(dumping: &Dumping) -> String {
    let queues = dumping.queues();
    let same = |a: &ReadQueue, b: &ReadQueue| a.zero_copy == b.zero_copy;
    let groups = queues.chunk_by(same).map(|group| {
        let how = match group[0].zero_copy {
            true => "zero copy",
            false => "copy",
        };
        match group {
            [one] => format!("queue {}: {how}", one.number),
            [first, .., last] => format!("queues {} to {}: {how}", first.number, last.number),
            [] => String::new(),
        }
    });
    let groups: Vec<String> = groups.collect();
    format!(
        "taking frames from {} ({} mode), {}; Ctrl-C ends",
        dumping.device.name,
        dumping.mode(),
        groups.join(", ")
    )
}

fn ended(taken: &Taken) -> String {
    let frames = |count: u64| view::count(count as usize, "frame");
    let mut said = format!("{} taken", frames(taken.read));
    let others = [
        (taken.beyond, "taken after that, and not shown"),
        (
            taken.lost,
            "lost, because they came faster than they were read",
        ),
        (
            taken.too_long,
            "too long for a buffer, and left to the host",
        ),
    ];
    for (count, what) in others.into_iter().filter(|(count, _)| *count > 0) {
        said += &format!("; {} {what}", frames(count));
    }
    said
}
