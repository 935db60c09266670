//! The benchmark behind `./bench`: what a hop costs beside Envoy, nginx, HAProxy, a bare relay and the floor, what an
//! idle proxy weighs, and how long a changed file takes to be live everywhere.
//!
//! It holds the load generator, the upstream, the contenders' configurations and the tables. It uses no other
//! crate of the project: proxies are programs, seen from outside, all in the same way. No benchmark runs in the
//! ordinary tests.
//!
//! # Method
//!
//! - Proxies run pinned to one core with one worker, both of a pair to the same; generator and upstream on another,
//!   `SCHED_FIFO` where that is allowed, so that they never wait out a time slice of each other or of a stranger.
//!   Proxies run in the ordinary class, at its highest priority where that is allowed.
//! - All contenders of a group run from the start, rounds go A B C A B C: drift of the machine hits all alike.
//!   Figures are medians of the rounds, ratios are ratios of medians of one run; goals show the spread of the ratios
//!   of the single rounds beside it.
//! - The figure to judge by is CPU per request: user and system time of the proxies' process trees over the window,
//!   divided by the replies in it. It stays right where the generator or a neighbour is the bottleneck.
//! - Open loop: requests fall due at exponential intervals whatever the replies do; latency counts from the due
//!   time, so a stalled proxy cannot hide its queue.
//! - HTTP/2 is judged by h2load, in front of an upstream of our own that reads frames and no fields: neither shares
//!   code with what is measured. A reply without the upstream's body is an error, not a fast answer.
//! - A contender that does not do what it was told (no log line, no counter, no multiplexing) loses its row.
//! - The floor is a set of prototypes in the folder `shared` beside the project, or in `FILAMESH_SHARED`. Without
//!   it those rows are skipped, by name.
//!
//! # Modules
//!
//! | module | holds |
//! |---|---|
//! | [`scenario`] | the loads, and who meets which |
//! | [`histogram`], [`statistics`] | latencies; medians and spreads |
//! | [`message`], [`http_client`], [`http2_client`] | HTTP/1 heads and lengths; small blocking clients |
//! | [`load`], [`h2load`], [`upstream`], [`relay`], [`hold`], [`disturb`] | generators, the server behind the proxies, a bare relay, idle connections, what stands in the way |
//! | [`cores`], [`scheduling`], [`procfs`], [`running`] | which core, real time, what a process used, child processes |
//! | [`machine`] | what machine this is and how quiet it was |
//! | [`rivals`], [`contenders`] | getting the rivals; starting each contender with its configuration |
//! | [`hop`], [`idle`], [`wear`], [`interference`], [`syscalls`], [`demo`], [`propagation`], [`profile`], [`newcomer`] | the measurements |
//! | [`control`] | the control plane, by streams of thousands of proxies |
//! | [`report`], [`goals`], [`goal`], [`figures`], [`table`] | tables and goals |

pub mod contenders;
pub mod control;
pub mod cores;
pub mod demo;
pub mod disturb;
pub mod figures;
pub mod goal;
pub mod goals;
pub mod h2load;
pub mod histogram;
pub mod hold;
pub mod hop;
pub mod http2_client;
pub mod http_client;
pub mod idle;
pub mod interference;
pub mod load;
pub mod machine;
pub mod message;
pub mod newcomer;
pub mod procfs;
pub mod profile;
pub mod propagation;
pub mod relay;
pub mod report;
pub mod rivals;
pub mod running;
pub mod scenario;
pub mod scheduling;
pub mod statistics;
pub mod syscalls;
pub mod table;
pub mod upstream;
pub mod wear;
