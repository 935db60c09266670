//! The load generator: HTTP/1.1 keep-alive on a fixed number of connections, one thread, one epoll.
//!
//! Closed loop: each connection sends its next request when it has its reply. Open loop: requests fall due at
//! exponential intervals, wait for a free connection, and their latency counts from the due time.

mod connection;
mod generator;
mod schedule;

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::procfs::Cpu;

pub use generator::run;

/// One run. Times in seconds.
#[derive(Debug, Clone)]
pub struct Load {
    pub target: SocketAddr,
    pub connections: usize,
    pub warm_up: f64,
    pub seconds: f64,
    /// Requests a second; `None`: closed loop.
    pub rate: Option<f64>,
    /// Bytes sent with each request; 0: a GET.
    pub body: usize,
    /// The processes whose CPU time is measured over the window, with that of their descendants.
    pub watch: Vec<u32>,
}

/// What a run measured. Times in microseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Measured {
    /// In the window.
    pub replies: u64,
    /// From the first connection to the end, warm-up and all.
    pub served: u64,
    /// Failed connections, replies other than 200, requests without any reply.
    pub errors: u64,
    pub first_error: Option<String>,
    pub seconds: f64,
    pub rps: f64,
    /// For each reply; absent when nothing was watched.
    pub user_us: Option<f64>,
    pub system_us: Option<f64>,
    /// Latencies; absent where the generator does not tell them.
    pub p50_us: Option<f64>,
    pub p90_us: Option<f64>,
    pub p99_us: Option<f64>,
    pub p999_us: Option<f64>,
    pub max_us: Option<f64>,
}

impl Measured {
    /// Times of the processor as user and system time of each reply.
    pub fn split(used: Cpu, replies: u64) -> (f64, f64) {
        let each = used.total.as_secs_f64() * 1e6 / replies.max(1) as f64;
        (each * used.user_share(), each * (1.0 - used.user_share()))
    }

    /// User and system time for each reply.
    pub fn cpu_us(&self) -> Option<f64> {
        Some(self.user_us? + self.system_us?)
    }
}

/// The request every scenario sends. A path with something to route, and the headers a browser or library sends.
fn request(body: usize) -> Vec<u8> {
    let method = if body == 0 { "GET" } else { "POST" };
    let mut bytes = format!(
        "{method} /api/v1/items/17?view=full HTTP/1.1\r\nhost: bench.local\r\nuser-agent: filamesh-bench\r\naccept: */*\r\n"
    )
    .into_bytes();
    if body > 0 {
        bytes.extend(format!("content-type: text/plain\r\ncontent-length: {body}\r\n").bytes());
    }
    bytes.extend(b"\r\n");
    bytes.resize(bytes.len() + body, b'x');
    bytes
}

#[cfg(test)]
mod tests {
    use crate::message::{Kind, Reader};

    #[test]
    fn requests_are_whole_messages() {
        for body in [0, 1, 1024] {
            let mut reader = Reader::new(Kind::Request);
            assert_eq!(reader.feed(&super::request(body)).unwrap().messages, 1, "body {body}");
            assert!(!reader.within());
        }
    }
}
