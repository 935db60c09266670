//! Options shared by the commands that speak to a running mesh, and what they ask it.
use std::path::PathBuf;

use clap::Args;
use control::status::shapes::{ProxyStatus, WorkloadStatus};
use control::workload::Workload;
use serde::de::DeserializeOwned;

use crate::exit::{Code, Failure};
use crate::http_client;
use crate::mesh::{self, MeshFile};

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

impl Target {
    pub fn find(&self) -> Result<MeshFile, Failure> {
        mesh::find(self.mesh.as_deref())
    }
}

/// Asks the control plane's API, `/filamesh/v1/PATH`.
pub fn ask<T: DeserializeOwned>(mesh: &MeshFile, path: &str) -> Result<T, Failure> {
    let url = format!("{}/filamesh/v1/{path}", mesh.control.http);
    serde_json::from_slice(&http_client::get(&url)?)
        .map_err(|e| Failure::new(Code::Failure, format!("{url}: not the answer expected: {e}")))
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
