//! What health checks say and hear by HTTP and gRPC.

use std::time::Duration;

use model::endpoints::HostCheck;
use model::headers::HeaderPlan;
use model::health_check::{CheckResult, GrpcProbe, HttpProbe};
use model::template::{Values, Variable};
use wire::h1::{Edits, HeadStorage, Limits, parse_request, write_request};

use crate::call::state::Answer;
use crate::request::edits::apply_set;
use crate::upstream::host::HostRef;

/// A check's request, as HTTP/1 has it.
pub struct CheckRequest {
    pub head: Vec<u8>,
    pub body: Vec<u8>,
}

/// The health service's answer `SERVING`: field 1 of its message.
const SERVING: &[u8] = &[0x08, 0x01];

pub fn http(probe: &HttpProbe, told: &HostCheck, target: &HostRef) -> CheckRequest {
    let mut head = format!("{} {} HTTP/1.1\r\n", probe.method, probe.path);
    let host = name(&told.hostname, &probe.host, target);
    head.push_str(&format!("host: {host}\r\nuser-agent: Envoy/HC\r\n"));
    if matches!(probe.method, "POST" | "PUT" | "PATCH") {
        head.push_str("content-length: 0\r\n");
    }
    head.push_str("\r\n");
    CheckRequest { head: edited(head, &probe.headers, target), body: vec![] }
}

pub fn grpc(probe: &GrpcProbe, told: &HostCheck, target: &HostRef, timeout: Duration) -> CheckRequest {
    let mut body = vec![];
    if !probe.service.is_empty() {
        // Field 1, a string. Lengths above 127 take more than one byte.
        let mut length = probe.service.len();
        body.push(0x0a);
        while length > 0x7f {
            body.push(u8::try_from(length & 0x7f).unwrap_or(0) | 0x80);
            length >>= 7;
        }
        body.push(u8::try_from(length).unwrap_or(0));
        body.extend_from_slice(probe.service.as_bytes());
    }
    let mut message = vec![0];
    message.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes());
    message.extend_from_slice(&body);
    let host = name(&told.hostname, &probe.authority, target);
    let millis = timeout.as_millis().min(99_999_999);
    let head = format!(
        "POST /grpc.health.v1.Health/Check HTTP/1.1\r\nhost: {host}\r\nte: trailers\r\nconnection: te\r\n\
         grpc-timeout: {millis}m\r\ncontent-type: application/grpc\r\nuser-agent: Envoy/HC\r\n\
         content-length: {}\r\n\r\n",
        message.len()
    );
    CheckRequest { head: edited(head, &probe.metadata, target), body: message }
}

/// The endpoint's own name for checks, else the check's, else the cluster's.
fn name<'n>(told: &'n str, probe: &'n str, target: &'n HostRef) -> &'n str {
    [told, probe].into_iter().find(|name| !name.is_empty()).unwrap_or(&target.cluster.name)
}

fn edited(head: String, plan: &HeaderPlan, target: &HostRef) -> Vec<u8> {
    let mut storage = HeadStorage::new();
    let text = head.into_bytes();
    if plan.is_empty() || !matches!(parse_request(&text, &mut storage, &Limits::default()), Ok(Some(_))) {
        return text;
    }
    let view = storage.request(&text);
    let mut edits = Edits::new();
    for name in &plan.remove {
        edits.remove(&view, name.as_bytes());
    }
    let mut value = vec![];
    for set in &plan.set {
        value.clear();
        set.value.append(&CheckValues(target), &mut value);
        match &*set.name {
            _ if value.is_empty() && !set.keep_empty => {}
            ":authority" => edits.host(&value),
            ":path" => edits.target(&value),
            name => apply_set(&mut edits, &view, name.as_bytes(), &value, set.how),
        }
    }
    let mut out = vec![];
    write_request(&view, &edits, &mut out);
    out
}

/// What a header of a check may ask: there is a host, and no client.
struct CheckValues<'a>(&'a HostRef);

impl Values for CheckValues<'_> {
    fn append(&self, variable: &Variable, out: &mut Vec<u8>) -> bool {
        let text = match variable {
            Variable::UpstreamHost | Variable::UpstreamRemoteAddress => self.0.address.to_string(),
            Variable::UpstreamCluster => self.0.cluster.name.to_string(),
            Variable::Hostname => std::env::var("HOSTNAME").unwrap_or_default(),
            Variable::EnvironmentVariable(name) => std::env::var(&**name).unwrap_or_default(),
            _ => return false,
        };
        out.extend_from_slice(text.as_bytes());
        !text.is_empty()
    }
}

pub fn http_result(probe: &HttpProbe, status: u16) -> CheckResult {
    let within = |ranges: &[std::ops::Range<u16>]| ranges.iter().any(|range| range.contains(&status));
    match (within(&probe.expected), within(&probe.retriable)) {
        (true, _) => CheckResult::Passed,
        (false, true) => CheckResult::Retriable,
        (false, false) => CheckResult::Failed,
    }
}

/// Envoy: whoever answers anything but `SERVING` is unhealthy at once.
pub fn grpc_result(answer: &Answer) -> CheckResult {
    let message = match answer.body.as_slice() {
        [0, a, b, c, d, message @ ..] if u32::from_be_bytes([*a, *b, *c, *d]) as usize == message.len() => {
            message
        }
        _ => &[],
    };
    let serving = message.windows(SERVING.len()).next() == Some(SERVING);
    match answer.status == Some(200) && answer.grpc_status == Some(0) && serving {
        true => CheckResult::Passed,
        false => CheckResult::Failed,
    }
}
