//! libxdp's dispatcher: an XDP program that calls those of others, in the order of their priorities. Each takes the place
//! of a function of the dispatcher (freplace). A dispatcher never changes: who adds or removes a program makes another
//! one, and attaches it in the place of the one before in one step. `xdp-loader` does so for us.
//!
//! What it adds is a small program that calls ours by a slot. So ours is what it is elsewhere, on the same maps, and is
//! replaced by a write to the slot. The kernel tells which programs a dispatcher calls.

use std::io::{ErrorKind, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use libbpf_rs::btf::{BtfType, TypeId};
use libbpf_rs::query::{LinkInfo, LinkInfoIter, LinkTypeInfo, ProgInfoIter, ProgInfoQueryOptions};
use libbpf_rs::{
    MapCore, MapFlags, MapHandle, MapType, ObjectBuilder, OpenProgramMut, ProgramAttachType,
    ProgramHandle, ProgramType, btf::Btf, libbpf_sys,
};
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::{Pins, abi, refusal, sys};
use crate::error::{Exit, failure, join_lines, one_line};
use crate::host::device;
use crate::host::kernel::release;
use crate::model::Mode;

/// What its program is called.
const DISPATCHER: &str = "xdp_dispatcher";

/// What the program is called that calls ours.
const CALLER: &str = "xdpredir_join";

/// That program, as xdp-loader reads it.
const OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/join.bpf.o"));

const LOADER: &str = "xdp-loader";

/// The first of its functions. The verifier says of this one what it says of all.
const FIRST: &str = "prog0";

/// Zero, which says nothing where a program is no cgroup's.
const NO_ATTACH_TYPE: ProgramAttachType = ProgramAttachType::CgroupInetIngress;

/// The words of verifiers (Linux 6.13, and stable ones of that time) where a function takes no program that changes
/// packets, because it does not do so itself.
const CHANGES_PACKETS: &str = "changes packet data";

/// Where its constants have the programs' priorities, in all of its versions: behind four bytes and ten words.
const PRIORITIES: usize = 44;

/// How many programs it calls at most.
const PROGRAMS: usize = 10;

/// Whether a program with this name is a dispatcher.
pub fn is_one(name: &str) -> bool {
    name == DISPATCHER
}

/// Whether a dispatcher calls a program of this command.
pub fn calls_ours(dispatcher: u32) -> bool {
    let mut all = callers(dispatcher);
    all.any(|caller| caller.calls().is_ok_and(|program| program.is_some()))
}

/// What calls a program of this command in a dispatcher.
pub struct Caller {
    dispatcher: u32,
    /// Its own number.
    program: u32,
    /// The function whose place it takes, by its number in the dispatcher's BTF.
    function: u32,
}

fn callers(dispatcher: u32) -> impl Iterator<Item = Caller> {
    let caller = move |link: LinkInfo| match link.info {
        LinkTypeInfo::Tracing(tracing) if tracing.target_obj_id == dispatcher => Some(Caller {
            dispatcher,
            program: link.prog_id,
            function: tracing.target_btf_id,
        }),
        _ => None,
    };
    LinkInfoIter::default()
        .filter_map(caller)
        .filter(Caller::is_ours)
}

/// What calls a program in the dispatcher of a device; None where nothing does.
pub fn find(ifindex: u32, program: u32) -> Result<Option<Caller>> {
    settled(ifindex, |there| among(there, program))
}

/// The priority of a program in the dispatcher of a device; None where that does not call it.
pub fn priority(ifindex: u32, program: u32) -> Result<Option<u32>> {
    settled(ifindex, |there| {
        let caller = among(there, program)?;
        caller.map(|caller| caller.priority()).transpose()
    })
}

/// Asks about the programs of a device, and again where another dispatcher has taken the place of one meanwhile.
fn settled<T>(ifindex: u32, ask: impl Fn(&[u32]) -> Result<T>) -> Result<T> {
    let mut there = programs(ifindex)?;
    loop {
        let answer = ask(&there);
        let now = programs(ifindex)?;
        if now == there {
            return answer;
        }
        there = now;
    }
}

fn programs(ifindex: u32) -> Result<Vec<u32>> {
    match sys::xdp_query(ifindex) {
        // Its device is gone.
        Err(error) if error.raw_os_error() == Some(nix::libc::ENODEV) => Ok(Vec::new()),
        state => Ok(state?.programs()),
    }
}

fn among(there: &[u32], program: u32) -> Result<Option<Caller>> {
    for dispatcher in there {
        let name = ProgramHandle::from_prog_id(*dispatcher)?;
        if !is_one(&name.name().to_string_lossy()) {
            continue;
        }
        for caller in callers(*dispatcher) {
            if caller.calls()? == Some(program) {
                return Ok(Some(caller));
            }
        }
    }
    Ok(None)
}

impl Caller {
    /// Links of other kinds have numbers of other things where this one has the dispatcher's.
    fn is_ours(&self) -> bool {
        ProgramHandle::from_prog_id(self.program).is_ok_and(|program| {
            program.prog_type() == ProgramType::Ext && program.name().to_string_lossy() == CALLER
        })
    }

    fn slot(&self) -> Result<MapHandle> {
        only_map(self.program)
    }

    /// The program that it calls; None where the slot is empty.
    fn calls(&self) -> Result<Option<u32>> {
        let number = self.slot()?.lookup(&[0; 4], MapFlags::ANY)?;
        number.map(|number| abi::from_bytes(&number)).transpose()
    }

    /// Has it call another program, from one packet to the next.
    pub fn replace(&self, by: BorrowedFd<'_>) -> Result<()> {
        put(&self.slot()?, by)
    }

    /// In which order the dispatcher calls it: the lower, the earlier.
    fn priority(&self) -> Result<u32> {
        let types = Btf::from_prog_id(self.dispatcher)?;
        let function: Option<BtfType> = types.type_by_id(TypeId::from(self.function));
        let name = function.as_ref().and_then(BtfType::name);
        let number = name.and_then(|name| name.to_str()?.strip_prefix("prog")?.parse().ok());
        // Where there is one program alone, newer versions have it take the place of the whole.
        let number = number.unwrap_or(0).min(PROGRAMS - 1);
        let constants = only_map(self.dispatcher)?.lookup(&[0; 4], MapFlags::ANY)?;
        let at = PRIORITIES + number * size_of::<u32>();
        let priority = constants.as_ref().and_then(|all| all.get(at..at + 4));
        abi::from_bytes(priority.context("libxdp's dispatcher has no priorities")?)
    }

    /// Has the dispatcher call it no more.
    pub fn remove(&self, ifindex: u32) -> Result<()> {
        let mut command = Command::new(LOADER);
        let program = self.program.to_string();
        command.args(["unload", "--id", &program, "--", &name_of(ifindex)?]);
        run(command.stdin(Stdio::null())).context("the program stays in libxdp's dispatcher")
    }
}

fn put(slot: &MapHandle, program: BorrowedFd<'_>) -> Result<()> {
    let program = program.as_raw_fd().to_ne_bytes();
    Ok(slot.update(&[0; 4], &program, MapFlags::ANY)?)
}

/// The map of a program that has one alone.
fn only_map(program: u32) -> Result<MapHandle> {
    let options = ProgInfoQueryOptions::default().include_map_ids(true);
    let mut all = ProgInfoIter::with_query_opts(options);
    let info = all.find(|info| info.id == program);
    let map = info.as_ref().and_then(|info| info.map_ids.first());
    let map = map.with_context(|| format!("the program {program} has no map"))?;
    Ok(MapHandle::from_map_id(*map)?)
}

/// Puts a program into a slot that is pinned, and tries whether this kernel lets a dispatcher call it.
pub fn prepare(pins: &Pins, ifindex: u32, dispatcher: &OwnedFd, program: &OwnedFd) -> Result<()> {
    let options = libbpf_sys::bpf_map_create_opts {
        sz: size_of::<libbpf_sys::bpf_map_create_opts>() as libbpf_sys::size_t,
        ..Default::default()
    };
    let slot = MapHandle::create(MapType::ProgArray, Some("joined"), 4, 4, 1, &options)?;
    put(&slot, program.as_fd())?;
    let pin = pins.joined(ifindex);
    sys::pin(slot.as_fd(), &pin)?;
    let mut object = ObjectBuilder::default().open_memory(OBJECT)?;
    for mut map in object.maps_mut() {
        map.set_pin_path(&pin)?;
    }
    for mut program in object.progs_mut() {
        program.set_prog_type(ProgramType::Ext);
        program.set_attach_type(NO_ATTACH_TYPE);
        program.set_attach_target(dispatcher.as_raw_fd(), Some(FIRST.into()))?;
    }
    match refusal::explain_foreign(|| object.load()) {
        Ok(_) => Ok(()),
        Err(error) => Err(refused(&error)),
    }
}

/// Has a program be one that the caller may call: newer kernels want both to have the same attach type, and that of a
/// program which extends another one is none.
pub fn fit(program: &mut OpenProgramMut<'_>) {
    program.set_attach_type(NO_ATTACH_TYPE);
}

fn refused(error: &anyhow::Error) -> anyhow::Error {
    let (why, kernel) = (one_line(error), release());
    let why = match why.contains(CHANGES_PACKETS) {
        true => format!(
            "this kernel ({kernel}) lets no program that changes packets into it, as it was loaded by libxdp before 1.5.5"
        ),
        false => {
            format!("this kernel ({kernel}) lets no program extend another one (freplace): {why}")
        }
    };
    failure(Exit::Unsupported, why)
}

/// Has the dispatcher of a device call the program in the slot that is prepared, with this priority.
pub fn join(pins: &Pins, ifindex: u32, mode: Mode, priority: u32) -> Result<()> {
    let mut object = std::fs::File::from(memfd_create("join", MFdFlags::MFD_CLOEXEC)?);
    object.write_all(OBJECT)?;
    let mut command = Command::new(LOADER);
    command.args(["load", "--mode", &mode.to_string()]);
    command.args(["--prio", &priority.to_string()]);
    // libbpf takes dots out of a path, which the mount point may have.
    command.current_dir(pins.interface(ifindex));
    command.args(["--pin-path", "/proc/self/cwd", "--"]);
    command.args([&name_of(ifindex)?, "/proc/self/fd/0"]);
    run(command.stdin(object))
}

fn name_of(ifindex: u32) -> Result<String> {
    let gone = || format!("the device with ifindex {ifindex} has just gone");
    device::name_of(ifindex).with_context(gone)
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            let why = format!("{LOADER} (package xdp-tools), which changes it, is not installed");
            failure(Exit::Unsupported, why)
        }
        _ => anyhow::Error::from(error).context(format!("cannot run {LOADER}")),
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = join_lines(&String::from_utf8_lossy(&output.stderr));
    let why = match &*said {
        "" => format!("{LOADER} has ended with {}", output.status),
        said => format!("{LOADER} says: {said}"),
    };
    Err(failure(Exit::Failed, why))
}
