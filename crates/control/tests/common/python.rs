//! A peer written in Python: told by lines, heard by lines of JSON.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use serde_json::Value;

/// Ended when dropped.
pub struct Python {
    child: Child,
    says: ChildStdin,
    pub heard: Receiver<Value>,
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Python {
    /// The Python of `FILAMESH_PEERS_PYTHON`; `None`: there is none, or it lacks one of these modules.
    pub fn with(modules: &str) -> Option<PathBuf> {
        let python = PathBuf::from(std::env::var_os("FILAMESH_PEERS_PYTHON")?);
        let has =
            Command::new(&python).args(["-c", &format!("import {modules}")]).stderr(Stdio::null()).status();
        has.is_ok_and(|status| status.success()).then_some(python)
    }

    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (says, out) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, heard) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let _ = sender.send(serde_json::from_str(&line).unwrap());
            }
        });
        Self { child, says, heard }
    }

    pub fn say(&mut self, line: &str) {
        writeln!(self.says, "{line}").unwrap();
    }
}
