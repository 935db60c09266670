//! The process tree of `demo` and `up`: a control plane, a gateway, workloads; kept alive, ended together.
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::exit::{Code, Failure, Outcome};
use crate::mesh::{self, Control, MeshFile, Workload};
use crate::output::{event, say};
use crate::supervise::{Event, Process, Role, end_all, watch_signals};

/// Long enough for a loaded machine, short enough for a person.
const START_LIMIT: Duration = Duration::from_secs(20);
const END_GRACE: Duration = Duration::from_secs(5);
/// What other commands read could not be written (a full disk): it is tried again after this.
const WRITE_AGAIN: Duration = Duration::from_secs(2);
/// A child that lived shorter than this before it ended is restarted after a pause of this length.
const STEADY: Duration = Duration::from_secs(2);

/// A running tree.
pub struct MeshProcess {
    pub state_dir: PathBuf,
    pub control: Option<Control>,
    processes: Vec<Option<Process>>,
    roles: Vec<Role>,
    ready: Vec<Option<Value>>,
    sender: Sender<Event>,
    events: Receiver<Event>,
    /// What other commands read, and the file by which they find it, once those are written.
    file: Option<MeshFile>,
    marker: Option<PathBuf>,
    write_again: Option<Instant>,
    /// The state directory is ours alone and goes with us.
    ephemeral: bool,
    json: bool,
    /// What the control plane logs is repeated on stderr: its log may be on a disk that is full.
    repeats_control: bool,
}

/// What the control plane of the tree reads and where it listens.
pub struct ControlSettings {
    pub config: Vec<PathBuf>,
    pub xds: String,
    pub http: String,
    pub mesh_config: Option<PathBuf>,
}

impl MeshProcess {
    /// Signals are taken over here: call before any thread is started.
    pub fn new(state_dir: PathBuf, ephemeral: bool, json: bool) -> MeshProcess {
        let (sender, events) = channel();
        watch_signals(sender.clone());
        crate::output::say_without_waiting();
        MeshProcess {
            state_dir,
            control: None,
            processes: Vec::new(),
            roles: Vec::new(),
            ready: Vec::new(),
            sender,
            events,
            file: None,
            marker: None,
            write_again: None,
            ephemeral,
            json,
            repeats_control: false,
        }
    }

    /// Repeats on stderr what the control plane logs from now on.
    pub fn repeat_control(&mut self) {
        self.repeats_control = true;
    }

    pub fn log_path(&self, name: &str) -> Result<PathBuf, Failure> {
        let dir = self.state_dir.join("logs");
        control::disk::make_private_dir(&dir).map_err(|e| Failure::io(dir.display(), &e))?;
        Ok(dir.join(format!("{name}.log")))
    }

    /// Starts our own program with these arguments; `-o json --lifeline` are added.
    pub fn start(&mut self, name: &str, arguments: Vec<String>) -> Outcome {
        self.start_in(name, arguments, Vec::new())
    }

    pub fn start_in(
        &mut self,
        name: &str,
        arguments: Vec<String>,
        environment: Vec<(String, String)>,
    ) -> Outcome {
        let role = Role { name: name.to_owned(), arguments, environment, log: self.log_path(name)? };
        let process = Process::start(role.clone(), self.processes.len(), &self.sender)?;
        self.processes.push(Some(process));
        self.roles.push(role);
        self.ready.push(None);
        Ok(())
    }

    /// Starts the control plane, waits until it is ready, and pins its ports for later restarts.
    pub fn start_control(&mut self, settings: &ControlSettings) -> Result<Control, Failure> {
        let mut arguments = vec!["control".to_owned()];
        for dir in &settings.config {
            arguments.extend(["--config".to_owned(), dir.display().to_string()]);
        }
        let state = self.state_dir.join("control");
        arguments.extend(["--state-dir".to_owned(), state.display().to_string()]);
        if let Some(file) = &settings.mesh_config {
            arguments.extend(["--mesh-config".to_owned(), file.display().to_string()]);
        }
        arguments.extend(["--lifeline".to_owned(), "-o".to_owned(), "json".to_owned()]);
        if self.ephemeral {
            arguments.extend(["--remove-when-orphaned".to_owned(), self.state_dir.display().to_string()]);
            let marker = mesh::marker(std::process::id()).display().to_string();
            arguments.extend(["--remove-when-orphaned".to_owned(), marker]);
        }
        let mut listening = arguments.clone();
        listening.extend([
            "--xds".to_owned(),
            settings.xds.clone(),
            "--http".to_owned(),
            settings.http.clone(),
        ]);
        self.start("control", listening)?;
        let index = self.processes.len() - 1;
        self.wait_ready(&[index])?;
        let said = self.ready[index].clone().unwrap_or_default();
        let text = |key: &str| said["control"][key].as_str().unwrap_or_default().to_owned();
        let control = Control {
            pid: self.pid(index),
            xds: text("xds"),
            http: text("http"),
            socket: said["control"]["socket"].as_str().map(PathBuf::from),
        };
        let address = control.http.trim_start_matches("http://").to_owned();
        arguments.extend(["--xds".to_owned(), control.xds.clone(), "--http".to_owned(), address]);
        self.roles[index].arguments = arguments;
        self.control = Some(control.clone());
        Ok(control)
    }

    pub fn pid(&self, index: usize) -> u32 {
        self.processes.get(index).and_then(Option::as_ref).map_or(0, |p| p.pid)
    }

    pub fn count(&self) -> usize {
        self.processes.len()
    }

    /// What the child said when it was ready.
    pub fn ready_event(&self, index: usize) -> Option<&Value> {
        self.ready.get(index).and_then(Option::as_ref)
    }

    /// Waits until all these children said they are ready. One that ends first is an error with its last words.
    pub fn wait_ready(&mut self, indices: &[usize]) -> Outcome {
        let deadline = Instant::now() + START_LIMIT;
        while let Some(waiting) = indices.iter().find(|i| self.ready[**i].is_none()) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Ok(Event::Said(index, value)) => {
                    if value["event"] == "ready" {
                        self.ready[index] = Some(value);
                    } else {
                        self.repeat(&value);
                    }
                }
                Ok(Event::Ended(index, how)) => {
                    self.processes[index] = None;
                    let name = &self.roles[index].name;
                    return Err(Failure::new(
                        Code::Failure,
                        format!("{name} ended: {how}\n{}", self.last_words(index)),
                    ));
                }
                Ok(Event::Stop) => return Err(Failure::new(Code::Failure, "stopped")),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    let name = &self.roles[*waiting].name;
                    return Err(Failure::new(
                        Code::Failure,
                        format!(
                            "{name} was not ready within {} s\n{}",
                            START_LIMIT.as_secs(),
                            self.last_words(*waiting)
                        ),
                    ));
                }
            }
        }
        Ok(())
    }

    fn last_words(&self, index: usize) -> String {
        let text = std::fs::read_to_string(&self.roles[index].log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(5)..].iter().map(|l| format!("  {l}\n")).collect()
    }

    /// All workloads that said they are ready, in the order they were started.
    pub fn workloads(&self) -> Vec<Workload> {
        self.ready
            .iter()
            .flatten()
            .filter_map(|said| said["workloads"].as_array())
            .flatten()
            .filter_map(|w| serde_json::from_value(w.clone()).ok())
            .collect()
    }

    /// Tells other commands and, with `-o json`, the reader of stdout that the mesh is ready.
    pub fn announce(&mut self, file: &MeshFile) -> Outcome {
        self.file = Some(file.clone());
        self.write_file();
        if self.json { event(&crate::output::to_value(file)?) } else { Ok(()) }
    }

    /// Tells other commands what runs now; what cannot be written ends nothing, and is tried again.
    fn write_file(&mut self) {
        let Some(file) = &self.file else { return };
        let written = file.write().and_then(|()| match self.marker {
            Some(_) => Ok(()),
            None => mesh::announce(&self.state_dir).map(|marker| self.marker = Some(marker)),
        });
        let failing = self.write_again.take().is_some();
        if let Err(failure) = written {
            if !failing {
                say(format_args!("{failure}; other commands do not find all that runs now"));
            }
            self.write_again = Some(Instant::now() + WRITE_AGAIN);
        }
    }

    /// Keeps the tree alive until somebody asks it to end. [`MeshProcess::end`], or dropping it, does.
    pub fn keep(&mut self) -> Outcome {
        let mut restarts: Vec<(Instant, usize)> = Vec::new();
        loop {
            let next = restarts.iter().map(|(at, _)| *at).chain(self.write_again).min();
            let wait =
                next.map_or(Duration::from_secs(3600), |at| at.saturating_duration_since(Instant::now()));
            match self.events.recv_timeout(wait) {
                Ok(Event::Stop) => break,
                Ok(Event::Said(index, value)) => {
                    if value["event"] == "ready" {
                        self.came_back(index, value);
                    } else {
                        self.repeat(&value);
                    }
                }
                Ok(Event::Ended(index, how)) => {
                    let Some(process) = self.processes[index].take() else { continue };
                    let name = &self.roles[index].name;
                    say(format_args!("{name} (pid {}) ended: {how}; restarting", process.pid));
                    let pause = if process.started.elapsed() < STEADY { STEADY } else { Duration::ZERO };
                    restarts.push((Instant::now() + pause, index));
                }
                Err(_) => {}
            }
            let now = Instant::now();
            if self.write_again.is_some_and(|at| at <= now) {
                self.write_file();
            }
            let (due, later) = restarts.into_iter().partition(|(at, _)| *at <= now);
            restarts = later;
            for (_, index) in due as Vec<(Instant, usize)> {
                match Process::start(self.roles[index].clone(), index, &self.sender) {
                    Ok(process) => self.processes[index] = Some(process),
                    Err(failure) => {
                        say(failure);
                        restarts.push((now + STEADY, index));
                    }
                }
            }
        }
        Ok(())
    }

    fn repeat(&self, said: &Value) {
        if let (true, "log", Some(line)) =
            (self.repeats_control, said["event"].as_str().unwrap_or_default(), said["line"].as_str())
        {
            say(line);
        }
    }

    /// A restarted child is ready again: other commands must find its new process ids.
    fn came_back(&mut self, index: usize, value: Value) {
        let name = self.roles[index].name.clone();
        say(format_args!("{name} is back (pid {})", self.pid(index)));
        self.ready[index] = Some(value);
        if name == "control" {
            let pid = self.pid(index);
            if let Some(control) = &mut self.control {
                control.pid = pid;
            }
        }
        let workloads = self.workloads();
        if let Some(file) = &mut self.file {
            file.workloads = workloads;
            if let Some(control) = &self.control {
                file.control = control.clone();
            }
            self.write_file();
        }
        if self.json {
            // Whoever reads may be gone: the mesh stays.
            let _ = event(&json!({"event": "restarted", "name": name, "pid": self.pid(index)}));
        }
    }

    /// Ends all children and removes what was made for them.
    pub fn end(&mut self) {
        end_all(&mut self.processes, &self.events, END_GRACE);
        if let Some(marker) = self.marker.take() {
            let _ = std::fs::remove_file(marker);
        }
        if self.ephemeral {
            remove_tree(&self.state_dir);
        } else {
            let _ = std::fs::remove_file(self.state_dir.join("mesh.json"));
        }
    }
}

impl Drop for MeshProcess {
    fn drop(&mut self) {
        self.end();
    }
}

/// Removes a file or a directory; what is not there is no error.
pub fn remove_tree(path: &Path) {
    if std::fs::remove_file(path).is_err() {
        let _ = std::fs::remove_dir_all(path);
    }
}
