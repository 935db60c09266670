//! The proxies compared: what each is called, and the command and configuration that make it one plain hop.

mod bootstrap;
mod debian;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::http_client::Client;
use crate::rivals::Programs;
use crate::running::{Placement, Running, free_address};
use bootstrap::Telemetry;

/// In the order of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Contender {
    /// Generator and upstream without anything between: the rig's own bound.
    Direct,
    /// Without an access log, and with Envoy's own counters only.
    Envoy,
    /// With Istio's access log, and the metrics of Istio as far as this build of Envoy can make them.
    EnvoyLog,
    Nginx,
    Haproxy,
    /// With Istio's access log and Istio's metrics.
    Filamesh,
    FilameshBare,
    /// The prototype that does nothing but the work, with a log line and a counter for each request.
    Floor,
}

impl Contender {
    pub const ALL: [Contender; 8] = [
        Contender::Direct,
        Contender::Envoy,
        Contender::EnvoyLog,
        Contender::Nginx,
        Contender::Haproxy,
        Contender::Filamesh,
        Contender::FilameshBare,
        Contender::Floor,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Contender::Direct => "direct",
            Contender::Envoy => "envoy",
            Contender::EnvoyLog => "envoy-log",
            Contender::Nginx => "nginx",
            Contender::Haproxy => "haproxy",
            Contender::Filamesh => "filamesh",
            Contender::FilameshBare => "filamesh-bare",
            Contender::Floor => "floor",
        }
    }

    /// Whether it is ours: the run has failed without it.
    pub fn ours(self) -> bool {
        matches!(self, Contender::Filamesh | Contender::FilameshBare)
    }

    /// The program, or why there is none.
    fn program(self, programs: &Programs) -> Result<PathBuf, String> {
        match self {
            Contender::Direct => Err("no program".to_owned()),
            Contender::Envoy | Contender::EnvoyLog => programs.envoy.clone(),
            Contender::Nginx => programs.nginx.clone(),
            Contender::Haproxy => programs.haproxy.clone(),
            Contender::Filamesh | Contender::FilameshBare => programs.filamesh.clone(),
            Contender::Floor => programs.floor.clone(),
        }
    }
}

impl std::str::FromStr for Contender {
    type Err = String;

    fn from_str(text: &str) -> Result<Contender, String> {
        Contender::ALL.into_iter().find(|contender| contender.name() == text).ok_or_else(|| {
            let known: Vec<&str> = Contender::ALL.iter().map(|contender| contender.name()).collect();
            format!("unknown contender {text:?}; known: {}", known.join(", "))
        })
    }
}

/// Where one instance listens, sends and writes.
#[derive(Debug, Clone)]
pub struct Site {
    pub listen: SocketAddr,
    pub upstream: SocketAddr,
    pub admin: SocketAddr,
    pub directory: PathBuf,
    /// Open files a process may have; tables sized at the start must fit.
    pub files: u64,
}

impl Site {
    /// Sized by what the rivals reserve at the start; two files for each connection.
    fn connections(&self) -> u64 {
        (self.files.saturating_sub(500) / 2).clamp(64, 9_700)
    }
}

/// A contender at work.
#[derive(Debug)]
pub struct Hop {
    pub contender: Contender,
    pub address: SocketAddr,
    admin: Option<SocketAddr>,
    access_log: PathBuf,
    running: Option<Running>,
}

impl Hop {
    /// The upstream itself.
    pub fn direct(upstream: SocketAddr) -> Hop {
        Hop {
            contender: Contender::Direct,
            address: upstream,
            admin: None,
            access_log: PathBuf::new(),
            running: None,
        }
    }

    /// Starts it and waits until it listens.
    pub fn start(
        contender: Contender,
        programs: &Programs,
        upstream: SocketAddr,
        core: usize,
        directory: &Path,
        files: u64,
    ) -> anyhow::Result<Hop> {
        if contender == Contender::Direct {
            return Ok(Hop::direct(upstream));
        }
        let program = contender.program(programs).map_err(anyhow::Error::msg)?;
        let directory = directory.join(contender.name());
        std::fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
        let site = Site { listen: free_address()?, upstream, admin: free_address()?, directory, files };
        let access_log = site.directory.join("access.log");
        let (command, environment) = command(contender, &program, &site, &access_log)?;
        let placement = Placement { core: Some(core), real_time: false };
        let mut running =
            Running::start(contender.name(), &command, &environment, placement, &site.directory, false)?;
        running.wait_listening(site.listen)?;
        Ok(Hop {
            contender,
            address: site.listen,
            admin: Some(site.admin),
            access_log,
            running: Some(running),
        })
    }

    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(Running::pid)
    }

    /// Empties the access log, so that the disk holds one round and not all of them.
    pub fn empty_log(&self) {
        if let Ok(file) = std::fs::File::options().write(true).open(&self.access_log) {
            let _ = file.set_len(0);
        }
    }

    /// What it was told to write or count and did not: its figures would not compare.
    pub fn shirks(&self) -> Option<&'static str> {
        let logs = matches!(self.contender, Contender::EnvoyLog | Contender::Filamesh | Contender::Floor);
        if logs && !std::fs::metadata(&self.access_log).is_ok_and(|file| file.len() > 0) {
            return Some("it wrote no access log");
        }
        let counts = matches!(self.contender, Contender::EnvoyLog | Contender::Filamesh);
        (counts && !self.counts_requests()).then_some("its admin port shows no istio_requests_total")
    }

    fn counts_requests(&self) -> bool {
        let shown = || -> anyhow::Result<bool> {
            let admin = self.admin.context("no admin port")?;
            // Its address as the host: an admin port may refuse names it does not have.
            let reply = Client::connect(admin)?.get(&admin.to_string(), "/stats/prometheus")?;
            Ok(memchr::memmem::find(&reply.body, b"istio_requests_total").is_some())
        };
        shown().unwrap_or(false)
    }
}

type Environment = Vec<(&'static str, String)>;

fn command(
    contender: Contender,
    program: &Path,
    site: &Site,
    access_log: &Path,
) -> anyhow::Result<(Vec<String>, Environment)> {
    let text = |path: &Path| path.display().to_string();
    let write = |name: &str, content: String| -> anyhow::Result<String> {
        let path = site.directory.join(name);
        std::fs::write(&path, content).with_context(|| path.display().to_string())?;
        Ok(text(&path))
    };
    let program = text(program);
    Ok(match contender {
        Contender::Direct => (vec![program], vec![]),
        Contender::Envoy | Contender::EnvoyLog => {
            let telemetry = match contender {
                Contender::Envoy => Telemetry::Off,
                _ => Telemetry::Envoy { access_log: text(access_log) },
            };
            // JSON is YAML: the same file is read by both.
            let config = write("bootstrap.yaml", bootstrap::bootstrap(site, &telemetry).to_string())?;
            let options = ["--concurrency", "1", "--disable-hot-restart", "-l", "error", "-c"];
            let mut command = vec![program];
            command.extend(options.map(str::to_owned));
            command.push(config);
            (command, vec![])
        }
        Contender::Filamesh | Contender::FilameshBare => {
            let telemetry = match contender {
                Contender::FilameshBare => Telemetry::Off,
                _ => Telemetry::Istio { access_log: text(access_log) },
            };
            let config = write("bootstrap.yaml", bootstrap::bootstrap(site, &telemetry).to_string())?;
            // One worker for each core it may run on, and it may run on one.
            (vec![program, "proxy".to_owned(), "-c".to_owned(), config], vec![])
        }
        Contender::Nginx => {
            (vec![program, "-c".to_owned(), write("nginx.conf", debian::nginx(site))?], vec![])
        }
        Contender::Haproxy => (
            vec![program, "-db".to_owned(), "-f".to_owned(), write("haproxy.cfg", debian::haproxy(site))?],
            vec![],
        ),
        Contender::Floor => (
            vec![program, site.listen.to_string(), site.upstream.to_string(), "--telemetry".to_owned()],
            vec![("FLOOR_LOG", text(access_log))],
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for contender in Contender::ALL {
            assert_eq!(contender.name().parse(), Ok(contender));
        }
        assert!("envoi".parse::<Contender>().unwrap_err().contains("haproxy"));
    }
}
