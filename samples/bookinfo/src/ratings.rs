//! ratings: the stars two readers gave. `POST /ratings/ID` keeps others until the process ends.
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::serve::{Answer, Call, Service, json, not_found};

/// Posted ratings by product; bounded, for anybody may post.
static POSTED: LazyLock<Mutex<HashMap<u64, Value>>> = LazyLock::new(Mutex::default);
const MOST_PRODUCTS: usize = 1000;

pub struct Ratings;

impl Service for Ratings {
    async fn answer(&self, call: Call) -> Answer {
        if call.path == "/health" {
            return json(StatusCode::OK, &json!({"status": "Ratings is healthy"}));
        }
        let Some(id) = call.path.strip_prefix("/ratings/") else { return not_found() };
        let Ok(id) = id.parse::<u64>() else {
            return json(StatusCode::BAD_REQUEST, &json!({"error": "please provide numeric product ID"}));
        };
        let mut posted = POSTED.lock().unwrap_or_else(PoisonError::into_inner);
        if call.method == Method::POST {
            let Ok(ratings) = serde_json::from_slice::<Value>(&call.body) else {
                return json(StatusCode::BAD_REQUEST, &json!({"error": "please provide valid ratings JSON"}));
            };
            if posted.len() < MOST_PRODUCTS || posted.contains_key(&id) {
                posted.insert(id, ratings);
            }
        }
        let ratings = posted.get(&id).cloned().unwrap_or_else(|| json!({"Reviewer1": 5, "Reviewer2": 4}));
        json(StatusCode::OK, &json!({"id": id, "ratings": ratings}))
    }
}
