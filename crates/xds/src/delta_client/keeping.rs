//! The disk's side: the last good configuration is written beside the client's task.

use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::cache::{Changes, Keeper, Kept};

/// Writes to disk come this far apart, and never take more than a twentieth of the time.
const KEEP_AT_MOST_EVERY: Duration = Duration::from_millis(500);
const KEEP_SHARE: u32 = 20;
/// After the first change, so that one write holds all types of a first configuration: half of one starts nobody.
const KEEP_SOON: Duration = Duration::from_millis(100);
/// After a failed write.
const KEEP_RETRY: Duration = Duration::from_secs(10);

/// At most one write under way, off the task.
pub(super) struct Keeping {
    keeper: Option<Keeper>,
    writing: Option<JoinHandle<(Keeper, Kept, Duration)>>,
    due: Option<tokio::time::Instant>,
    failing: bool,
}

impl Keeping {
    /// With `None` nothing is kept.
    pub(super) fn new(keeper: Option<Keeper>) -> Self {
        Self { keeper, writing: None, due: None, failing: false }
    }

    /// Completes when something has to be done about it: `true` if what is on disk was lost.
    /// Cancel-safe: state changes only right before it returns.
    pub(super) async fn turn(&mut self, changes: &mut Changes, log: fn(&str)) -> bool {
        if let Some(writing) = &mut self.writing {
            let result = writing.await;
            self.writing = None;
            let Ok((keeper, kept, took)) = result else {
                log("keeping the configuration on disk ended unexpectedly; it is no longer kept");
                changes.enabled = false;
                return false;
            };
            self.keeper = Some(keeper);
            return self.written(kept, took, changes, log);
        }
        if self.keeper.is_none() || changes.is_empty() {
            return std::future::pending().await;
        }
        // Kept over a cancellation: waiting goes on where it was.
        let due = *self.due.get_or_insert_with(|| tokio::time::Instant::now() + KEEP_SOON);
        tokio::time::sleep_until(due).await;
        self.due = None;
        let (Some(mut keeper), taken) = (self.keeper.take(), changes.take()) else { return false };
        self.writing = Some(tokio::task::spawn_blocking(move || {
            let start = Instant::now();
            let kept = keeper.write(taken);
            (keeper, kept, start.elapsed())
        }));
        false
    }

    fn written(&mut self, kept: Kept, took: Duration, changes: &mut Changes, log: fn(&str)) -> bool {
        let now = tokio::time::Instant::now();
        match kept {
            Kept::Written => {
                self.due = Some(now + KEEP_AT_MOST_EVERY.max(took * KEEP_SHARE));
                if std::mem::take(&mut self.failing) {
                    log("the configuration is kept on disk again");
                }
                false
            }
            Kept::Lost => {
                self.due = None;
                true
            }
            Kept::Failed(error, unwritten) => {
                changes.restore(unwritten);
                self.due = Some(now + KEEP_RETRY);
                if !std::mem::replace(&mut self.failing, true) {
                    log(&error.to_string());
                }
                false
            }
        }
    }
}
