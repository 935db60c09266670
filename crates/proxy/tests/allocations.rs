//! The budget of a small request: at most two heap allocations (none is the aim), telemetry included.
#![allow(unsafe_code, reason = "a counting allocator can not be written without")]
mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering::SeqCst};

use common::*;
use serde_json::json;

/// Counts what one thread allocates.
struct Counting;

static THREAD: AtomicI32 = AtomicI32::new(0);
static COUNT: AtomicU64 = AtomicU64::new(0);

fn count() {
    let thread = THREAD.load(SeqCst);
    // SAFETY: takes nothing, changes nothing.
    if thread != 0 && unsafe { libc::gettid() } == thread {
        COUNT.fetch_add(1, SeqCst);
    }
}

// SAFETY: everything is handed to the system's allocator as it comes.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn worker_thread() -> i32 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let worker = tasks
        .map(|task| task.path())
        .find(|task| std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "worker-0"));
    worker.unwrap().file_name().unwrap().to_str().unwrap().parse().unwrap()
}

#[test]
fn a_small_request_allocates_next_to_nothing() {
    let host = Host::saying("hello");
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut manager = http(
        json!([{ "match": { "prefix": "/" }, "route": { "cluster": "up", "timeout": "15s",
        "retry_policy": { "retry_on": "connect-failure,refused-stream,unavailable,cancelled", "num_retries": 2 } } }]),
    );
    manager["access_log"] = json!([{ "name": "file", "typed_config":
        typed("envoy.extensions.access_loggers.file.v3.FileAccessLog", json!({ "path": file.path().to_str().unwrap(),
            "log_format": { "text_format_source": { "inline_string": telemetry::access_log::ISTIO } } })) }]);
    let proxy = Proxy::start(http_listener(manager), &[cluster("up", &[host.address])]);
    let mut client = proxy.client();
    let request =
        "POST /a/b?c=d HTTP/1.1\r\nhost: web.default\r\nuser-agent: test/1\r\ncontent-length: 3\r\n\r\nabc";
    for _ in 0..200 {
        assert_eq!(client.ask(request).status, 200);
    }
    THREAD.store(worker_thread(), SeqCst);
    for _ in 0..1000 {
        assert_eq!(client.ask(request).status, 200);
    }
    THREAD.store(0, SeqCst);
    let allocations = COUNT.load(SeqCst);
    eprintln!("{allocations} allocations for 1000 requests");
    assert!(allocations <= 2000, "{allocations} allocations for 1000 requests");
}
