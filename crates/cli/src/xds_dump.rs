//! `filamesh xds-dump`: what a proxy would receive, as proto3 JSON.
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use control::proxy::{Profile, Proxy};
use control::translate::{self, Options, Resources};
use control::world::{Settings, World};
use serde_json::{Value, json};
use xds::hcm::http_connection_manager::RouteSpecifier;

use crate::exit::{Code, Failure, Outcome};
use crate::output::{Format, document_out, say};
use crate::validate::texts;

/// What a proxy would receive for a directory of YAML, as proto3 JSON
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  filamesh xds-dump --config ./mesh --proxy proxy.json
  filamesh xds-dump --config ./mesh --proxy proxy.json --static --profile vanilla > envoy.json && envoy --mode validate -c envoy.json

proxy.json: {\"type\":\"sidecar\",\"ip\":\"10.0.0.1\",\"namespace\":\"default\",\"labels\":{\"app\":\"web\"}}")]
pub struct XdsDump {
    /// Istio and Kubernetes YAML or JSON
    #[arg(long, required = true, value_name = "DIR")]
    config: Vec<PathBuf>,
    /// The proxy: type, ip, namespace, labels, metadata, as in `simulate`
    #[arg(long, value_name = "FILE")]
    proxy: PathBuf,
    /// What the receiver understands
    #[arg(long, value_enum, default_value_t = ProfileName::Mesh)]
    profile: ProfileName,
    /// As an Envoy bootstrap with everything static
    #[arg(long = "static")]
    as_bootstrap: bool,
    /// Istio's MeshConfig
    #[arg(long, value_name = "FILE")]
    mesh_config: Option<PathBuf>,
    #[arg(short, long, value_enum, default_value_t = Format::Json)]
    output: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ProfileName {
    Vanilla,
    Istio,
    Grpc,
    Mesh,
}

pub fn run(args: &XdsDump) -> Outcome {
    let mut objects = Vec::new();
    for path in &args.config {
        for (name, text) in texts(path)? {
            let parsed = api::parse_documents(&name, &text, &api::Options::default());
            for problem in parsed.problems.iter().filter(|p| p.is_error()) {
                say(problem);
            }
            objects.extend(parsed.objects);
        }
    }
    let mesh = match &args.mesh_config {
        None => api::MeshConfig::istio_default(),
        Some(path) => mesh_config(path)?,
    };
    let text = std::fs::read_to_string(&args.proxy)
        .map_err(|e| Failure::new(Code::BadInput, format!("{}: {e}", args.proxy.display())))?;
    let proxy: Proxy =
        serde_json::from_str(&text).map_err(|e| Failure::input(format!("{}: {e}", args.proxy.display())))?;
    let settings = Settings { assign_addresses: true, ..Settings::default() };
    let world = World::build(objects, Vec::new(), mesh, settings);
    let profile = match args.profile {
        ProfileName::Vanilla => Profile::Vanilla,
        ProfileName::Istio => Profile::Istio,
        ProfileName::Grpc => Profile::Grpc,
        ProfileName::Mesh => Profile::Mesh,
    };
    let made = translate::resources(&world, &proxy, &Options { profile, ..Options::default() });
    for note in world.notes().chain(&made.notes) {
        say(note);
    }
    let document = if args.as_bootstrap { bootstrap(made)? } else { dump(&made)? };
    document_out(args.output, &document)
}

/// Reads a MeshConfig file; one with errors is refused.
pub fn mesh_config(path: &std::path::Path) -> Result<api::MeshConfig, Failure> {
    let name = path.display().to_string();
    let text =
        std::fs::read_to_string(path).map_err(|e| Failure::new(Code::BadInput, format!("{name}: {e}")))?;
    let (mesh, problems) = api::parse_mesh_config(&name, &text, &api::Options::default());
    let errors: Vec<String> = problems.iter().filter(|p| p.is_error()).map(ToString::to_string).collect();
    if errors.is_empty() { Ok(mesh) } else { Err(Failure::input(errors.join("\n"))) }
}

fn json_of<M: xds::Name>(messages: &[M]) -> Result<Vec<Value>, Failure> {
    messages
        .iter()
        .map(|m| xds::json::to_json(m).map_err(|e| Failure::new(Code::Failure, e.to_string())))
        .collect()
}

fn dump(made: &Resources) -> Result<Value, Failure> {
    let names = made.name_table.as_slice();
    Ok(json!({
        "listeners": json_of(&made.listeners)?, "routes": json_of(&made.routes)?,
        "clusters": json_of(&made.clusters)?, "endpoints": json_of(&made.endpoints)?,
        "nameTable": json_of(names)?.first().cloned(),
    }))
}

/// Route configurations into the listeners that fetch them, endpoints into the clusters.
fn bootstrap(made: Resources) -> Result<Value, Failure> {
    let mut listeners = made.listeners;
    for listener in &mut listeners {
        for chain in listener.filter_chains.iter_mut().chain(listener.default_filter_chain.iter_mut()) {
            for filter in &mut chain.filters {
                inline_routes(filter, &made.routes)?;
            }
        }
    }
    let mut clusters = made.clusters;
    for cluster in &mut clusters {
        let eds = xds::cluster::cluster::DiscoveryType::Eds as i32;
        let kind = xds::cluster::cluster::ClusterDiscoveryType::Type;
        if cluster.cluster_discovery_type == Some(kind(eds)) {
            let wanted = cluster.eds_cluster_config.take().map(|c| c.service_name).unwrap_or_default();
            let wanted = if wanted.is_empty() { cluster.name.clone() } else { wanted };
            let mut assignment =
                made.endpoints.iter().find(|e| e.cluster_name == wanted).cloned().unwrap_or_default();
            assignment.cluster_name.clone_from(&cluster.name);
            cluster.load_assignment = Some(assignment);
            cluster.cluster_discovery_type = Some(kind(xds::cluster::cluster::DiscoveryType::Static as i32));
        }
    }
    Ok(json!({
        "node": {"id": "xds-dump", "cluster": "xds-dump"},
        "staticResources": {"listeners": json_of(&listeners)?, "clusters": json_of(&clusters)?},
    }))
}

fn inline_routes(filter: &mut xds::listener::Filter, routes: &[xds::route::RouteConfiguration]) -> Outcome {
    let Some(xds::listener::filter::ConfigType::TypedConfig(any)) = &mut filter.config_type else {
        return Ok(());
    };
    let Ok(mut manager) = xds::unpack::<xds::hcm::HttpConnectionManager>(any) else { return Ok(()) };
    if let Some(RouteSpecifier::Rds(rds)) = &manager.route_specifier {
        let found = routes.iter().find(|r| r.name == rds.route_config_name).cloned().ok_or_else(|| {
            Failure::new(Code::Failure, format!("no route configuration {}", rds.route_config_name))
        })?;
        manager.route_specifier = Some(RouteSpecifier::RouteConfig(found));
        *any = xds::pack(&manager);
    }
    Ok(())
}
