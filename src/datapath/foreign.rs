//! Other people's XDP programs.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Error, Result};
use libbpf_rs::query::{LinkInfoIter, LinkTypeInfo, ProgInfoIter};
use libbpf_rs::{ErrorKind, Program, Xdp, XdpFlags};

use super::log::{Notice, say};
use super::mode::flags;
use super::{dispatcher, sys};
use crate::error::{Exit, failure};
use crate::host::device::{self, Device};
use crate::model::Mode;

/// What the program of this command is called that redirects.
const REDIRECTS: &str = "xdpredir";

/// What the one is called that asks others before it.
const CHAINS: &str = "xdpredir_chain";

/// What the one is called that passes all.
const PASSES: &str = "xdpredir_pass";

/// What the one is called that takes frames as long as a run lives.
const TAKES: &str = "xdpredir_dump";

/// Whether a program with this name is one of this command that redirects.
pub fn is_ours(name: &str) -> bool {
    name == REDIRECTS || name == CHAINS
}

/// Another program's attachment, held so that it can be put back.
pub struct Foreign {
    ifindex: u32,
    mode: Mode,
    program: OwnedFd,
    id: u32,
    name: String,
}

impl Foreign {
    /// Whether it is a program of this command, attached from other pins or in another namespace, or calls one.
    pub fn redirects(&self) -> bool {
        is_ours(&self.name) || self.is_dispatcher() && dispatcher::calls_ours(self.id)
    }

    /// Whether it is libxdp's, which calls programs by their priorities.
    pub fn is_dispatcher(&self) -> bool {
        dispatcher::is_one(&self.name)
    }

    /// Whether it is what a fix of this command puts at peers.
    pub fn passes(&self) -> bool {
        self.name == PASSES
    }

    /// Whether another run of this command takes frames by it.
    pub fn takes(&self) -> bool {
        self.name == TAKES
    }

    /// The program on an interface that isn't ours; None where there is none.
    pub fn find(ifindex: u32) -> Result<Option<Self>> {
        let state = sys::xdp_query(ifindex).map_err(|error| not_there(error, ifindex))?;
        let Some(&id) = state.programs().first() else {
            return Ok(None);
        };
        let program = Program::fd_from_id(id).map_err(|error| not_opened(error, ifindex, id))?;
        let name = ProgInfoIter::default()
            .find(|program| program.id == id)
            .map_or_else(String::new, |program| {
                program.name.to_string_lossy().into_owned()
            });
        let mode = if state.skb_program != 0 {
            Mode::Skb
        } else {
            Mode::Native
        };
        Ok(Some(Foreign {
            ifindex,
            mode,
            program,
            id,
            name,
        }))
    }

    pub fn describe(&self) -> String {
        format!("program {} (id {}, {} mode)", self.name, self.id, self.mode)
    }

    /// Takes it off, whether netlink or a link put it there.
    pub fn remove(&self) -> Result<()> {
        match sys::netlink_detach(self.ifindex, flags(self.mode)) {
            // A link holds it.
            Err(error) if error.raw_os_error() == Some(nix::libc::EBUSY) => self.remove_link(),
            result => Ok(result?),
        }
    }

    fn remove_link(&self) -> Result<()> {
        Ok(sys::detach_link(self.link()?.as_fd())?)
    }

    /// The link that holds it. A link tells its program and its ifindex, but not which network namespace that is
    /// meant in.
    fn link(&self) -> Result<OwnedFd> {
        let mut links = LinkInfoIter::default().filter(|link| {
            link.prog_id == self.id
                && matches!(&link.info, LinkTypeInfo::Xdp(xdp) if xdp.ifindex == self.ifindex)
        });
        let (link, other) = (links.next(), links.next());
        match (link, other) {
            (Some(link), None) => Ok(sys::link_by_id(link.id)?),
            _ => Err(failure(
                Exit::Conflict,
                "its link cannot be told from others: detach it with the program that attached it",
            )),
        }
    }

    pub fn mode(&self) -> Mode {
        self.mode
    }

    pub fn program(&self) -> &OwnedFd {
        &self.program
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Has another program take its place, in one step: over netlink, or by the link that holds it, which is kept
    /// first. True where there is one.
    pub fn hand_over(
        &self,
        by: BorrowedFd<'_>,
        keep: impl FnOnce(BorrowedFd<'_>) -> Result<()>,
    ) -> Result<bool> {
        let mode = flags(self.mode);
        match sys::netlink_replace(self.ifindex, mode, self.program.as_fd(), Some(by)) {
            // A link holds it.
            Err(error) if error.raw_os_error() == Some(nix::libc::EBUSY) => {}
            replaced => return Ok(replaced.map(|()| false)?),
        }
        let link = self.link()?;
        keep(link.as_fd())?;
        sys::link_update(link.as_fd(), by)?;
        Ok(true)
    }

    /// Puts it back, over netlink.
    pub fn restore(&self) -> libbpf_rs::Result<()> {
        let flags = flags(self.mode) | XdpFlags::UPDATE_IF_NOEXIST;
        Xdp::new(self.program.as_fd()).attach(self.ifindex as i32, flags)
    }
}

/// A foreign program that was taken off, and is put back where this run fails after all.
pub struct Replaced(Option<Foreign>);

impl Replaced {
    pub fn new(foreign: Foreign, device: &Device) -> Result<Self> {
        foreign
            .remove()
            .with_context(|| format!("cannot take {} off {}", foreign.describe(), device.name))?;
        Ok(Replaced(Some(foreign)))
    }

    pub fn describe(&self) -> String {
        self.0.as_ref().map(Foreign::describe).unwrap_or_default()
    }

    /// Ours has taken its place for good.
    pub fn forget(mut self) {
        self.0 = None;
    }
}

fn not_there(error: io::Error, ifindex: u32) -> Error {
    if error.raw_os_error() == Some(nix::libc::ENODEV) {
        let message = format!("the device with ifindex {ifindex} has just gone");
        return failure(Exit::NotFound, message);
    }
    Error::from(error).context(format!(
        "cannot ask for the XDP program of ifindex {ifindex}"
    ))
}

fn not_opened(error: libbpf_rs::Error, ifindex: u32, id: u32) -> Error {
    if error.kind() == ErrorKind::PermissionDenied {
        let name = device::name_of(ifindex).unwrap_or_else(|| format!("ifindex {ifindex}"));
        let message = format!(
            "{name} has another XDP program (id {id}): to look at it and to replace it needs root (CAP_SYS_ADMIN)"
        );
        return failure(Exit::Permission, message);
    }
    Error::from(error).context(format!("cannot open the XDP program with id {id}"))
}

impl Drop for Replaced {
    fn drop(&mut self) {
        if let Some(foreign) = self.0.take()
            && let Err(error) = foreign.restore()
        {
            let what = foreign.describe();
            say(Notice::Warning(format!(
                "cannot attach {what} again, which is off its device now: {error}"
            )));
        }
    }
}
