//! The control plane, told step by step.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::python::Python;

const PATIENCE: Duration = Duration::from_secs(20);

/// The process that makes servers: it ends with this one, as its stdin does.
struct Nursery {
    directory: tempfile::TempDir,
    _python: Mutex<Python>,
}

impl Nursery {
    /// `None`: there is no such Python.
    fn get() -> Option<&'static Nursery> {
        static NURSERY: OnceLock<Option<Nursery>> = OnceLock::new();
        let start = || {
            let python = Python::with("grpc, envoy_data_plane")?;
            let directory = tempfile::tempdir().unwrap();
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/ads_server/server.py");
            let mut python = Python::start(Command::new(python).arg(script));
            python.say(directory.path().join("place").to_str().unwrap());
            python.heard.recv_timeout(PATIENCE).unwrap();
            // Nobody drops what is static, and nothing is left of it but a directory.
            Some(Nursery { directory, _python: Mutex::new(python) })
        };
        NURSERY.get_or_init(start).as_ref()
    }
}

/// A delta ADS server in a process of its own.
pub struct Server {
    connection: UnixStream,
    heard: Receiver<Value>,
    pid: Pid,
    pub port: u16,
    /// Everything it has said.
    said: Vec<Value>,
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the control plane said:\n{}", self.since(0));
        }
    }
}

impl Server {
    /// `None`: there is no such Python, which is said.
    pub fn start() -> Option<Server> {
        let server = Server::on(0);
        if server.is_none() {
            println!(
                "SKIPPED: our proxy under an ADS server in Python (FILAMESH_PEERS_PYTHON, grpcio, envoy-data-plane)"
            );
        }
        server
    }

    /// At this port; 0: at any.
    pub fn on(port: u16) -> Option<Server> {
        let connection = UnixStream::connect(Nursery::get()?.directory.path().join("place")).unwrap();
        let lines = BufReader::new(connection.try_clone().unwrap()).lines();
        let (sender, heard) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = sender.send(serde_json::from_str(&line).unwrap());
            }
        });
        let pid: Value = heard.recv_timeout(PATIENCE).unwrap();
        let pid = Pid::from_raw(i32::try_from(pid["pid"].as_i64().unwrap()).unwrap());
        let mut server = Server { connection, heard, pid, port, said: vec![] };
        server.listen();
        Some(server)
    }

    /// Is gone at once, as after SIGKILL.
    pub fn dies(self) {
        kill(self.pid, Signal::SIGKILL).unwrap();
        // Its end of the connection ends with it.
        while self.heard.recv().is_ok() {}
    }

    fn tell(&mut self, word: &str, mut more: Value) {
        more["do"] = word.into();
        writeln!(self.connection, "{more}").unwrap();
    }

    /// Holds these from now on, also in place of others of their names.
    pub fn put(&mut self, kind: &str, resources: &[Value]) {
        self.tell("put", json!({ "type": kind, "resources": resources }));
    }

    /// Holds these no longer.
    pub fn lose(&mut self, kind: &str, names: &[&str]) {
        self.tell("lose", json!({ "type": kind, "names": names }));
    }

    /// Sends what differs from what the client has, in one response.
    pub fn push(&mut self, kind: &str) {
        self.tell("push", json!({ "type": kind }));
    }

    /// These types are not sent by themselves when they are asked for.
    pub fn keep(&mut self, kinds: &[&str]) {
        self.tell("keep", json!({ "types": kinds }));
    }

    /// Does not listen to the versions that clients offer.
    pub fn forget_versions(&mut self, forget: bool) {
        self.tell("forget", json!({ "versions": forget }));
    }

    /// Sends just this; returns its nonce.
    pub fn send(&mut self, kind: &str, resources: &[Value], removed: &[&str]) -> String {
        self.send_with(json!({ "type": kind, "resources": resources, "removed": removed }))
    }

    pub fn send_with(&mut self, response: Value) -> String {
        let mark = self.mark();
        self.tell("send", json!({ "response": response }));
        let sent = self.hears("what was sent", mark, |said| said.get("sent").cloned());
        sent["nonce"].as_str().unwrap().to_owned()
    }

    /// Ends the stream: `close`, `status` or `reset`.
    pub fn end(&mut self, how: &str) {
        self.tell("end", json!({ "how": how }));
    }

    /// Goes away, with GOAWAY.
    pub fn leave(&mut self) {
        let mark = self.mark();
        self.tell("leave", json!({}));
        self.hears("that it has left", mark, |said| said.get("left").cloned());
    }

    /// Takes connections, where it did before.
    pub fn listen(&mut self) {
        let mark = self.mark();
        self.tell("listen", json!({ "port": self.port }));
        let port = self.hears("its port", mark, |said| said.get("listening")?.as_u64());
        self.port = u16::try_from(port).unwrap();
    }

    /// A place in what is said, to look behind.
    pub fn mark(&mut self) -> usize {
        self.said.extend(self.heard.try_iter());
        self.said.len()
    }

    /// Waits for the first thing said behind the mark that is it.
    pub fn hears<T>(&mut self, what: &str, mark: usize, is: impl Fn(&Value) -> Option<T>) -> T {
        let until = Instant::now() + PATIENCE;
        let mut at = mark;
        loop {
            if let Some(found) = self.said.iter().skip(at).find_map(&is) {
                return found;
            }
            at = self.said.len();
            match self.heard.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(said) => self.said.push(said),
                Err(_) => panic!("{what} is not heard in:\n{}", self.since(mark)),
            }
        }
    }

    fn since(&self, mark: usize) -> String {
        let lines: Vec<String> = self.said.iter().skip(mark).map(Value::to_string).collect();
        lines.join("\n")
    }

    /// Waits for a request of a type that is no answer.
    pub fn asked(&mut self, kind: &str, mark: usize) -> Value {
        self.hears(&format!("a request for {kind}"), mark, |said| {
            let request = said.get("request")?;
            (request["type"] == kind && request["nonce"] == "").then(|| request.clone())
        })
    }

    /// Waits for the answer to a response: what it refuses.
    pub fn answer(&mut self, nonce: &str) -> Option<String> {
        let request = self.hears(&format!("an answer to {nonce}"), 0, |said| {
            let request = said.get("request")?;
            (request["nonce"] == nonce).then(|| request.clone())
        });
        request["error"].as_str().map(str::to_owned)
    }

    /// Sends this, which must be taken.
    pub fn sends(&mut self, kind: &str, resources: &[Value], removed: &[&str]) {
        let nonce = self.send(kind, resources, removed);
        assert_eq!(self.answer(&nonce), None, "{kind} {nonce}");
    }

    /// Pushes a type, which must be taken. Returns the names that were sent, and those that were taken away.
    pub fn pushes(&mut self, kind: &str) -> (Value, Value) {
        let mark = self.mark();
        self.push(kind);
        let sent = self.sent(kind, mark);
        assert_eq!(self.answer(sent["nonce"].as_str().unwrap()), None, "{kind} {sent}");
        (sent["names"].clone(), sent["removed"].clone())
    }

    /// Waits for a response of a type.
    pub fn sent(&mut self, kind: &str, mark: usize) -> Value {
        self.hears(&format!("a response of {kind}"), mark, |said| {
            let sent = said.get("sent")?;
            (sent["type"] == kind).then(|| sent.clone())
        })
    }

    /// All requests behind the mark so far.
    pub fn requests(&mut self, mark: usize) -> Vec<Value> {
        self.mark();
        self.said.iter().skip(mark).filter_map(|said| said.get("request").cloned()).collect()
    }

    /// All responses behind the mark so far.
    pub fn responses(&mut self, mark: usize) -> Vec<Value> {
        self.mark();
        self.said.iter().skip(mark).filter_map(|said| said.get("sent").cloned()).collect()
    }

    /// The types asked for behind the mark, in the order of their first requests.
    pub fn order(&mut self, mark: usize) -> Vec<String> {
        let mut order = vec![];
        for request in self.requests(mark) {
            let kind = request["type"].as_str().unwrap().to_owned();
            // Ours alone asks for the names its DNS answers.
            if !order.contains(&kind) && kind.len() == 3 {
                order.push(kind);
            }
        }
        order
    }

    /// No response was answered twice, and each answer is to a response.
    pub fn answers_are_once(&mut self) {
        let mut answered = std::collections::BTreeSet::new();
        let sent: Vec<String> =
            self.responses(0).iter().map(|sent| sent["nonce"].as_str().unwrap().to_owned()).collect();
        for request in self.requests(0) {
            let nonce = request["nonce"].as_str().unwrap().to_owned();
            if !nonce.is_empty() {
                assert!(sent.contains(&nonce), "{nonce} was never sent");
                assert!(answered.insert(nonce.clone()), "{nonce} was answered twice");
            }
        }
    }
}
