//! The command line and the configuration files of one instance.

use std::path::Path;

use anyhow::Context;

use super::bootstrap::{Telemetry, bootstrap};
use super::contender::Contender;
use super::debian;
use super::site::{Between, Role, Site};
use crate::scenario::Setting;

type Environment = Vec<(&'static str, String)>;

pub fn command(
    contender: Contender,
    setting: Setting,
    program: &Path,
    site: &Site,
) -> anyhow::Result<(Vec<String>, Environment)> {
    let text = |path: &Path| path.display().to_string();
    let write = |name: &str, content: String| -> anyhow::Result<String> {
        let path = site.directory.join(name);
        std::fs::write(&path, content).with_context(|| path.display().to_string())?;
        Ok(text(&path))
    };
    let access_log = text(&site.access_log());
    let mut command = vec![text(program)];
    let mut environment = vec![];
    match contender {
        Contender::Direct => {}
        Contender::Envoy | Contender::EnvoyLog | Contender::EnvoyMux => {
            let telemetry = match contender {
                Contender::EnvoyLog => Telemetry::Envoy { access_log },
                _ => Telemetry::Off,
            };
            // JSON is YAML: the same file is read by both.
            let config = write("bootstrap.yaml", bootstrap(site, &telemetry).to_string())?;
            let options = ["--concurrency", "1", "--disable-hot-restart", "-l", "error", "-c"];
            command.extend(options.map(str::to_owned));
            command.push(config);
        }
        Contender::Filamesh | Contender::FilameshBare | Contender::FilameshMux => {
            let telemetry = match contender {
                Contender::FilameshBare => Telemetry::Off,
                _ => Telemetry::Istio { access_log },
            };
            let config = write("bootstrap.yaml", bootstrap(site, &telemetry).to_string())?;
            // One worker for each core it may run on, and it may run on one.
            command.extend(["proxy".to_owned(), "-c".to_owned(), config]);
        }
        Contender::Nginx => command.extend(["-c".to_owned(), write("nginx.conf", debian::nginx(site))?]),
        Contender::Haproxy => {
            let config = write("haproxy.cfg", debian::haproxy(site))?;
            command.extend(["-db".to_owned(), "-f".to_owned(), config]);
        }
        Contender::Floor | Contender::FloorMux => {
            command.extend([site.listen.to_string(), site.upstream.to_string()]);
            // The prototype of HTTP/2 takes no options, and has no telemetry.
            if setting != Setting::Grpc {
                command.push("--telemetry".to_owned());
                environment.push(("FLOOR_LOG", access_log));
            }
            if contender == Contender::FloorMux {
                let side = if site.role == Role::Outbound { "--mux-out" } else { "--mux-in" };
                command.push(side.to_owned());
            }
        }
        Contender::Relay => {
            command.extend(["relay".to_owned(), site.listen.to_string(), site.upstream.to_string()]);
        }
    }
    anyhow::ensure!(
        site.between != Between::Multiplexed || contender.multiplexes(),
        "{} has no multiplexed hop",
        contender.name()
    );
    Ok((command, environment))
}
