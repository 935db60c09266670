//! What a gateway is sent.
//!
//! | module | makes |
//! |---|---|
//! | `merge` | of all Gateways that select the proxy, the servers of each port |
//! | `listeners` | filter chains by port and SNI |
//! | `connections` | where TCP and passed-on TLS goes |
//! | `routes` | the virtual hosts of HTTP servers |

mod connections;
mod listeners;
mod merge;
mod routes;

use xds::listener::Listener;
use xds::route::RouteConfiguration;

use super::context::Context;
use crate::scope::Scope;
pub use merge::Merged;

/// Listeners by name, routes by name.
pub fn build(
    context: &Context<'_>,
    scope: &Scope,
    merged: &Merged,
) -> (Vec<Listener>, Vec<RouteConfiguration>) {
    (listeners::build(context, scope, merged), routes::build(context, scope, merged))
}
