//! Taking frames away from the stack: a program that is attached, or stands in for that of an interface, and sockets
//! that it hands them to. All of it belongs to this process, and goes with it: then frames pass again.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result};
use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};
use libbpf_rs::{MapCore, MapFlags, MapHandle, Object, OpenObject, Program, libbpf_sys};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::abi::{self, DumpSkelBuilder, XdpredirDumpSkelBuilder};
use super::af_xdp::{ONE_BUFFER, Socket};
use super::bpffs::{At, exists};
use super::foreign::Foreign;
use super::load::{SOCKETS, map_of, program_of};
use super::mode::{self, choose};
use super::queues::bind_all;
use super::stand_in::Place;
use super::wanted::encode;
use super::{Interface, Pins, StandIn, Standing, refusal, sys};
use crate::error::{Exit, failure};
use crate::host::device::Device;
use crate::host::kernel;
use crate::model::{ETHERNET_MTU, Mode, PacketFilter, Purpose, ReadQueue};

/// What the programs have of their own.
const WANTED: &str = ".rodata.wanted";
const TAKING: &str = ".data.taking";
const READERS: &str = "readers";

const GONE: &str = "the device is gone, or in another network namespace";

/// The key of a map with one entry.
const FIRST: [u8; 4] = [0; 4];

/// Maps of the headers that the programs share, and that this one does without.
const UNUSED: [&str; 2] = ["rulesets", "egress"];

/// Where frames are to be taken.
pub struct DumpSpec<'a> {
    pub device: &'a Device,
    /// None: the one that pays.
    pub mode: Option<Mode>,
    /// None: all.
    pub queue: Option<u32>,
}

/// Frames that are taken, once that has begun.
pub struct Dump {
    pins: Pins,
    device: String,
    pub mode: Mode,
    // In this order, so that no frame is handed to a socket that is gone.
    way: Option<Way>,
    /// Where the program finds the sockets.
    readers: MapHandle,
    /// None: the program is the interface's own, and tells nothing.
    taking: Option<Taking>,
    sockets: Vec<Socket>,
}

/// How frames get to the program.
enum Way {
    /// By a link that nothing pins, of a program with this number at this device.
    Link {
        #[expect(dead_code, reason = "is there to be dropped")]
        link: OwnedFd,
        program: u32,
        ifindex: u32,
    },
    StandIn(StandIn),
    /// By rules of the interface.
    Rules(Interface),
}

/// What a program and this process tell each other.
struct Taking(MapHandle);

impl Dump {
    /// At a device where no XDP program is.
    pub fn attach(pins: &Pins, spec: &DumpSpec, filter: &PacketFilter) -> Result<Self> {
        let device = spec.device;
        if let Some(foreign) = Foreign::find(device.ifindex)? {
            let (name, whose) = (&device.name, foreign.describe());
            let why = format!("{name} has another XDP {whose}");
            let remedy = match foreign.takes() {
                true => "end the run that takes frames there first",
                false => "detach that first",
            };
            return Err(failure(Exit::Conflict, (why, remedy)));
        }
        let wanted = encode(filter);
        let choice = choose(device, spec.mode, Purpose::Rules, &[])?;
        let mut mode = choice.mode;
        let (mut program, mut maps) = load(&wanted, false)?;
        let mut link = mode::link(&program, device, mode);
        let is_large = mode == Mode::Native && device.mtu > ETHERNET_MTU;
        // Before Linux 6.6, sockets lose all of a frame but its first buffer.
        if link.is_err() && is_large && kernel::is_at_least(6, 6) {
            (program, maps) = load(&wanted, true)?;
            link = mode::link(&program, device, mode);
        }
        if let (Err(_), Some(other)) = (&link, choice.otherwise) {
            mode = other;
            (program, maps) = load(&wanted, false)?;
            link = mode::link(&program, device, mode);
        }
        let what = format!("{} takes no program in {mode} mode", device.name);
        let way = Way::Link {
            link: link.map_err(|refused| refused.of(&what))?,
            program: Program::id_from_fd(program.as_fd())?,
            ifindex: device.ifindex,
        };
        let (readers, taking) = maps;
        Dump::by(pins, spec, mode, way, readers, Some(taking))
    }

    /// Before the program of an interface, which meets what is not taken.
    pub fn stand_in(
        pins: &Pins,
        interface: &Interface,
        spec: &DumpSpec,
        filter: &PacketFilter,
    ) -> Result<Self> {
        let wanted = encode(filter);
        let place = Place::of(pins, interface)?;
        let builder = XdpredirDumpSkelBuilder::default();
        let prepare = |object: &mut OpenObject| prepare(object, &wanted);
        let (program, (readers, taking)) = place.load(builder, false, prepare, maps_of)?;
        let (mode, way) = (interface.mode, Way::StandIn(place.give(program)?));
        Dump::by(pins, spec, mode, way, readers, Some(taking))
    }

    /// What rules of an interface take for sockets.
    pub fn of_rules(pins: &Pins, interface: &Interface, spec: &DumpSpec) -> Result<Self> {
        let readers = sockets_of(pins, interface)?;
        let (mode, way) = (interface.mode, Way::Rules(interface.clone()));
        Dump::by(pins, spec, mode, way, readers, None)
    }

    fn by(
        pins: &Pins,
        spec: &DumpSpec,
        mode: Mode,
        way: Way,
        readers: MapHandle,
        taking: Option<Taking>,
    ) -> Result<Self> {
        // Drivers want a program to be there before they hand over their buffers.
        let sockets = bind_all(spec.device, mode, spec.queue)?;
        Ok(Dump {
            pins: pins.clone(),
            device: spec.device.name.clone(),
            mode,
            way: Some(way),
            readers,
            taking,
            sockets,
        })
    }

    pub fn queues(&self) -> Vec<ReadQueue> {
        let queue = |socket: &Socket| ReadQueue {
            number: socket.queue,
            zero_copy: socket.means.zero_copy,
        };
        self.sockets.iter().map(queue).collect()
    }

    /// From now on, frames are taken.
    pub fn begin(&mut self) -> Result<()> {
        let mut sockets = self.sockets.iter();
        let longest = match sockets.all(|socket| socket.means.several_buffers) {
            true => u64::MAX,
            false => ONE_BUFFER.into(),
        };
        if let Some(taking) = &self.taking {
            taking.limit(longest)?;
        }
        for socket in &self.sockets {
            let descriptor = socket.as_fd().as_raw_fd().to_ne_bytes();
            let queue = socket.queue.to_ne_bytes();
            self.readers.update(&queue, &descriptor, MapFlags::ANY)?;
        }
        Ok(())
    }

    /// Waits until there is a frame, for so long at most.
    pub fn wait(&self, timeout: Duration) -> Result<()> {
        let wanted = |socket| PollFd::new(AsFd::as_fd(socket), PollFlags::POLLIN);
        let mut sockets: Vec<PollFd> = self.sockets.iter().map(wanted).collect();
        let timeout = PollTimeout::try_from(timeout)?;
        match poll(&mut sockets, timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error).context("cannot wait for frames"),
        }
    }

    /// Hands over some of the frames that there are, with the numbers of their queues. How many there were.
    pub fn read(&mut self, mut each: impl FnMut(u32, &[u8]) -> Result<()>) -> Result<usize> {
        let mut frames = 0;
        for socket in &mut self.sockets {
            let queue = socket.queue;
            frames += socket.read(|bytes| each(queue, bytes))?;
        }
        Ok(frames)
    }

    /// Fails once no more frames can come. To be asked from time to time.
    pub fn check(&self) -> Result<()> {
        let name = &self.device;
        let ended = |why: &str| Err(failure(Exit::Failed, format!("{name}: {why}")));
        if self.sockets.iter().any(|socket| socket.check().is_err()) {
            return ended(GONE);
        }
        match &self.way {
            Some(Way::Link {
                program, ifindex, ..
            }) => match sys::xdp_query(*ifindex) {
                Ok(state) if state.programs().contains(program) => Ok(()),
                Ok(_) => ended("the program that takes frames was taken off, or replaced"),
                Err(_) => ended(GONE),
            },
            Some(Way::StandIn(stand_in)) => match stand_in.look(&self.pins)? {
                Standing::Stands => Ok(()),
                Standing::Replaced => ended("another run has replaced the interface's program"),
                Standing::Detached => ended("the interface was detached"),
            },
            Some(Way::Rules(interface)) => {
                let is_same = || Ok(sockets_of(&self.pins, interface)?.info()?.info.id);
                let (now, before): (Result<u32>, _) = (is_same(), self.readers.info()?.info.id);
                match now.is_ok_and(|now| now == before) {
                    true => Ok(()),
                    false => ended("the interface was detached, or attached again"),
                }
            }
            None => Ok(()),
        }
    }

    /// From now on, frames stay where they are. Those that were taken before can still be read.
    pub fn end(&mut self) {
        if let Some(Way::Rules(_)) = self.way.take() {
            for socket in &self.sockets {
                // It would go with its socket, too.
                let _ = self.readers.delete(&socket.queue.to_ne_bytes());
            }
        }
        sys::wait_for_readers();
    }

    /// How many frames were lost, because no buffer was free.
    pub fn lost(&self) -> Result<u64> {
        let losses = self.sockets.iter().map(Socket::lost);
        let losses: std::io::Result<u64> = losses.sum();
        losses.context("the sockets do not tell what they lost")
    }

    /// How many frames were left to the stack, because they were too long.
    pub fn too_long(&self) -> Result<u64> {
        self.taking.as_ref().map_or(Ok(0), Taking::too_long)
    }
}

/// Where an interface's own program finds sockets.
fn sockets_of(pins: &Pins, interface: &Interface) -> Result<MapHandle> {
    let path = pins.interface_map(interface.ifindex, SOCKETS);
    if interface.mode != Mode::Tc && exists(&path)? {
        return MapHandle::from_pinned_path(&path).at("cannot open", &path);
    }
    let name = interface.name();
    let why = match interface.mode {
        Mode::Tc => "in tc mode, rules hand no packets to sockets: attach it in native or skb mode",
        _ => "rules hand no packets to sockets there, because the kernel has none (AF_XDP)",
    };
    Err(failure(Exit::Unsupported, format!("{name}: {why}")))
}

/// The program for a device that has none.
fn load(wanted: &abi::wanted, frags: bool) -> Result<(OwnedFd, (MapHandle, Taking))> {
    let mut storage = MaybeUninit::uninit();
    let mut open = DumpSkelBuilder::default().open(&mut storage)?;
    if frags {
        let constants = open.maps.rodata_data.as_deref_mut();
        constants
            .context("the program has no constants")?
            .interface
            .frags = 1;
        let flag = libbpf_sys::BPF_F_XDP_HAS_FRAGS;
        open.progs.xdpredir_dump.set_flags(flag);
    }
    let object = open.open_object_mut();
    let is_unused = |map: &libbpf_rs::OpenMapMut| UNUSED.iter().any(|name| map.name() == *name);
    for mut map in object.maps_mut().filter(is_unused) {
        map.set_autocreate(false)?;
    }
    prepare(object, wanted)?;
    let mut loaded = refusal::explain(|| open.load())?;
    let maps = maps_of(loaded.object())?;
    Ok((program_of(loaded.object_mut())?, maps))
}

/// Tells a program what is wanted, before it is loaded.
fn prepare(object: &mut OpenObject, wanted: &abi::wanted) -> Result<()> {
    let mut maps = object.maps_mut();
    let constants = maps.find(|map| map.name() == WANTED);
    let mut constants = constants.context("the program has no place for a filter")?;
    Ok(constants.set_initial_value(abi::bytes_of(wanted))?)
}

fn maps_of(object: &Object) -> Result<(MapHandle, Taking)> {
    let readers = MapHandle::try_from(&map_of(object, READERS)?)?;
    let taking = MapHandle::try_from(&map_of(object, TAKING)?)?;
    Ok((readers, Taking(taking)))
}

impl Taking {
    /// Before frames are taken.
    fn limit(&self, longest: u64) -> Result<()> {
        let taking = abi::taking {
            longest,
            too_long: 0,
        };
        let value = abi::bytes_of(&taking);
        Ok(self.0.update(&FIRST, value, MapFlags::ANY)?)
    }

    fn too_long(&self) -> Result<u64> {
        let bytes = self.0.lookup(&FIRST, MapFlags::ANY)?;
        let taking: abi::taking = abi::from_bytes(&bytes.context("the program has no variables")?)?;
        Ok(taking.too_long)
    }
}
