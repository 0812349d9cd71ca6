//! Other people's programs: pinned ones, and those of object files.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use anyhow::{Error, Result};
use libbpf_rs::{
    ErrorKind, MapCore, MapFlags, MapHandle, MapType, ObjectBuilder, OpenObject, OpenProgram,
    Program, ProgramAttachType, ProgramHandle, ProgramType, libbpf_sys,
};

use super::entry::{Code, Member};
use crate::datapath::bpffs::is_bpffs;
use crate::datapath::foreign::is_ours;
use crate::datapath::{abi, refusal};
use crate::error::{Exit, failure};
use crate::host::device;

/// How many programs a chain has at most.
pub const MAX: usize = abi::CHAIN_PROGRAMS as usize;

/// How sections are called whose programs run behind a redirect, not where packets arrive.
const BEHIND: [&str; 2] = ["/devmap", "/cpumap"];

/// A program of an object file.
pub struct Opened {
    object: OpenObject,
    name: String,
    frags: bool,
}

/// A pinned program, or one of an object file: `PATH`, or `PATH:SECTION` with its section or name.
pub fn open(source: &str) -> Result<Member> {
    let (path, section) = split(source)?;
    let absolute = fs::canonicalize(path).unwrap_or_else(|_| path.into());
    let (name, code) = match (is_bpffs(path), section) {
        (true, None) => pinned(path)?,
        (true, Some(_)) => {
            let why = format!("{}: is pinned, and has no sections", path.display());
            return Err(failure(Exit::Usage, why));
        }
        (false, section) => object(path, section)?,
    };
    let source = match section {
        None => absolute.display().to_string(),
        Some(section) => format!("{}:{section}", absolute.display()),
    };
    Ok(Member {
        about: about(&name, &source),
        code,
    })
}

/// What is known of a program before it has a place.
pub fn about(name: &str, source: &str) -> abi::chain_program {
    let mut about: abi::chain_program = abi::zero();
    abi::put_text(&mut about.name, name);
    let room = about.source.len() - 1;
    // The end tells more than the beginning.
    let start =
        (0..source.len()).find(|&at| source.is_char_boundary(at) && source.len() - at <= room);
    abi::put_text(&mut about.source, &source[start.unwrap_or(source.len())..]);
    about
}

fn split(source: &str) -> Result<(&Path, Option<&str>)> {
    if Path::new(source).exists() {
        return Ok((Path::new(source), None));
    }
    match source.rsplit_once(':') {
        Some((path, section)) if Path::new(path).exists() => Ok((Path::new(path), Some(section))),
        _ => {
            let why = format!("{source}: there is no such file");
            Err(failure(Exit::NotFound, why))
        }
    }
}

fn pinned(path: &Path) -> Result<(String, Code)> {
    let shown = path.display();
    if path.is_dir() {
        return Err(failure(Exit::Usage, format!("{shown}: is a directory")));
    }
    let opened = ProgramHandle::from_pinned_path(path).map_err(|error| match error.kind() {
        ErrorKind::InvalidData => {
            failure(Exit::Usage, format!("{shown}: no program is pinned there"))
        }
        _ => anyhow::Error::from(error).context(format!("cannot open {shown}")),
    })?;
    let name = opened.name().to_string_lossy().into_owned();
    if opened.prog_type() != ProgramType::Xdp {
        return Err(no_xdp(&shown.to_string(), &name));
    }
    if is_ours(&name) {
        let why = format!("{shown}: is a program of this command, which is asked last by itself");
        return Err(failure(Exit::Usage, why));
    }
    let program = Program::fd_from_pinned_path(path)?;
    if runs_behind(&program)? {
        return Err(behind(&shown.to_string(), &name));
    }
    Ok((name, Code::Loaded(program)))
}

fn no_xdp(source: &str, name: &str) -> anyhow::Error {
    let why = format!("{source}: {name} is no XDP program, and a chain has no others");
    failure(Exit::Usage, why)
}

fn behind(source: &str, name: &str) -> anyhow::Error {
    let why = format!(
        "{source}: {name} is for entries of a devmap or cpumap, and cannot run where packets arrive"
    );
    failure(Exit::Usage, why)
}

/// Whether a program is for entries of a devmap or cpumap. One for a devmap reads the device by which a packet leaves,
/// and where a packet arrives there is none: kernels before 6.18 that lack its check of attach types would let it, and
/// crash. No question tells, but such a map takes these programs alone.
fn runs_behind(program: &OwnedFd) -> Result<bool> {
    let options = libbpf_sys::bpf_map_create_opts {
        sz: size_of::<libbpf_sys::bpf_map_create_opts>() as libbpf_sys::size_t,
        ..Default::default()
    };
    let lo = device::by_name("lo")?.ifindex;
    // An entry is a device or the length of a queue, and a program.
    for (kind, first) in [(MapType::Devmap, lo), (MapType::Cpumap, 1)] {
        let map = MapHandle::create(kind, Some("chain_try"), 4, 8, 1, &options)?;
        let program = program.as_fd().as_raw_fd();
        let entry = [first.to_ne_bytes(), program.to_ne_bytes()].concat();
        if map.update(&[0; 4], &entry, MapFlags::ANY).is_ok() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn object(path: &Path, section: Option<&str>) -> Result<(String, Code)> {
    let shown = path.display().to_string();
    let opened = ObjectBuilder::default().open_file(path);
    let no_object = |_| failure(Exit::Usage, format!("{shown}: is no BPF object file"));
    let object = opened.map_err(no_object)?;
    let (name, in_section) = choose(&shown, &object, section)?;
    if BEHIND.iter().any(|behind| in_section.ends_with(behind)) {
        return Err(behind(&shown, &name));
    }
    // The kernel empties it when nobody has a descriptor or a pin of it, as after this run.
    if object
        .maps()
        .any(|map| map.map_type() == MapType::ProgArray)
    {
        let why = format!("{shown}: it calls programs by a prog array, which has to be kept");
        let remedy = "load and pin it with its own tool, and give the pinned program";
        return Err(failure(Exit::Unsupported, (why, remedy)));
    }
    let opened = Opened {
        object,
        frags: in_section.starts_with("xdp.frags"),
        name: name.clone(),
    };
    Ok((name, Code::Object(opened)))
}

fn name_of(program: &OpenProgram<'_>) -> String {
    program.name().to_string_lossy().into_owned()
}

fn section_of(program: &OpenProgram<'_>) -> String {
    program.section().to_string_lossy().into_owned()
}

/// The name and the section of the program that is meant.
fn choose(shown: &str, object: &OpenObject, section: Option<&str>) -> Result<(String, String)> {
    // A section that libbpf does not know may have a program of any type.
    let type_fits = |program: &OpenProgram<'_>| match program.prog_type() {
        ProgramType::Xdp => true,
        ProgramType::Unspec => section.is_some(),
        _ => false,
    };
    let is_named = |program: &OpenProgram<'_>| {
        let names = [name_of(program), section_of(program)];
        section.is_none_or(|section| names.iter().any(|name| name == section))
    };
    let all: Vec<_> = object.progs().collect();
    let named: Vec<_> = all.iter().filter(|program| is_named(program)).collect();
    let fitting: Vec<_> = named.iter().filter(|program| type_fits(program)).collect();
    match (section, &named[..], &fitting[..]) {
        (_, _, [one]) => Ok((name_of(one), section_of(one))),
        (_, _, [_, ..]) => {
            let names: Vec<_> = fitting.iter().map(|program| name_of(program)).collect();
            let why = format!("{shown}: has several XDP programs: {}", names.join(", "));
            let one = names.first().cloned().unwrap_or_default();
            let remedy = format!("name one of them, as {shown}:{one}");
            Err(failure(Exit::Usage, (why, remedy)))
        }
        (Some(section), [], _) => {
            let names: Vec<_> = all.iter().map(name_of).collect();
            let why = format!(
                "{shown}: has no program {section}, but {}",
                names.join(", ")
            );
            Err(failure(Exit::NotFound, why))
        }
        (Some(_), [other, ..], _) => Err(no_xdp(shown, &name_of(other))),
        (None, ..) => Err(no_section(shown, &all)),
    }
}

/// Nothing is named, and no section says that a program is for XDP.
fn no_section(shown: &str, all: &[OpenProgram<'_>]) -> Error {
    let of_any_type = |program: &&OpenProgram<'_>| program.prog_type() == ProgramType::Unspec;
    let names: Vec<_> = all.iter().filter(of_any_type).map(name_of).collect();
    let why = format!("{shown}: has no XDP program");
    let Some(one) = names.first() else {
        return failure(Exit::Usage, why);
    };
    let why = format!(
        "{why}, as far as its sections say, but {}",
        names.join(", ")
    );
    let remedy = format!("name the one that is meant, as {shown}:{one}");
    failure(Exit::Usage, (why, remedy))
}

impl Opened {
    /// Frames in several buffers come along: its section says so.
    pub fn frags(&self) -> bool {
        self.frags
    }

    /// Loads the program alone. Its maps live as long as it does.
    pub fn load(mut self) -> Result<OwnedFd> {
        for mut program in self.object.progs_mut() {
            let is_it = program.name().to_string_lossy() == *self.name;
            program.set_autoload(is_it);
            if is_it {
                program.set_prog_type(ProgramType::Xdp);
                program.set_attach_type(ProgramAttachType::Xdp);
            }
        }
        let object = refusal::explain_foreign(|| self.object.load())?;
        let mut all = object.progs();
        let program = all.find(|program| program.name().to_string_lossy() == *self.name);
        let program = program.ok_or_else(|| no_xdp("the file", &self.name))?;
        Ok(program.as_fd().try_clone_to_owned()?)
    }
}
