//! The client's task: one stream at a time, and the file of the last good configuration.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::cache::{Changes, Keeper};
use super::keeping::Keeping;
use super::session::Session;
use super::stream::{Event, Stream};
use super::{Address, Consumer, Options, Status};
use crate::backoff::Backoff;
use crate::channel::seed;
use crate::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};

/// A stream that lived this long without a word counts as taken: a control plane that has nothing to send need not even
/// answer with headers.
const TAKEN_AFTER: Duration = Duration::from_millis(500);

/// Connections from the wish to have a stream to having lost it. Dropping it ends the stream without goodbye.
#[derive(Debug)]
pub struct Client {
    status: Arc<Mutex<Status>>,
    commands: mpsc::UnboundedSender<Command>,
    task: JoinHandle<()>,
}

/// Why a goodbye was not delivered. The control plane will notice the lost stream all the same.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum GoodbyeError {
    #[error("there is no stream to the control plane")]
    NotConnected,
    #[error("the control plane did not take the goodbye in time")]
    Timeout,
}

enum Command {
    /// What the consumer wants may have changed.
    Wanted,
    Goodbye(oneshot::Sender<()>),
}

impl Client {
    /// Gives the consumer what was kept on disk, before this returns, then connects and stays connected.
    /// `log` gets one line for each event an operator should know. Must be called inside a tokio runtime.
    pub fn start(options: Options, mut consumer: impl Consumer, log: fn(&str)) -> Self {
        let mut session = Session::new(options.node.clone());
        let status =
            Arc::new(Mutex::new(Status { address: options.address.to_string(), ..Status::default() }));
        let mut keeper = None;
        if let Some(path) = options.cache {
            let (opened, loaded) = Keeper::open(path, options.node.id.clone());
            keeper = Some(opened);
            match loaded {
                Ok(Some(cache)) => {
                    let from_cache = !cache.is_empty();
                    for refusal in session.restore(cache, &mut consumer) {
                        log(&format!("kept configuration: {}: {}", refusal.name, refusal.reason));
                    }
                    lock(&status).from_cache = from_cache;
                }
                Ok(None) => {}
                Err(error) => log(&error.to_string()),
            }
        }
        lock(&status).types = session.status();
        let (commands, received) = mpsc::unbounded_channel();
        let changes = Changes::new(keeper.is_some());
        let task = Task {
            address: options.address,
            session,
            consumer,
            changes,
            keeping: Keeping::new(keeper),
            dropped: None,
            status: status.clone(),
            commands: received,
            log,
        };
        Self { status, commands, task: tokio::spawn(task.run()) }
    }

    pub fn status(&self) -> Status {
        lock(&self.status).clone()
    }

    /// Has [`Consumer::wanted`] asked again, for wishes that do not follow from an update.
    pub fn wanted_changed(&self) {
        // Fails only when the task is gone, and then nothing is wanted.
        let _ = self.commands.send(Command::Wanted);
    }

    /// Tells the control plane that this workload goes away for good, so that its endpoints are gone at once.
    pub async fn goodbye(self, within: Duration) -> Result<(), GoodbyeError> {
        if !lock(&self.status).connected {
            return Err(GoodbyeError::NotConnected);
        }
        let (done, waiting) = oneshot::channel();
        self.commands.send(Command::Goodbye(done)).map_err(|_| GoodbyeError::NotConnected)?;
        match tokio::time::timeout(within, waiting).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(GoodbyeError::NotConnected),
            Err(_) => Err(GoodbyeError::Timeout),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Task<C> {
    address: Address,
    session: Session,
    consumer: C,
    changes: Changes,
    keeping: Keeping,
    status: Arc<Mutex<Status>>,
    commands: mpsc::UnboundedReceiver<Command>,
    /// The last type of a response that was not asked for: said once.
    dropped: Option<String>,
    log: fn(&str),
}

/// Why a stream ended.
enum Ended {
    Lost(String),
    /// The owner is gone, or said goodbye.
    Stop,
}

impl<C: Consumer> Task<C> {
    async fn run(mut self) {
        let mut backoff = Backoff::new(seed());
        loop {
            let (reason, held) = match Stream::open(&self.address).await {
                Ok(stream) => {
                    // Before waiting: some servers answer only when they have been asked something.
                    let first = self.session.open(&self.consumer, Instant::now());
                    self.send(&stream, first);
                    let opened = Instant::now();
                    match self.serve(stream).await {
                        Ended::Stop => return,
                        Ended::Lost(reason) => (reason, opened.elapsed()),
                    }
                }
                // An attempt that took long is still a failed one.
                Err(reason) => (reason, Duration::ZERO),
            };
            self.lost(reason);
            if !self.pause(backoff.after(held)).await {
                return;
            }
        }
    }

    async fn serve(&mut self, mut stream: Stream) -> Ended {
        let (mut taken, taken_at) = (false, tokio::time::Instant::now() + TAKEN_AFTER);
        loop {
            tokio::select! {
                event = stream.next() => match event {
                    Event::Lost(reason) => return Ended::Lost(reason),
                    Event::Taken if taken => {}
                    Event::Taken => {
                        taken = true;
                        self.connected();
                    }
                    Event::Response(response) => {
                        let requests = self.response(*response);
                        self.send(&stream, requests);
                    }
                },
                () = tokio::time::sleep_until(taken_at), if !taken => {
                    taken = true;
                    self.connected();
                }
                () = due(self.session.warm_by()) => {
                    let requests = self.session.give_up_warming(&self.consumer);
                    self.send(&stream, requests);
                }
                () = due(self.session.next_end()) => {
                    let requests = self.end_due();
                    self.send(&stream, requests);
                }
                command = self.commands.recv() => match command {
                    None => return Ended::Stop,
                    Some(Command::Wanted) => {
                        let requests = self.session.subscriptions(&self.consumer, &mut self.changes);
                        self.send(&stream, requests);
                    }
                    Some(Command::Goodbye(done)) => {
                        stream.end(self.session.goodbye()).await;
                        let _ = done.send(());
                        return Ended::Stop;
                    }
                },
                lost = self.keeping.turn(&mut self.changes, self.log) => if lost {
                    self.session.forget_versions();
                    return Ended::Lost("the kept configuration was changed by others: asking for everything".into());
                },
            }
        }
    }

    /// What to answer.
    fn response(&mut self, response: DeltaDiscoveryResponse) -> Vec<DeltaDiscoveryRequest> {
        if !self.session.takes(&response.type_url) {
            if self.dropped.as_ref() != Some(&response.type_url) {
                (self.log)(&format!("the control plane sent {}, unasked: left out", response.type_url));
                self.dropped = Some(response.type_url);
            }
            return Vec::new();
        }
        let identifier = response.control_plane.as_ref().map(|c| c.identifier.clone());
        let requests = self.session.response(response, &mut self.consumer, &mut self.changes, Instant::now());
        self.updated(identifier);
        requests
    }

    /// Resources whose time is over.
    fn end_due(&mut self) -> Vec<DeltaDiscoveryRequest> {
        let requests = self.session.end_due(&mut self.consumer, &mut self.changes, Instant::now());
        lock(&self.status).types = self.session.status();
        requests
    }

    /// Waits before the next attempt; the disk is served meanwhile. `false`: the owner is gone.
    async fn pause(&mut self, wait: Duration) -> bool {
        let until = tokio::time::Instant::now() + wait;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return true,
                // Asked for on the next stream what follows from it.
                () = due(self.session.next_end()) => drop(self.end_due()),
                command = self.commands.recv() => match command {
                    None => return false,
                    // Asked anyway on the next stream.
                    Some(Command::Wanted) => {}
                    // Dropping the sender says that there is no stream.
                    Some(Command::Goodbye(_)) => return false,
                },
                lost = self.keeping.turn(&mut self.changes, self.log) => if lost {
                    self.session.forget_versions();
                },
            }
        }
    }

    fn connected(&mut self) {
        let mut status = lock(&self.status);
        let again = status.last_error.is_some();
        status.connected = true;
        status.since = Some(SystemTime::now());
        status.attempts = 0;
        drop(status);
        if again {
            (self.log)(&format!("connected to the control plane {}", self.address));
        }
    }

    fn updated(&mut self, control_plane: Option<String>) {
        let types = self.session.status();
        let mut status = lock(&self.status);
        status.types = types;
        // Something was said about what is held; a server that says nothing has not confirmed it.
        status.from_cache = false;
        status.last_error = None;
        if control_plane.is_some() {
            status.control_plane = control_plane;
        }
    }

    fn lost(&mut self, reason: String) {
        let mut status = lock(&self.status);
        let news = status.connected || status.last_error.as_deref() != Some(reason.as_str());
        if status.connected {
            status.since = Some(SystemTime::now());
        }
        status.connected = false;
        status.attempts = status.attempts.saturating_add(1);
        status.last_error = Some(reason.clone());
        drop(status);
        if news {
            let address = &self.address;
            (self.log)(&format!("control plane {address}: {reason}; the configuration in use stays"));
        }
    }

    fn send(&self, stream: &Stream, requests: Vec<DeltaDiscoveryRequest>) {
        for request in &requests {
            if let Some(error) = &request.error_detail {
                let kind = request.type_url.rsplit('.').next().unwrap_or_default();
                (self.log)(&format!("refused {kind} {}", error.message));
            }
        }
        stream.send(requests);
    }
}

/// Waits until then; for ever where there is no such time.
async fn due(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

fn lock(status: &Mutex<Status>) -> std::sync::MutexGuard<'_, Status> {
    // A status that was being written when its task panicked is still worth showing.
    status.lock().unwrap_or_else(PoisonError::into_inner)
}
