//! The generator, which runs in the far namespace and on a CPU of its own.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sched::{CloneFlags, setns};

use crate::bed::Bed;
use crate::frame::Layout;
use crate::host::run_on;
use crate::sys;
use crate::traffic::{MAX_ORDER, Traffic};

impl Bed<'_> {
    /// What `observe` returns while the generator transmits.
    pub fn transmitting<T>(
        &mut self,
        traffic: &Traffic,
        observe: impl FnOnce(&Self) -> Result<T>,
    ) -> Result<T> {
        self.set_traffic(traffic)?;
        let generator = self.start_generator(traffic.frame.length)?;
        let observed = observe(self);
        generator.stop()?;
        observed
    }

    /// What `generate` and `call_subject` write.
    pub fn set_traffic(&mut self, traffic: &Traffic) -> Result<()> {
        let globals = self.skel.maps.bss_data.as_deref_mut();
        let globals = globals.context("the programs have no globals")?;
        let Layout {
            bytes,
            ports_at,
            check_at,
        } = traffic.frame.layout();
        let (words, _) = bytes.as_chunks();
        globals.frame = std::array::from_fn(|i| u64::from_ne_bytes(words[i]));
        globals.ports_at = ports_at as u32;
        globals.check_at = check_at as u32;
        globals.partial = traffic.frame.partial.into();

        let order = traffic.order();
        ensure!(order.len() <= MAX_ORDER, "too many flows");
        globals.order[..order.len()].copy_from_slice(&order);
        globals.order_length = order.len() as u32;
        globals.next = 0;
        globals.prefixes = traffic.prefixes;
        globals.last_draw = traffic.addresses.wrapping_sub(1);
        globals.draws = 0;
        globals.clients = traffic.clients.into();
        Ok(())
    }

    fn start_generator(&self, length: usize) -> Result<Generator> {
        let program: OwnedFd = self.skel.progs.generate.as_fd().try_clone_to_owned()?;
        let (far, cpu) = (self.far.try_clone()?, self.cpu);
        let end = Arc::new(AtomicBool::new(false));
        let ended = end.clone();
        let thread = thread::spawn(move || {
            setns(far, CloneFlags::CLONE_NEWNET)?;
            run_on(&[cpu])?;
            sys::take_precedence()?;
            sys::transmit(program.as_fd(), &vec![0; length], &ended)
                .context("the generator does not transmit")
        });
        Ok(Generator { thread, end })
    }
}

struct Generator {
    thread: JoinHandle<Result<()>>,
    end: Arc<AtomicBool>,
}

impl Generator {
    fn stop(self) -> Result<()> {
        self.end.store(true, Ordering::Relaxed);
        // Repeated, because a signal that comes before the system call has no effect.
        while !self.thread.is_finished() {
            sys::interrupt(&self.thread);
            thread::sleep(Duration::from_millis(1));
        }
        match self.thread.join() {
            Ok(result) => result,
            Err(_) => bail!("the generator panicked"),
        }
    }
}
