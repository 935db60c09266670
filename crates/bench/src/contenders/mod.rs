//! The proxies compared: what each is called, and the command and configuration that make it a plain hop, or a pair.

mod bootstrap;
mod command;
pub mod contender;
mod debian;
mod site;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::http_client::Client;
use crate::procfs;
use crate::rivals::Programs;
use crate::running::{Class, Placement, Running, free_address};
use crate::scenario::Setting;
pub use contender::Contender;
use site::{ACCESS_LOG, Between, Role, Site};

/// More connections than this between two proxies are no multiplexing of 64.
const FEW_CONNECTIONS: usize = 16;

impl Contender {
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

/// What every instance of a group shares.
#[derive(Debug, Clone, Copy)]
pub struct Ground<'a> {
    pub programs: &'a Programs,
    pub setting: Setting,
    pub upstream: SocketAddr,
    /// Another upstream, for what begins with `/large`.
    pub large: Option<SocketAddr>,
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
                large: ground.large.filter(|_| role == Role::Inbound),
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
