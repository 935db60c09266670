//! `filamesh rollback`: what is applied becomes what it was after an earlier change, as one change.
use std::time::Instant;

use clap::Args;
use control::status::change::{Changed, RollbackRequest};

use crate::apply::print;
use crate::exit::{Failure, Outcome};
use crate::live::{DryRun, Wait};
use crate::output::say;
use crate::target::{Target, change};

/// Make everything that is applied what it was after an earlier change
#[derive(Debug, Args)]
#[command(
    after_help = "A rollback is a change like any other: `filamesh history` shows it, and it can be rolled back.

Examples:
  filamesh rollback 41 --dry-run=server
  filamesh rollback 41 --comment 'the canary failed'"
)]
pub struct Rollback {
    /// The change to go back to, as `filamesh history` numbers it
    revision: u64,
    /// Say what would be done
    #[arg(long, value_enum, default_value_t = DryRun::None)]
    dry_run: DryRun,
    /// Why: remembered in `filamesh history`
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
    #[command(flatten)]
    wait: Wait,
    #[command(flatten)]
    target: Target,
}

pub fn run(args: &Rollback) -> Outcome {
    let began = Instant::now();
    if args.dry_run == DryRun::Client {
        return Err(Failure::usage("only the control plane knows the revisions: --dry-run=server"));
    }
    let mesh = args.target.find()?;
    let request = RollbackRequest {
        revision: args.revision,
        dry_run: args.dry_run == DryRun::Server,
        comment: args.comment.clone(),
    };
    let changed: Changed = change(&mesh, "rollback", &request)?;
    if changed.objects.is_empty() {
        say(format_args!("everything is as it was after revision {}", args.revision));
    }
    print(&changed.objects, None, args.dry_run)?;
    args.wait.for_change(&mesh, &changed, began)
}
