//! Takes frames away from the host, and shows them.

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Error, Result};

use super::validate;
use crate::datapath::{self, Dump, DumpSpec, Interface, Pins};
use crate::error::{Exit, failure};
use crate::host::device::{self, Device};
use crate::model::{Mode, PacketFilter, ReadQueue, Remedy, Taken, TakenFrame, Verb};

/// How long nobody looks whether the run is to end.
const PATIENCE: Duration = Duration::from_millis(100);

/// How often it is looked whether frames can come at all.
const LOOK: Duration = Duration::from_millis(200);

/// Which frames are taken, and where.
#[derive(Clone, Debug)]
pub struct DumpRequest {
    /// The device's name, which may be an alternative one.
    pub interface: String,
    /// None: the one that pays.
    pub mode: Option<Mode>,
    /// None: all.
    pub queue: Option<u32>,
    pub what: DumpedFrames,
}

/// Which frames are taken.
#[derive(Clone, Debug)]
pub enum DumpedFrames {
    Matching(PacketFilter),
    /// What rules of the interface take for sockets.
    OfRules,
}

/// Who shows the frames.
pub trait FrameSink {
    fn frame(&mut self, frame: &TakenFrame) -> Result<()>;

    /// There is no other frame right now.
    fn pause(&mut self) -> Result<()>;
}

/// What has become of the frames.
pub struct DumpReport {
    pub taken: Taken,
    /// Why no more can come; None: the run was to end.
    pub broken: Option<Error>,
}

/// Frames that are taken, once that has begun.
pub struct Dumping {
    pub device: Device,
    dump: Dump,
}

/// Prepares all, and takes no frame yet.
pub fn dump(pins: &Pins, request: &DumpRequest) -> Result<Dumping> {
    if let DumpedFrames::Matching(filter) = &request.what {
        validate::packets(filter)?;
    }
    let device = device::by_name(&request.interface)?;
    device.require_ethernet_header()?;
    let spec = DumpSpec {
        device: &device,
        mode: request.mode,
        queue: request.queue,
    };
    let interface = attached(pins, &device)?;
    // Beside a program at the tc hook, there can be another.
    let has_xdp = |interface: &Interface| interface.mode != Mode::Tc;
    let dump = match (&request.what, interface) {
        (DumpedFrames::OfRules, None) => return Err(not_attached(&device)),
        (DumpedFrames::OfRules, Some(interface)) => Dump::of_rules(pins, &interface, &spec)?,
        (DumpedFrames::Matching(filter), Some(interface)) if has_xdp(&interface) => {
            require_mode(&interface, request.mode)?;
            Dump::stand_in(pins, &interface, &spec, filter)?
        }
        (DumpedFrames::Matching(filter), _) => Dump::attach(pins, &spec, filter)?,
    };
    Ok(Dumping { device, dump })
}

fn not_attached(device: &Device) -> Error {
    let why = format!("{}: not attached", device.name);
    let status = Remedy::from(Verb::Plain("status")) + " shows the interfaces that are";
    failure(Exit::NotFound, (why, status))
}

/// The interface, where it is attached.
fn attached(pins: &Pins, device: &Device) -> Result<Option<Interface>> {
    let interfaces = datapath::read(pins, || datapath::interfaces(pins))?;
    let mut interfaces = interfaces.unwrap_or_default().into_iter();
    Ok(interfaces.find(|interface| interface.ifindex == device.ifindex && !interface.moved))
}

fn require_mode(interface: &Interface, wanted: Option<Mode>) -> Result<()> {
    let (name, mode) = (interface.name(), interface.mode);
    match wanted.is_none_or(|wanted| wanted == mode) {
        true => Ok(()),
        false => {
            let why =
                format!("{name} is attached in {mode} mode, and frames are taken in that mode");
            Err(failure(Exit::Conflict, why))
        }
    }
}

impl Dumping {
    pub fn mode(&self) -> Mode {
        self.dump.mode
    }

    pub fn queues(&self) -> Vec<ReadQueue> {
        self.dump.queues()
    }

    /// From now on, frames are taken.
    pub fn begin(&mut self) -> Result<()> {
        self.dump.begin()
    }

    /// Shows frames until so many are shown, until it is over, or until no more can come.
    pub fn run(
        mut self,
        count: Option<u64>,
        is_over: impl Fn() -> bool,
        sink: &mut impl FrameSink,
    ) -> Result<DumpReport> {
        let mut taken = Taken::default();
        let is_enough = |taken: &Taken| count.is_some_and(|count| taken.read >= count);
        let mut broken = None;
        let mut looked = Instant::now();
        while !is_enough(&taken) && !is_over() && broken.is_none() {
            self.dump.wait(PATIENCE)?;
            self.show(count, &mut taken, sink)?;
            if looked.elapsed() >= LOOK {
                broken = self.dump.check().err();
                looked = Instant::now();
            }
        }
        self.dump.end();
        while self.show(count, &mut taken, sink)? > 0 {}
        taken.lost = self.dump.lost()?;
        taken.too_long = self.dump.too_long()?;
        Ok(DumpReport { taken, broken })
    }

    /// Shows some frames. How many there were.
    fn show(
        &mut self,
        count: Option<u64>,
        taken: &mut Taken,
        sink: &mut impl FrameSink,
    ) -> Result<usize> {
        let frames = self.dump.read(|queue, bytes| {
            if count.is_some_and(|count| taken.read >= count) {
                taken.beyond += 1;
                return Ok(());
            }
            taken.read += 1;
            sink.frame(&TakenFrame {
                time: SystemTime::now(),
                queue,
                bytes,
            })
        })?;
        sink.pause()?;
        Ok(frames)
    }
}
