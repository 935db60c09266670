//! Being asked to end.
use nix::sys::signal::{SigSet, Signal};

/// SIGINT, SIGTERM and SIGHUP, taken over from their default.
pub struct Stop(SigSet);

impl Stop {
    /// Blocks the signals for this thread and those it starts: call before any other thread is there.
    pub fn take() -> Stop {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            set.add(signal);
        }
        // Fails only for a bad argument.
        let _ = set.thread_block();
        Stop(set)
    }

    /// Waits until one comes.
    pub fn wait(&self) -> Signal {
        loop {
            if let Ok(signal) = self.0.wait() {
                return signal;
            }
        }
    }
}
