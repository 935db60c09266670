//! The benchmark behind `./bench`: what one hop costs beside Envoy, nginx, HAProxy and the floor, what an idle
//! proxy weighs, and how long a changed file takes to be live everywhere.
//!
//! It holds the load generator, the upstream, the contenders' configurations and the tables. It uses no other
//! crate of the project: proxies are programs, seen from outside, all in the same way. No benchmark runs in the
//! ordinary tests.
//!
//! # Method
//!
//! - Proxies run pinned to one core with one worker; generator and upstream on another, `SCHED_FIFO` where that
//!   is allowed, so that they never wait out a time slice of each other or of a stranger.
//! - All contenders run from the start, rounds go A B C A B C: drift of the machine hits all alike. Figures
//!   are medians of the rounds, ratios are ratios of medians of one run.
//! - The figure to judge by is CPU per request: user and system time of the proxy's process tree over the window,
//!   divided by the replies in it. It stays right where the generator or a neighbour is the bottleneck.
//! - Open loop: requests fall due at exponential intervals whatever the replies do; latency counts from the due
//!   time, so a stalled proxy cannot hide its queue.
//!
//! # Modules
//!
//! | module | holds |
//! |---|---|
//! | [`histogram`], [`statistics`] | latencies; medians and spreads |
//! | [`message`], [`http_client`] | HTTP/1 heads and lengths; a small blocking client |
//! | [`load`], [`upstream`], [`hold`] | the generator, the server behind the proxies, idle connections |
//! | [`cores`], [`scheduling`], [`procfs`], [`running`] | which core, real time, what a process used, child processes |
//! | [`machine`] | what machine this is and how quiet it was |
//! | [`rivals`], [`contenders`] | getting the rivals; starting each contender with its configuration |
//! | [`hop`], [`idle`], [`demo`], [`propagation`] | the scenarios |
//! | [`report`], [`table`] | tables and goals |

pub mod contenders;
pub mod cores;
pub mod demo;
pub mod histogram;
pub mod hold;
pub mod hop;
pub mod http_client;
pub mod idle;
pub mod load;
pub mod machine;
pub mod message;
pub mod procfs;
pub mod propagation;
pub mod report;
pub mod rivals;
pub mod running;
pub mod scheduling;
pub mod statistics;
pub mod table;
pub mod upstream;
