//! The client's task: one stream at a time, and the file of the last good configuration.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::cache::{Changes, Keeper, Kept};
use super::session::Session;
use super::{Address, Consumer, Options, Status};
use crate::backoff::Backoff;
use crate::channel::{MAX_MESSAGE_BYTES, open_channel, seed, status_text};
use crate::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use crate::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};

/// Writes to disk come this far apart, and never take more than a twentieth of the time.
const KEEP_AT_MOST_EVERY: Duration = Duration::from_millis(500);
const KEEP_SHARE: u32 = 20;
/// After the first change, so that one write holds all types of a first configuration: half of one starts nobody.
const KEEP_SOON: Duration = Duration::from_millis(100);
/// After a failed write.
const KEEP_RETRY: Duration = Duration::from_secs(10);

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
            keeping: Keeping { keeper, writing: None, due: None, failing: false },
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
    log: fn(&str),
}

/// Why a stream ended.
enum Ended {
    Lost(String),
    /// The owner is gone, or said goodbye.
    Stop,
}

struct Stream {
    requests: mpsc::UnboundedSender<DeltaDiscoveryRequest>,
    responses: tonic::Streaming<DeltaDiscoveryResponse>,
}

impl<C: Consumer> Task<C> {
    async fn run(mut self) {
        let mut backoff = Backoff::new(seed());
        loop {
            let (reason, held) = match self.connect().await {
                Ok(stream) => {
                    self.connected();
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

    async fn connect(&mut self) -> Result<Stream, String> {
        let channel = open_channel(&self.address).await?;
        let mut client =
            AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let (requests, outgoing) = mpsc::unbounded_channel();
        // Before waiting: some servers answer only when they have been asked something.
        for request in self.session.open(&self.consumer) {
            let _ = requests.send(request);
        }
        let call = client.delta_aggregated_resources(UnboundedReceiverStream::new(outgoing));
        let response = call.await.map_err(|status| status_text(&status))?;
        Ok(Stream { requests, responses: response.into_inner() })
    }

    async fn serve(&mut self, mut stream: Stream) -> Ended {
        loop {
            tokio::select! {
                message = stream.responses.message() => match message {
                    Ok(Some(response)) => {
                        let identifier = response.control_plane.as_ref().map(|c| c.identifier.clone());
                        let requests = self.session.response(response, &mut self.consumer, &mut self.changes);
                        for request in requests {
                            self.log_nack(&request);
                            if stream.requests.send(request).is_err() {
                                return Ended::Lost("the stream was closed".into());
                            }
                        }
                        self.updated(identifier);
                    }
                    Ok(None) => return Ended::Lost("the control plane closed the stream".into()),
                    Err(status) => return Ended::Lost(status_text(&status)),
                },
                command = self.commands.recv() => match command {
                    None => return Ended::Stop,
                    Some(Command::Wanted) => {
                        for request in self.session.subscriptions(&self.consumer, &mut self.changes) {
                            let _ = stream.requests.send(request);
                        }
                    }
                    Some(Command::Goodbye(done)) => {
                        let _ = stream.requests.send(self.session.goodbye());
                        drop(stream.requests);
                        // The control plane ends its half once it has read ours.
                        while let Ok(Some(_)) = stream.responses.message().await {}
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

    /// Waits before the next attempt; the disk is served meanwhile. `false`: the owner is gone.
    async fn pause(&mut self, wait: Duration) -> bool {
        let until = tokio::time::Instant::now() + wait;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return true,
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

    fn log_nack(&self, request: &DeltaDiscoveryRequest) {
        if let Some(error) = &request.error_detail {
            let kind = request.type_url.rsplit('.').next().unwrap_or_default();
            (self.log)(&format!("refused {kind} {}", error.message));
        }
    }
}

/// The disk's side: at most one write under way, off the task.
struct Keeping {
    keeper: Option<Keeper>,
    writing: Option<JoinHandle<(Keeper, Kept, Duration)>>,
    due: Option<tokio::time::Instant>,
    failing: bool,
}

impl Keeping {
    /// Completes when something has to be done about it: `true` if what is on disk was lost.
    /// Cancel-safe: state changes only right before it returns.
    async fn turn(&mut self, changes: &mut Changes, log: fn(&str)) -> bool {
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

fn lock(status: &Mutex<Status>) -> std::sync::MutexGuard<'_, Status> {
    // A status that was being written when its task panicked is still worth showing.
    status.lock().unwrap_or_else(PoisonError::into_inner)
}
