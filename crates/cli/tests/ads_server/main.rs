//! Our proxy, the program itself, under somebody else's control plane: a delta ADS server in Python (grpcio, and the messages
//! of PyPI's `envoy-data-plane`) that is told each step. Runs where `FILAMESH_PEERS_PYTHON` names a Python that has both.
//!
//! Where `ENVOY` names an Envoy it goes through the same steps beside it. Wherever the two differ the test says why, at the
//! place ([`subject::Subject::either`]).
//!
//! | file | holds |
//! |---|---|
//! | `server.py`, `server.rs` | the control plane |
//! | `subject.rs` | our proxy, or Envoy |
//! | `resources.rs` | resources as JSON |
//! | `cold_start.rs` | what is asked for first, and what listeners wait for |
//! | `refusals.rs` | a bad resource of each type among good ones |
//! | `make_before_break.rs` | a new cluster, a route that is switched to it, the old cluster gone |
//! | `reconnect.rs` | streams that end, control planes that come back |
//! | `misbehaviour.rs` | what no control plane should send |
#![allow(clippy::print_stdout, reason = "tests say what they leave out")]

#[path = "../../../proxy/tests/common/mod.rs"]
mod common;
#[path = "../common/mod.rs"]
mod program;
#[path = "../../../control/tests/common/python.rs"]
mod python;

mod cold_start;
mod make_before_break;
mod misbehaviour;
mod reconnect;
mod refusals;
mod resources;
mod server;
mod subject;
