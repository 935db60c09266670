//! An HTTP client for tests: single requests, and a load that counts what went wrong.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

type Http = Client<HttpConnector, Empty<Bytes>>;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// One request: the status (0: no answer) and the body.
pub fn get(url: &str, headers: &[(&str, &str)]) -> (u16, String) {
    runtime().block_on(async {
        let client: Http = Client::builder(TokioExecutor::new()).build_http();
        one(&client, url, headers).await.unwrap_or_else(|why| (0, why))
    })
}

/// One request through an explicit HTTP proxy.
pub fn get_via(proxy: &str, url: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let (address, headers) = through(proxy, url, headers);
    get(&address, &borrowed(&headers))
}

/// [`tally`] through an explicit HTTP proxy.
pub fn tally_via(
    proxy: &str,
    url: &str,
    headers: &[(&str, &str)],
    count: usize,
    key: impl Fn(u16, &str) -> String,
) -> BTreeMap<String, usize> {
    let (address, headers) = through(proxy, url, headers);
    tally(&address, &borrowed(&headers), count, key)
}

/// The request as the proxy listener takes it: sent to the proxy, the destination in Host.
fn through(proxy: &str, url: &str, headers: &[(&str, &str)]) -> (String, Vec<(String, String)>) {
    let (host, path) = url.trim_start_matches("http://").split_once('/').unwrap();
    let mut all: Vec<(String, String)> = vec![("host".to_owned(), host.to_owned())];
    all.extend(headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())));
    (format!("http://{proxy}/{path}"), all)
}

fn borrowed(headers: &[(String, String)]) -> Vec<(&str, &str)> {
    headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect()
}

async fn one(client: &Http, url: &str, headers: &[(&str, &str)]) -> Result<(u16, String), String> {
    let mut request = Request::get(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Empty::new()).unwrap();
    let exchange = async {
        let reply = client.request(request).await.map_err(|e| format!("{e:?}"))?;
        let status = reply.status().as_u16();
        let body = reply.into_body().collect().await.map_err(|e| format!("{e:?}"))?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    };
    tokio::time::timeout(Duration::from_secs(10), exchange)
        .await
        .unwrap_or_else(|_| Err("no answer in 10 s".to_owned()))
}

/// `count` requests on a few connections, counted by what `key` says of the answer.
pub fn tally(
    url: &str,
    headers: &[(&str, &str)],
    count: usize,
    key: impl Fn(u16, &str) -> String,
) -> BTreeMap<String, usize> {
    runtime().block_on(async {
        let client: Http = Client::builder(TokioExecutor::new()).build_http();
        let mut counted = BTreeMap::new();
        let mut left = count;
        while left > 0 {
            let batch = left.min(16);
            let mut running = Vec::new();
            for _ in 0..batch {
                let (client, url) = (client.clone(), url.to_owned());
                let headers: Vec<(String, String)> =
                    headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
                running.push(tokio::spawn(async move {
                    let headers: Vec<(&str, &str)> =
                        headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
                    one(&client, &url, &headers).await
                }));
            }
            for task in running {
                let (status, body) = task.await.unwrap().unwrap_or_else(|why| (0, why));
                *counted.entry(key(status, &body)).or_insert(0) += 1;
            }
            left -= batch;
        }
        counted
    })
}

/// The version of reviews that answered, from its JSON.
pub fn version(status: u16, body: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    match value["podname"].as_str().and_then(|p| p.strip_prefix("reviews-")) {
        Some(version) => version.to_owned(),
        None => format!("{status}: {body}"),
    }
}

/// A steady load from a thread of its own; ends when dropped or asked.
pub struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    failures: Arc<std::sync::Mutex<Vec<String>>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Load {
    pub fn start(url: &str, rps: f64) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicU64::new(0));
        let failures = Arc::new(std::sync::Mutex::new(Vec::new()));
        let (s, n, f, url) = (Arc::clone(&stop), Arc::clone(&sent), Arc::clone(&failures), url.to_owned());
        let thread = std::thread::spawn(move || {
            runtime().block_on(async move {
                let client: Http = Client::builder(TokioExecutor::new()).build_http();
                let mut tick = tokio::time::interval(Duration::from_secs_f64(1.0 / rps));
                let mut running = tokio::task::JoinSet::new();
                while !s.load(Ordering::Relaxed) {
                    tick.tick().await;
                    n.fetch_add(1, Ordering::Relaxed);
                    let (client, url, failures) = (client.clone(), url.clone(), Arc::clone(&f));
                    running.spawn(async move {
                        match one(&client, &url, &[]).await {
                            Ok((200, _)) => {}
                            other => failures.lock().unwrap().push(format!("{other:?}")),
                        }
                    });
                    while running.try_join_next().is_some() {}
                }
                while running.join_next().await.is_some() {}
            });
        });
        Load { stop, sent, failures, thread: Some(thread) }
    }

    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Ends the load: how many were sent, and what each failed one said.
    pub fn end(mut self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
        (self.sent(), self.failures.lock().unwrap().clone())
    }
}
