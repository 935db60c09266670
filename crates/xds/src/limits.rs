//! Every limit of the ADS server in one place, each with its reason. A peer is not trusted for being able to connect:
//! what it may make the control plane hold, compute or write is bounded here.

use std::time::Duration;

/// Resources in one response: a slow reader holds no more than this of what is not shared.
pub const RESPONSE_BYTES: usize = 256 << 10;

/// Names in one response that holds no resource.
pub const RESPONSE_NAMES: usize = 10_000;

/// Responses of one type without an answer, beyond which the type waits.
pub const OUTSTANDING: usize = 64;

/// Names of one type a client may ask for. Ten thousand services with ten subsets fit.
pub const NAMES: usize = 200_000;

/// Names of a type that is not served: each is answered with "does not exist", which repeats the name.
pub const FOREIGN_NAMES: usize = 1_000;

/// Answers about types that are not served that wait to be sent.
pub const FOREIGN_ANSWERS: usize = 16;

/// Refused versions that are remembered of one name, and names of which any are.
pub const REFUSALS: usize = 8;
pub const REFUSED_NAMES: usize = 10_000;

/// A client's text is cut here before it is kept: it is shown to people.
pub const REASON_BYTES: usize = 1024;

/// Rounds whose acknowledgement is still awaited; beyond, the oldest counts with the next.
pub const ROUNDS: usize = 64;

/// A node message. Istio's Envoy sends 10 to 20 KiB (labels, annotations, the proxy's configuration).
pub const NODE_BYTES: usize = 64 << 10;

/// A node's id is written into logs, pages and the state on disk.
pub const NODE_ID_BYTES: usize = 1024;

/// What is taken of a request before its node is known and judged: the node, and the few fields that may stand
/// before it.
pub const UNKNOWN_BYTES: usize = NODE_BYTES + 4096;

/// One request of a client that is known. One that reconnects names everything it holds: 175 KB at a thousand services
/// of one port, 10 MB at the largest mesh served.
pub const REQUEST_BYTES: usize = 16 << 20;

/// An ordinary request: an answer, a change of what is asked for.
pub const USUAL_REQUEST_BYTES: usize = 1 << 20;

/// Requests larger than an ordinary one, per stream: one for each type when a client connects, and as many again for a
/// mesh that grows by thousands of services at once.
pub const LARGE_REQUESTS: usize = 10;

/// Bytes of large requests that have come in part, of all streams together. Reconnecting clients beyond it are told to
/// come again.
pub const REQUEST_BYTES_IN_ALL: usize = 256 << 20;

/// Connections that wait to be taken, if the kernel (net.core.somaxconn) lets as many: after a restart thousands of proxies
/// come at once, and one that finds the queue full is reset after it believes to be connected.
pub const ACCEPT_QUEUE: i32 = 4096;

/// Requests that wait for the first set of resources.
pub const BACKLOG: usize = 64;

/// Connections in all. The goal is 5,000 proxies; file descriptors bound it.
pub const CONNECTIONS: usize = 20_000;

/// Connections from one address that is not this machine. A few thousand sidecars may stand behind one address
/// translator, not more.
pub const CONNECTIONS_PER_ADDRESS: usize = 4_096;

/// Streams on one connection. A proxy has one; a new one may begin before the old one's end was noticed.
pub const STREAMS_PER_CONNECTION: u32 = 8;

/// Header fields of one stream. gRPC's are some hundred bytes.
pub const HEADER_BYTES: usize = 16 << 10;

/// What waits for a peer's socket, of all its streams together, beside the one response that each of them holds.
pub const OUTPUT_BYTES: usize = 16 << 10;

/// HTTP/2's window of one stream: what a peer may send ahead of being read.
pub const STREAM_WINDOW: u32 = 256 << 10;

/// From accepting a connection to its first stream, and from a stream's start to its node. A peer that only connects
/// holds a descriptor for no longer.
pub const FIRST_WORD: Duration = Duration::from_secs(10);

/// A connection without a stream is ended after so long.
pub const WITHOUT_STREAM: Duration = Duration::from_secs(60);

/// A proxy whose machine is gone without a word is given up after these two. As istiod pings; a thousand idle proxies cost a
/// thousandth of a core so.
pub const PING_EVERY: Duration = Duration::from_secs(30);
pub const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// A log line's part that a peer wrote.
pub const LOGGED_BYTES: usize = 512;

/// Lines that peers cause (refusals, refused connections), in a minute; the number of those left out is written.
pub const LINES_PER_MINUTE: u32 = 120;
