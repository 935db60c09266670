//! What a run measures: the mesh, the steps in their order, the command.

use std::fmt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Serialize;

use super::Places;
use super::meshload::Meshload;
use crate::running;

/// What proxies see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// A Sidecar `./*` in each namespace: the services of their own.
    Iso,
    /// No Sidecar: every service.
    Full,
}

/// How large a mesh is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Size {
    pub services: u32,
    /// Of each service.
    pub endpoints: u32,
    pub namespaces: u32,
    pub proxies: u32,
}

impl Size {
    /// Of the mesh that istiod's figures and the goals are of: `control-plane-measured.md`.
    pub const ISSUE: Size = Size { services: 1000, endpoints: 2, namespaces: 20, proxies: 1000 };
    /// Services with a VirtualService, and as many with a DestinationRule.
    const RULES: u32 = 100;

    pub const fn twice_the_proxies(self) -> Size {
        Size { proxies: self.proxies * 2, ..self }
    }

    pub const fn many_services(self) -> Size {
        Size { services: self.services * 5, endpoints: 10, ..self }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Run {
    pub scope: Scope,
    pub size: Size,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Size { services, endpoints, namespaces, proxies } = self.size;
        let scope = match self.scope {
            Scope::Iso => "iso",
            Scope::Full => "full",
        };
        write!(
            f,
            "{scope}, {services} services of {endpoints} endpoints, {namespaces} namespaces, {proxies} proxies"
        )
    }
}

/// How long each thing is watched.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Of each kind.
    changes: u32,
    churn_seconds: u32,
    idle_seconds: u32,
    /// Of the whole run.
    pub limit: Duration,
}

impl Effort {
    pub const USUAL: Effort =
        Effort { changes: 5, churn_seconds: 30, idle_seconds: 20, limit: Duration::from_secs(1800) };
    pub const QUICK: Effort =
        Effort { changes: 3, churn_seconds: 10, idle_seconds: 5, limit: Duration::from_secs(900) };
}

impl Run {
    /// The steps, as meshload takes them. The second pause is after the churn: what is resident then has settled. The restart
    /// comes last, as a control plane that has just started weighs less than one that has worked.
    fn scenario(&self, effort: Effort) -> String {
        let Effort { changes, churn_seconds, idle_seconds, .. } = effort;
        let mut steps = vec!["start".to_owned()];
        let proxies = self.size.proxies;
        let mut stages = vec![proxies / 10, proxies / 2, proxies];
        stages.retain(|proxies| *proxies > 0);
        stages.dedup();
        steps.extend(stages.iter().map(|proxies| format!("sync:{proxies}")));
        steps.push(format!("idle:{idle_seconds}"));
        for kind in ["endpoint", "virtualservice", "destinationrule", "service"] {
            steps.push(format!("change:{kind}:{changes}"));
        }
        steps.push(format!("churn:10:{churn_seconds}"));
        if self.scope == Scope::Iso {
            steps.push(format!("churn:20:{churn_seconds}"));
        }
        steps.push(format!("idle:{idle_seconds}"));
        steps.push("restart:keep".to_owned());
        steps.join(",")
    }

    /// Flags that say what mesh it is: the writer of the files and the load need the same.
    fn mesh_flags(&self) -> Vec<String> {
        let Size { services, endpoints, namespaces, .. } = self.size;
        let rules = Size::RULES.min(services);
        let mut flags: Vec<String> = [
            ("--services", services),
            ("--endpoints", endpoints),
            ("--namespaces", namespaces),
            ("--virtualservices", rules),
            ("--destinationrules", rules),
        ]
        .iter()
        .flat_map(|(flag, value)| [(*flag).to_owned(), value.to_string()])
        .collect();
        if self.scope == Scope::Iso {
            flags.push("--sidecar-scope".to_owned());
        }
        flags
    }
}

/// A run with its mesh written.
#[derive(Debug)]
pub struct Session<'a> {
    run: Run,
    effort: Effort,
    tool: &'a Meshload,
    places: Places<'a>,
    pub directory: PathBuf,
    /// Where the load writes what it measured.
    pub result: PathBuf,
}

impl<'a> Session<'a> {
    pub fn prepare(
        run: Run,
        effort: Effort,
        tool: &'a Meshload,
        places: Places<'a>,
    ) -> anyhow::Result<Session<'a>> {
        let directory = places.directory.join(run.to_string().replace([' ', ','], "-"));
        std::fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
        let result = directory.join("result.json");
        let session = Session { run, effort, tool, places, directory, result };
        let mut generate = Command::new(&tool.program);
        generate.arg("gen").args(run.mesh_flags()).arg("--out").arg(session.mesh());
        let output = running::output_within(generate, Duration::from_secs(120)).context("meshload gen")?;
        ensure!(output.status.success(), "meshload gen: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(session)
    }

    fn mesh(&self) -> PathBuf {
        self.directory.join("mesh")
    }

    fn server_log(&self) -> PathBuf {
        self.directory.join("control.log")
    }

    /// The last line that the control plane wrote, for messages: the load only knows that it is not there.
    pub fn server_said(&self) -> String {
        let log = std::fs::read(self.server_log()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let line = log.lines().rev().find(|line| !line.trim().is_empty());
        format!("the control plane's last line: {}", line.unwrap_or("none"))
    }

    /// The load, which starts the control plane itself: it also kills and restarts it.
    pub fn command(&self) -> anyhow::Result<Vec<String>> {
        let (xds, http) = (running::free_address()?, running::free_address()?);
        let path = |path: PathBuf| path.display().to_string();
        let server = [
            path(self.places.filamesh.to_owned()),
            "control".to_owned(),
            "--config".to_owned(),
            path(self.mesh()),
            "--state-dir".to_owned(),
            path(self.directory.join("state")),
            "--xds".to_owned(),
            xds.to_string(),
            "--http".to_owned(),
            http.to_string(),
        ];
        let mut command = vec![path(self.tool.program.clone()), "run".to_owned()];
        command.extend(self.run.mesh_flags());
        for (flag, value) in [
            ("--proxies", self.run.size.proxies.to_string()),
            ("--addr", xds.to_string()),
            ("--server-cmd", server.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")),
            ("--server-log", path(self.server_log())),
            ("--ready-url", format!("http://{http}/ready")),
            ("--apply", path(self.mesh())),
            ("--timeout", "120s".to_owned()),
            ("--scenario", self.run.scenario(self.effort)),
            ("--out", path(self.result.clone())),
        ] {
            command.extend([flag.to_owned(), value]);
        }
        // A proxy that comes back and is told nothing, because it holds everything, asks for one thing again and counts as in
        // sync when that is answered.
        command.push("--resync-probe".to_owned());
        Ok(command)
    }
}

/// For a POSIX shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_runs() {
        let run = |scope, proxies| Run { scope, size: Size { proxies, ..Size::ISSUE } };
        assert_eq!(
            run(Scope::Iso, 1000).scenario(Effort::USUAL),
            "start,sync:100,sync:500,sync:1000,idle:20,change:endpoint:5,change:virtualservice:5,\
             change:destinationrule:5,change:service:5,churn:10:30,churn:20:30,idle:20,restart:keep"
        );
        // A handful of proxies connects at once; without Sidecars one rate of churn is measured.
        let few = run(Scope::Full, 1).scenario(Effort::QUICK);
        assert!(few.starts_with("start,sync:1,idle:5,") && !few.contains("churn:20"), "{few}");
    }

    #[test]
    fn rules_are_no_more_than_services() {
        let size = Size { services: 30, ..Size::ISSUE };
        let flags = Run { scope: Scope::Iso, size }.mesh_flags().join(" ");
        assert_eq!(
            flags,
            "--services 30 --endpoints 2 --namespaces 20 --virtualservices 30 --destinationrules 30 --sidecar-scope"
        );
        assert!(!Run { scope: Scope::Full, size }.mesh_flags().join(" ").contains("sidecar"));
    }

    #[test]
    fn words_of_a_shell() {
        for word in ["plain", "two words", "it's", "a$(b)`c`\"d\"", ""] {
            let output =
                Command::new("/bin/sh").args(["-c", &format!("printf %s {}", quoted(word))]).output();
            assert_eq!(String::from_utf8_lossy(&output.unwrap().stdout), word);
        }
    }
}
