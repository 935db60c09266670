//! The `filamesh` binary: thin commands over the other crates.
//!
//! | files | commands |
//! |---|---|
//! | `demo.rs`, `up.rs`, over `mesh_process.rs`, `supervise.rs` | a whole mesh in one process tree |
//! | `run.rs`, `proxy_role.rs`, `control_plane.rs`, over `sidecar.rs` | the long-running roles |
//! | `apply.rs`, `delete.rs`, `rollback.rs`, over `live.rs`; `get.rs`, `describe.rs`, `history.rs` | configuration |
//! | `stat.rs`, `proxy_status.rs`, `proxy_config.rs`, `explain.rs` | what is happening, and why |
//! | `validate.rs`, `simulate.rs`, `xds_dump.rs` | without a running mesh |
//! | `load.rs` | a steady load, for `demo` |
//! | `lines.rs`, `lifeline.rs`, `memory.rs`, `signals.rs` | a process: what it says, its parent, its memory, its end |
//! | `bootstrap.rs`, `node.rs` | what a proxy starts with, and who it says it is |
//! | `mesh.rs`, `state_dir.rs`, `target.rs`, `http_client.rs`, `output.rs`, `exit.rs` | shared by them |

mod apply;
mod bootstrap;
mod control_plane;
mod delete;
mod demo;
mod describe;
mod exit;
mod explain;
mod get;
mod history;
mod http_client;
mod lifeline;
mod lines;
mod live;
mod load;
mod memory;
mod mesh;
mod mesh_process;
mod node;
mod output;
mod proxy_config;
mod proxy_role;
mod proxy_status;
mod rollback;
mod run;
mod sidecar;
mod signals;
mod simulate;
mod stat;
mod state_dir;
mod supervise;
mod target;
mod up;
mod validate;
mod xds_dump;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::exit::{Code, Failure, Outcome};

/// A service mesh in one program: Istio's configuration, no Kubernetes needed, every decision explained.
#[derive(Debug, Parser)]
#[command(name = "filamesh", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Demo),
    Up(up::Up),
    Run(Box<run::Run>),
    Proxy(proxy_role::Proxy),
    Control(control_plane::Control),
    Apply(apply::Apply),
    Delete(delete::Delete),
    Get(get::Get),
    Describe(describe::Describe),
    History(history::History),
    Rollback(rollback::Rollback),
    Stat(stat::Stat),
    #[command(visible_alias = "ps")]
    ProxyStatus(proxy_status::ProxyStatusArgs),
    ProxyConfig(proxy_config::ProxyConfig),
    Explain(explain::Explain),
    Validate(validate::Validate),
    Simulate(simulate::Simulate),
    XdsDump(xds_dump::XdsDump),
    /// Print the completion script of a shell
    Completion {
        shell: clap_complete::Shell,
    },
    /// Run a sample application (what `demo` meshes)
    #[command(hide = true)]
    Sample {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

fn main() -> ExitCode {
    // A process with one thread may still enter namespaces: see `capture`.
    capture::holder_main();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { Code::Usage as u8 } else { 0 });
        }
    };
    let code = match dispatch(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::say(format_args!("filamesh: {failure}"));
            ExitCode::from(failure.code as u8)
        }
    };
    output::finish_saying();
    code
}

fn dispatch(command: Command) -> Outcome {
    match command {
        Command::Demo(args) => demo::run(&args),
        Command::Up(args) => up::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Proxy(args) => proxy_role::run(&args),
        Command::Control(args) => control_plane::run(args),
        Command::Apply(args) => apply::run(&args),
        Command::Delete(args) => delete::run(&args),
        Command::Get(args) => get::run(&args),
        Command::Describe(args) => describe::run(&args),
        Command::History(args) => history::run(&args),
        Command::Rollback(args) => rollback::run(&args),
        Command::Stat(args) => stat::run(&args),
        Command::ProxyStatus(args) => proxy_status::run(&args),
        Command::ProxyConfig(args) => proxy_config::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Validate(args) => validate::run(&args),
        Command::Simulate(args) => simulate::run(&args),
        Command::XdsDump(args) => xds_dump::run(&args),
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "filamesh", &mut std::io::stdout());
            Ok(())
        }
        Command::Sample { arguments } => sample(arguments),
    }
}

fn sample(arguments: Vec<String>) -> Outcome {
    let mut arguments = arguments.into_iter();
    match arguments.next().as_deref() {
        Some("bookinfo") => bookinfo::run(arguments).map_err(Failure::from),
        other => Err(Failure::usage(format!("no sample {}; there is: bookinfo", other.unwrap_or("named")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_of_all_commands_hold_together() {
        Cli::command().debug_assert();
    }
}
