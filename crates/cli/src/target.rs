//! Options shared by the commands that speak to a running mesh, and what they ask it.
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use control::shapes::{ProxyStatus, WorkloadStatus};
use control::status::change::Refusal;
use control::workload::Workload;
use http::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::exit::{Code, Failure};
use crate::http_client;
use crate::mesh::{self, MeshFile};
use crate::output::say;

/// Which mesh.
#[derive(Debug, Args)]
pub struct Target {
    /// State directory of the mesh; default: the one started last by this user
    #[arg(long, value_name = "DIR", env = "FILAMESH_MESH")]
    pub mesh: Option<PathBuf>,
}

/// Which namespaces.
#[derive(Debug, Args)]
pub struct Namespaces {
    /// Namespace
    #[arg(short, long, default_value = "default")]
    pub namespace: String,
    /// All namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
}

impl Namespaces {
    /// The namespace that is meant; `None`: all.
    pub fn one(&self) -> Option<&str> {
        (!self.all_namespaces).then_some(self.namespace.as_str())
    }
}

impl Target {
    pub fn find(&self) -> Result<MeshFile, Failure> {
        mesh::find(self.mesh.as_deref())
    }
}

/// The control plane may take so long to answer what changes the mesh: a hundred thousand objects and a slow disk.
const CHANGE: Duration = Duration::from_secs(120);

/// Asks the control plane to change the mesh, through its Unix socket. What it refuses is told here, in its words.
pub fn change<T: DeserializeOwned>(
    mesh: &MeshFile,
    path: &str,
    request: &impl Serialize,
) -> Result<T, Failure> {
    let body = serde_json::to_vec(request).map_err(|e| Failure::new(Code::Failure, e.to_string()))?;
    local(mesh, Method::POST, path, body)
}

/// Asks what only the Unix socket answers.
pub fn ask_locally<T: DeserializeOwned>(mesh: &MeshFile, path: &str) -> Result<T, Failure> {
    local(mesh, Method::GET, path, Vec::new())
}

fn local<T: DeserializeOwned>(
    mesh: &MeshFile,
    method: Method,
    path: &str,
    body: Vec<u8>,
) -> Result<T, Failure> {
    let Some(socket) = &mesh.control.socket else {
        return Err(Failure::unreachable("this mesh was started by an older filamesh: restart it"));
    };
    let (status, answer) = http_client::local(socket, method, &format!("/filamesh/v1/{path}"), body, CHANGE)?;
    if status == 200 {
        return serde_json::from_slice(&answer)
            .map_err(|e| Failure::new(Code::Failure, format!("{path}: not the answer expected: {e}")));
    }
    let refusal = serde_json::from_slice(&answer).unwrap_or_else(|_| Refusal {
        error: format!("{path} answered {status}: {}", String::from_utf8_lossy(&answer).trim()),
        problems: Vec::new(),
    });
    for problem in &refusal.problems {
        say(problem);
    }
    let code = match status {
        403 => Code::Denied,
        422 => Code::BadInput,
        _ => Code::Failure,
    };
    Err(Failure::new(code, refusal.error))
}

/// Asks the control plane's API, `/filamesh/v1/PATH`.
pub fn ask<T: DeserializeOwned>(mesh: &MeshFile, path: &str) -> Result<T, Failure> {
    let url = format!("{}/filamesh/v1/{path}", mesh.control.http);
    serde_json::from_slice(&http_client::get(&url)?)
        .map_err(|e| Failure::new(Code::Failure, format!("{url}: not the answer expected: {e}")))
}

/// `key=value&...` of the values that are given, whatever characters they hold.
pub fn query(pairs: &[(&str, Option<&str>)]) -> String {
    let escaped = |value: &str| -> String {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
        let byte = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
        value.bytes().map(byte).collect()
    };
    let given = pairs.iter().filter_map(|(key, value)| Some(format!("{key}={}", escaped((*value)?))));
    given.collect::<Vec<_>>().join("&")
}

pub fn workloads(mesh: &MeshFile) -> Result<Vec<WorkloadStatus>, Failure> {
    ask(mesh, "workloads")
}

pub fn proxies(mesh: &MeshFile) -> Result<Vec<ProxyStatus>, Failure> {
    ask(mesh, "proxies")
}

/// A workload by `NAME`, `NAME.NAMESPACE` or `NAMESPACE/NAME`.
pub fn find_workload(mesh: &MeshFile, wanted: &str) -> Result<Workload, Failure> {
    let known = workloads(mesh)?;
    let (namespace, name) = split(wanted);
    let mut found = known
        .iter()
        .map(|w| &w.workload)
        .filter(|w| w.name == name && namespace.is_none_or(|ns| ns == w.namespace));
    match (found.next(), found.next()) {
        (Some(workload), None) => Ok(workload.clone()),
        (Some(_), Some(_)) => {
            Err(Failure::usage(format!("{wanted} is in several namespaces: say {name}.NAMESPACE")))
        }
        (None, _) => {
            let names: Vec<String> =
                known.iter().map(|w| format!("{}.{}", w.workload.name, w.workload.namespace)).collect();
            Err(Failure::new(Code::Failure, format!("no workload {wanted}; there are: {}", names.join(", "))))
        }
    }
}

/// The admin address of a workload's proxy.
pub fn admin_of(mesh: &MeshFile, wanted: &str) -> Result<String, Failure> {
    find_workload(mesh, wanted)?
        .admin
        .ok_or_else(|| Failure::unreachable(format!("{wanted} told no admin address")))
}

fn split(wanted: &str) -> (Option<&str>, &str) {
    if let Some((namespace, name)) = wanted.split_once('/') {
        return (Some(namespace), name);
    }
    match wanted.rsplit_once('.') {
        Some((name, namespace)) => (Some(namespace), name),
        None => (None, wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_a_query_may_hold_anything() {
        let pairs = [("kind", Some("vs")), ("name", Some("a b&c=%")), ("namespace", None), ("x", Some("é"))];
        assert_eq!(query(&pairs), "kind=vs&name=a%20b%26c%3D%25&x=%C3%A9");
    }
}
