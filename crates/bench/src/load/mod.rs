//! The load generator: HTTP/1.1 keep-alive on a fixed number of connections, one thread, one epoll.
//!
//! Closed loop: each connection sends its next request when it has its reply. Open loop: requests fall due at
//! exponential intervals, wait for a free connection, and their latency counts from the due time.

mod connection;
mod generator;
mod schedule;

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

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
    /// The process whose tree's CPU time is measured over the window.
    pub watch: Option<u32>,
}

/// What a run measured. Times in microseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Measured {
    /// In the window.
    pub replies: u64,
    /// Failed connections, replies other than 200, requests without any reply.
    pub errors: u64,
    pub first_error: Option<String>,
    pub seconds: f64,
    pub rps: f64,
    /// For each reply; absent when nothing was watched.
    pub user_us: Option<f64>,
    pub system_us: Option<f64>,
    pub p50_us: f64,
    pub p90_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
}

impl Measured {
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
