//! Other people's programs: where they are, running them to a deadline, judging what they say.
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::have;

/// Where our scripts are.
pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/peers").join(name)
}

/// A Python that has these modules: from the environment, from what `./test` installed, or from the path.
pub fn python(modules: &[&str], what: &str) -> Option<PathBuf> {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/peers/bin/python");
    let named = std::env::var_os("FILAMESH_PEERS_PYTHON").map(PathBuf::from);
    let imports: String = modules.iter().map(|module| format!("import {module}\n")).collect();
    let candidates = [named, Some(installed), Some("python3".into())];
    let found = candidates.into_iter().flatten().find(|python| {
        let mut tried = Command::new(python);
        tried.args(["-c", &imports]).stdout(Stdio::null()).stderr(Stdio::null());
        tried.status().is_ok_and(|status| status.success())
    });
    if found.is_none() {
        eprintln!("SKIPPED: {what} (no Python with {})", modules.join(", "));
    }
    found
}

/// A server in a process of its own, ended with the test.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    /// Held open: the script ends when this does.
    _tether: Option<ChildStdin>,
}

impl Server {
    /// Waits for its line `PORT n`.
    pub fn start(program: impl AsRef<OsStr>, script_name: &str) -> Server {
        let mut command = Command::new(program);
        command.arg(script(script_name)).env("TETHERED", "1");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().strip_prefix("PORT ").and_then(|port| port.parse::<u16>().ok());
        let port = port.unwrap_or_else(|| panic!("{script_name} said {line:?}"));
        let tether = child.stdin.take();
        Server { child, address: (Ipv4Addr::LOCALHOST, port).into(), _tether: tether }
    }

    /// origin.js, when Node is here.
    pub fn origin(what: &str) -> Option<Server> {
        have("node", what).then(|| Server::start("node", "origin.js"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a program ended.
pub struct Said {
    pub code: Option<i32>,
    pub out: Vec<u8>,
    pub errors: String,
}

impl Said {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }
}

/// Runs a program to its end, which must come within the limit.
pub fn run(command: &mut Command, limit: Duration) -> Said {
    let shown = format!("{command:?}");
    let shown: String = shown.chars().take(300).collect();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|why| panic!("{shown}: {why}"));
    let mut errors = child.stderr.take().unwrap();
    let mut out = child.stdout.take().unwrap();
    let errors = std::thread::spawn(move || {
        let mut text = vec![];
        let _ = errors.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    });
    let out = std::thread::spawn(move || {
        let mut bytes = vec![];
        let _ = out.read_to_end(&mut bytes);
        bytes
    });
    let deadline = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break Some(status);
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            break None;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let (out, errors) = (out.join().unwrap(), errors.join().unwrap());
    let Some(status) = status else {
        panic!("{shown}: not over within {limit:?}\n{}\n{errors}", String::from_utf8_lossy(&out));
    };
    Said { code: status.code(), out, errors }
}

/// Cells of a matrix, judged together so that one failure does not hide the others.
#[derive(Default)]
pub struct Matrix {
    passed: usize,
    failed: Vec<String>,
}

impl Matrix {
    pub fn cell(&mut self, path: &str, name: &str, found: Result<(), String>) {
        match found {
            Ok(()) => self.passed += 1,
            Err(why) => self.failed.push(format!("[{path}] {name}: {why}")),
        }
    }

    /// A script over these paths; every line it prints is a cell.
    pub fn run(&mut self, command: &mut Command, plan: &[Value]) {
        let said = run(command.arg(Value::from(plan).to_string()), Duration::from_secs(60));
        let text = said.text();
        let mut seen = 0;
        for line in text.lines() {
            let Ok(cell) = serde_json::from_str::<Value>(line) else {
                self.failed.push(format!("not a cell: {line}"));
                continue;
            };
            let why = cell["why"].as_str().map_or(Ok(()), |why| Err(why.to_owned()));
            self.cell(cell["path"].as_str().unwrap_or(""), cell["name"].as_str().unwrap_or(""), why);
            seen += 1;
        }
        if said.code != Some(0) || seen < plan.len() {
            self.failed.push(format!("{:?} after {seen} cells: {}", said.code, said.errors));
        }
    }

    pub fn judge(self, what: &str) {
        println!("{what}: {} cells hold, {} do not", self.passed, self.failed.len());
        assert!(self.failed.is_empty(), "{what}:\n{}", self.failed.join("\n"));
        assert!(self.passed > 0, "{what}: nothing was tried");
    }
}
