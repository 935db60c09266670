//! The thread that listens to one server.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::oneshot;
use xds::core;
use xds::delta_client::Address;
use xds::discovery::DiscoveryResponse;
use xds::state_client::{self, Consumer, Options};

use super::collections::{Collections, Taken};
use super::{Tell, kept};
use crate::disk::{NewestFile, Pace};
use crate::node::metadata_struct;
use crate::source::file::whole_file;
use crate::source::{SourceId, Standing, Update};

/// All there is of a server is written anew for each change: ten thousand objects are some 5 MB.
const PACE: Pace = Pace { apart: Duration::from_millis(500), share: 20 };

/// A server that is listened to until this is dropped.
pub(super) struct Listener {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in it was printed when it happened.
            let _ = thread.join();
        }
    }
}

/// A server that will be listened to, with what it said before.
pub(super) struct Prepared {
    id: SourceId,
    address: Address,
    name: Arc<str>,
    collections: Collections,
    file: PathBuf,
}

impl Prepared {
    /// Adds to the update what is kept on disk of the server.
    pub(super) fn read(
        id: SourceId,
        address: Address,
        state_dir: &Path,
        update: &mut Update,
        log: fn(&str),
    ) -> Self {
        let name: Arc<str> = format!("xds://{address}").into();
        let mut collections = Collections::new(id, name.clone());
        let file = kept::file(state_dir, &name);
        match kept::read(&file) {
            Ok(responses) => {
                for response in responses.into_iter().flatten() {
                    let taken = collections.take(response, update.since);
                    update.upserts.extend(taken.update.upserts);
                    update.problems.extend(taken.update.problems);
                }
            }
            Err(reason) => log(&format!(
                "{}: {reason}; what the config source {name} said before the restart is unknown until it says it again",
                file.display()
            )),
        }
        update.standing = Some(if collections.len() == 0 { Standing::Unread } else { Standing::Frozen });
        Self { id, address, name, collections, file }
    }

    pub(super) fn address(&self) -> &Arc<str> {
        &self.name
    }

    /// A thread of its own: a response of ten thousand objects takes a tenth of a second, which proxies' streams are not to
    /// wait for.
    pub(super) fn listen(self, tell: Tell, log: fn(&str)) -> io::Result<Listener> {
        let Self { id, address, name, collections, file } = self;
        let shown = file.display().to_string();
        let of_file = name.clone();
        let file = NewestFile::start_paced(file, PACE, move |error| {
            log(&format!(
                "cannot write {shown}: {error}; after a restart the config source {of_file} is unknown until it answers"
            ));
        })?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listening = Listening { id, name, collections, file, tell, log, connected: false, told: false };
        let options = Options {
            address,
            node: node(),
            type_urls: mcp::COLLECTIONS.iter().map(|collection| collection.type_url.to_owned()).collect(),
        };
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("config-source".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    () = state_client::run(options, listening) => {}
                }
            });
        })?;
        Ok(Listener { stop: Some(stop), thread: Some(thread) })
    }
}

/// As istiod says who it is to another one (pkg/adsc/adsc.go, `buildNode`): `GENERATOR: api` makes an istiod answer with
/// objects, and a version above all others with all their fields.
fn node() -> core::Node {
    let metadata =
        json!({"GENERATOR": "api", "NAMESPACE": "istio-system", "ISTIO_VERSION": "65536.65536.65536"});
    let metadata = match &metadata {
        Value::Object(fields) => Some(metadata_struct(fields)),
        _ => None,
    };
    core::Node {
        id: "sidecar~127.0.0.1~filamesh-control.istio-system~istio-system.svc.cluster.local".into(),
        metadata,
        user_agent_name: "filamesh".into(),
        ..Default::default()
    }
}

struct Listening {
    id: SourceId,
    name: Arc<str>,
    collections: Collections,
    file: NewestFile,
    tell: Tell,
    log: fn(&str),
    /// A response has come on this stream.
    connected: bool,
    /// That it was lost was told.
    told: bool,
}

impl Consumer for Listening {
    fn response(&mut self, response: DiscoveryResponse) -> Result<(), String> {
        let Taken { mut update, answer, changed } = self.collections.take(response, Instant::now());
        if !std::mem::replace(&mut self.connected, true) {
            update.standing = Some(Standing::Synced);
            if std::mem::take(&mut self.told) {
                update.problems.push((self.name.clone(), Vec::new()));
                (self.log)(&format!("config source {}: answers again", self.name));
            }
        }
        if changed {
            let last_good = self.collections.last_good();
            self.file.put(move || kept::encode(last_good));
        }
        if !update.is_empty() {
            (self.tell)(vec![update]);
        }
        answer
    }

    /// One line until it answers again, whatever the further attempts fail by.
    fn lost(&mut self, reason: &str) {
        self.connected = false;
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        let (standing, stays) = match self.collections.len() {
            0 => (Standing::Unread, "nothing is known of what it says".to_owned()),
            1 => (Standing::Frozen, "its one object stays".to_owned()),
            objects => (Standing::Frozen, format!("its {objects} objects stay")),
        };
        let mut update = Update::part(self.id, Instant::now());
        update.standing = Some(standing);
        let problem = whole_file(&format!("config source {}", self.name), format!("{reason}; {stays}"));
        update.problems.push((self.name.clone(), vec![problem]));
        (self.tell)(vec![update]);
    }
}
