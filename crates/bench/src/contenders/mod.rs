//! The proxies compared: what each is called, and the command and configuration that make it a plain hop, or a pair.

mod bootstrap;
mod command;
mod debian;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::http_client::Client;
use crate::procfs;
use crate::rivals::Programs;
use crate::running::{Class, Placement, Running, free_address};
use crate::scenario::Setting;

/// More connections than this between two proxies are no multiplexing of 64.
const FEW_CONNECTIONS: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Contender {
    /// Generator and upstream without anything between: the rig's own bound.
    Direct,
    /// Without an access log, and with Envoy's own counters only.
    Envoy,
    /// With Istio's access log, and the metrics of Istio as far as this build of Envoy can make them.
    EnvoyLog,
    /// Two, with HTTP/2 between them.
    EnvoyMux,
    Nginx,
    Haproxy,
    /// With Istio's access log and Istio's metrics.
    Filamesh,
    FilameshBare,
    /// Two, with all requests over few connections between them. Log and metrics as `Filamesh`.
    FilameshMux,
    /// The prototype that does nothing but the work; for HTTP/1 with a log line and a counter for each request.
    Floor,
    /// Two, with a bare framing between them that is not even HTTP/2.
    FloorMux,
    /// Bytes moved between two sockets, nothing read.
    Relay,
}

impl Contender {
    pub const ALL: [Contender; 12] = [
        Contender::Direct,
        Contender::Envoy,
        Contender::EnvoyLog,
        Contender::EnvoyMux,
        Contender::Nginx,
        Contender::Haproxy,
        Contender::Filamesh,
        Contender::FilameshBare,
        Contender::FilameshMux,
        Contender::Floor,
        Contender::FloorMux,
        Contender::Relay,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Contender::Direct => "direct",
            Contender::Envoy => "envoy",
            Contender::EnvoyLog => "envoy-log",
            Contender::EnvoyMux => "envoy-mux",
            Contender::Nginx => "nginx",
            Contender::Haproxy => "haproxy",
            Contender::Filamesh => "filamesh",
            Contender::FilameshBare => "filamesh-bare",
            Contender::FilameshMux => "filamesh-mux",
            Contender::Floor => "floor",
            Contender::FloorMux => "floor-mux",
            Contender::Relay => "relay",
        }
    }

    /// Whether it is ours: the run has failed without it.
    pub fn ours(self) -> bool {
        matches!(self, Contender::Filamesh | Contender::FilameshBare | Contender::FilameshMux)
    }

    /// The prototype that does the same.
    pub fn floor(self) -> Contender {
        if self.multiplexes() { Contender::FloorMux } else { Contender::Floor }
    }

    /// Whether two of it carry all requests over few connections.
    pub fn multiplexes(self) -> bool {
        matches!(self, Contender::EnvoyMux | Contender::FilameshMux | Contender::FloorMux)
    }

    /// Whether it was told to write a line for each request.
    fn logs(self, setting: Setting) -> bool {
        match self {
            Contender::EnvoyLog | Contender::Filamesh | Contender::FilameshMux => true,
            // The prototype of HTTP/2 has no log.
            Contender::Floor | Contender::FloorMux => setting != Setting::Grpc,
            _ => false,
        }
    }

    /// Whether it was told to count requests as Istio does.
    fn counts(self) -> bool {
        matches!(self, Contender::EnvoyLog | Contender::Filamesh | Contender::FilameshMux)
    }

    /// The program, or why there is none.
    fn program(self, programs: &Programs, setting: Setting) -> Result<PathBuf, String> {
        match self {
            Contender::Direct => Err("no program".to_owned()),
            Contender::Envoy | Contender::EnvoyLog | Contender::EnvoyMux => programs.envoy.clone(),
            Contender::Nginx => programs.nginx.clone(),
            Contender::Haproxy => programs.haproxy.clone(),
            Contender::Filamesh | Contender::FilameshBare | Contender::FilameshMux => {
                programs.filamesh.clone()
            }
            Contender::Floor | Contender::FloorMux => {
                let floor = programs.floor.clone()?;
                Ok(if setting == Setting::Grpc { floor.http2 } else { floor.http1 })
            }
            Contender::Relay => std::env::current_exe().map_err(|e| e.to_string()),
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

/// Which side of a request a proxy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The server's: the only one of a single hop.
    Inbound,
    /// The client's.
    Outbound,
}

/// What a proxy speaks with what is behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Between {
    Http1,
    Http2,
    /// Whatever one filamesh speaks with another.
    Multiplexed,
}

/// Where one instance listens, sends and writes, and what it is.
#[derive(Debug, Clone)]
pub struct Site {
    pub listen: SocketAddr,
    pub upstream: SocketAddr,
    pub admin: SocketAddr,
    pub directory: PathBuf,
    /// Open files a process may have; tables sized at the start must fit.
    pub files: u64,
    pub role: Role,
    pub between: Between,
}

impl Site {
    /// Sized by what the rivals reserve at the start; two files for each connection.
    fn connections(&self) -> u64 {
        (self.files.saturating_sub(500) / 2).clamp(64, 9_700)
    }

    fn access_log(&self) -> PathBuf {
        self.directory.join(ACCESS_LOG)
    }
}

const ACCESS_LOG: &str = "access.log";

/// What every instance of a group shares.
#[derive(Debug, Clone, Copy)]
pub struct Ground<'a> {
    pub programs: &'a Programs,
    pub setting: Setting,
    pub upstream: SocketAddr,
    pub core: usize,
    pub directory: &'a Path,
    pub files: u64,
}

/// A contender at work: no process, one, or two.
#[derive(Debug)]
pub struct Hop {
    pub contender: Contender,
    pub address: SocketAddr,
    setting: Setting,
    /// From the client to the upstream.
    proxies: Vec<Proxy>,
}

#[derive(Debug)]
struct Proxy {
    site: Site,
    running: Running,
}

impl Hop {
    /// Starts it and waits until it listens.
    pub fn start(contender: Contender, ground: &Ground<'_>) -> anyhow::Result<Hop> {
        let Ground { setting, upstream, .. } = *ground;
        let mut hop = Hop { contender, address: upstream, setting, proxies: Vec::new() };
        if contender == Contender::Direct {
            return Ok(hop);
        }
        let behind = if setting == Setting::Grpc { Between::Http2 } else { Between::Http1 };
        let mut instances = vec![(Role::Inbound, behind)];
        if setting == Setting::Pair {
            let between = match contender {
                Contender::EnvoyMux => Between::Http2,
                Contender::FilameshMux | Contender::FloorMux => Between::Multiplexed,
                _ => Between::Http1,
            };
            instances.push((Role::Outbound, between));
        }
        // From the upstream to the client: each needs the address of the one behind it.
        for (role, between) in instances {
            let suffix = if role == Role::Outbound { "-client" } else { "" };
            let name = format!("{}{suffix}", contender.name());
            let directory = ground.directory.join(&name);
            std::fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
            let site = Site {
                listen: free_address()?,
                upstream: hop.address,
                admin: free_address()?,
                directory,
                files: ground.files,
                role,
                between,
            };
            let program = contender.program(ground.programs, setting).map_err(anyhow::Error::msg)?;
            let (command, environment) = command::command(contender, setting, &program, &site)?;
            let placement = Placement { core: Some(ground.core), class: Class::Urgent };
            let mut running =
                Running::start(&name, &command, &environment, placement, &site.directory, false)?;
            running.wait_listening(site.listen)?;
            hop.address = site.listen;
            hop.proxies.insert(0, Proxy { site, running });
        }
        Ok(hop)
    }

    /// Where the only instance of a contender will write its access log, once it is started in this directory.
    pub fn access_log_in(directory: &Path, contender: Contender) -> PathBuf {
        directory.join(contender.name()).join(ACCESS_LOG)
    }

    /// The admin ports, from the client to the upstream.
    pub fn admins(&self) -> Vec<SocketAddr> {
        self.proxies.iter().map(|proxy| proxy.site.admin).collect()
    }

    /// Of its processes, from the client to the upstream.
    pub fn pids(&self) -> Vec<u32> {
        self.proxies.iter().map(|proxy| proxy.running.pid()).collect()
    }

    /// Empties the access logs, so that the disk holds one round and not all of them.
    pub fn empty_logs(&self) {
        for proxy in &self.proxies {
            if let Ok(file) = std::fs::File::options().write(true).open(proxy.site.access_log()) {
                let _ = file.set_len(0);
            }
        }
    }

    /// What a process that has ended said last.
    pub fn ended(&mut self) -> Option<String> {
        self.proxies.iter_mut().find_map(|proxy| proxy.running.ended())
    }

    /// What it was told to do and did not: its figures would not compare.
    pub fn shirks(&self) -> Option<String> {
        let written =
            |proxy: &Proxy| std::fs::metadata(proxy.site.access_log()).is_ok_and(|file| file.len() > 0);
        if self.contender.logs(self.setting) && !self.proxies.iter().all(written) {
            return Some("it wrote no access log".to_owned());
        }
        if self.contender.counts() && !self.proxies.iter().all(|proxy| counts_requests(proxy.site.admin)) {
            return Some("its admin port shows no istio_requests_total".to_owned());
        }
        if self.contender.multiplexes()
            && let [_, server] = self.proxies.as_slice()
        {
            let connections = procfs::connections_to(server.site.listen);
            if connections > FEW_CONNECTIONS {
                return Some(format!("{connections} connections between the two: it does not multiplex"));
            }
        }
        None
    }
}

fn counts_requests(admin: SocketAddr) -> bool {
    let shown = || -> anyhow::Result<bool> {
        // Its address as the host: an admin port may refuse names it does not have.
        let reply = Client::connect(admin)?.get(&admin.to_string(), "/stats/prometheus")?;
        Ok(memchr::memmem::find(&reply.body, b"istio_requests_total").is_some())
    };
    shown().unwrap_or(false)
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
