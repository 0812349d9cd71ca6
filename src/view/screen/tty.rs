//! The terminal while it shows a screen: what is typed comes key by key, and signals wait until they are asked for.

use std::io::{IsTerminal, Write, stdin, stdout};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use crossterm::{cursor, execute, terminal};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{FlushArg, LocalFlags, SetArg, Termios, tcflush, tcgetattr, tcsetattr};
use nix::unistd;

use super::keys::{Key, Keys};

/// The escape key sends the byte with which other keys begin. Their rest comes sooner.
const REST: Duration = Duration::from_millis(50);

const ENDING: [Signal; 4] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
];

pub enum Event {
    /// Those that were pressed since.
    Keys(Vec<Key>),
    /// The size may be another one.
    Resized,
    /// It is time.
    Due,
    End,
}

pub struct Tty {
    signals: SignalFd,
    blocked: SigSet,
    /// How standard input was; None: it is no terminal, and nothing is read.
    before: Option<Termios>,
    keys: Keys,
}

impl Tty {
    pub fn enter() -> Result<Self> {
        let others = [Signal::SIGWINCH, Signal::SIGTSTP, Signal::SIGCONT];
        let blocked: SigSet = ENDING.into_iter().chain(others).collect();
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&blocked, flags).context("cannot wait for signals")?;
        let before = stdin().is_terminal().then(|| tcgetattr(stdin()));
        let before = before
            .transpose()
            .context("cannot read how the terminal is set")?;
        blocked.thread_block()?;
        // From here on, the terminal is restored when this is dropped.
        let tty = Tty {
            signals,
            blocked,
            before,
            keys: Keys::default(),
        };
        tty.show()?;
        Ok(tty)
    }

    pub fn has_keys(&self) -> bool {
        self.before.is_some()
    }

    fn show(&self) -> Result<()> {
        if let Some(mut settings) = self.before.clone() {
            // Ctrl-C and Ctrl-Z still send their signals.
            settings
                .local_flags
                .remove(LocalFlags::ICANON | LocalFlags::ECHO);
            tcsetattr(stdin(), SetArg::TCSANOW, &settings).context("cannot set the terminal")?;
        }
        // A line that is too long must not take two rows.
        execute!(
            stdout(),
            terminal::EnterAlternateScreen,
            terminal::DisableLineWrap,
            cursor::Hide
        )
        .context("cannot write to the terminal")
    }

    /// As it was. Nobody can be told where the terminal itself is gone.
    fn put_back(&self) {
        let _ = execute!(
            stdout(),
            cursor::Show,
            terminal::EnableLineWrap,
            terminal::LeaveAlternateScreen
        );
        if let Some(before) = &self.before {
            let _ = tcsetattr(stdin(), SetArg::TCSANOW, before);
        }
    }

    /// Stops this run, as Ctrl-Z does, and shows the screen again when it goes on. Where nobody could have it go on,
    /// the kernel does not stop it.
    fn suspend(&self) -> Result<()> {
        self.put_back();
        let stop: SigSet = [Signal::SIGTSTP].into_iter().collect();
        raise(Signal::SIGTSTP)?;
        stop.thread_unblock()?;
        stop.thread_block()?;
        self.show()
    }

    /// What comes first.
    pub fn wait(&mut self, due: Instant) -> Result<Event> {
        loop {
            let keys: Vec<Key> = std::iter::from_fn(|| self.keys.next()).collect();
            if !keys.is_empty() {
                return Ok(Event::Keys(keys));
            }
            let is_open = self.keys.is_open();
            let left = due.saturating_duration_since(Instant::now());
            let left = if is_open { left.min(REST) } else { left };
            let (signal, typed) = self.ready(left)?;
            if signal && let Some(event) = self.signal()? {
                return Ok(event);
            }
            if typed && self.read()? {
                return Ok(Event::End);
            }
            if !signal && !typed {
                match self.keys.close() {
                    Some(key) => return Ok(Event::Keys(vec![key])),
                    None if is_open => {}
                    None => return Ok(Event::Due),
                }
            }
        }
    }

    /// Whether there is a signal, and whether something was typed, at last after that time.
    fn ready(&self, timeout: Duration) -> Result<(bool, bool)> {
        let input = stdin();
        let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        if self.has_keys() {
            fds.push(PollFd::new(input.as_fd(), PollFlags::POLLIN));
        }
        // Milliseconds are rounded up, so that nothing is due a moment too early again and again.
        let timeout = PollTimeout::try_from(timeout + Duration::from_millis(1));
        match poll(&mut fds, timeout.unwrap_or(PollTimeout::MAX)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("cannot wait for the terminal"),
        }
        let is_ready = |fd: &PollFd| fd.any().unwrap_or(false);
        Ok((is_ready(&fds[0]), fds.get(1).is_some_and(is_ready)))
    }

    fn signal(&self) -> Result<Option<Event>> {
        let Some(info) = self.signals.read_signal()? else {
            return Ok(None);
        };
        let signal = Signal::try_from(info.ssi_signo as i32)?;
        match signal {
            Signal::SIGTSTP => self.suspend()?,
            // Whoever stopped it has the terminal's settings now.
            Signal::SIGCONT => self.show()?,
            _ => {}
        }
        Ok(Some(match ENDING.contains(&signal) {
            true => Event::End,
            false => Event::Resized,
        }))
    }

    /// Reads what was typed; true: the terminal is gone.
    fn read(&mut self) -> Result<bool> {
        let mut bytes = [0; 256];
        match unistd::read(stdin(), &mut bytes) {
            Ok(0) | Err(Errno::EIO) => return Ok(true),
            Ok(length) => self.keys.add(&bytes[..length]),
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(error) => return Err(error).context("cannot read from the terminal"),
        }
        Ok(false)
    }
}

impl Drop for Tty {
    fn drop(&mut self) {
        // The rest of a paste is not for the shell.
        if self.has_keys() {
            let _ = tcflush(stdin(), FlushArg::TCIFLUSH);
        }
        self.put_back();
        let _ = stdout().flush();
        let _ = self.blocked.thread_unblock();
    }
}
