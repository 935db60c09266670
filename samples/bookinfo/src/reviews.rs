//! reviews: two opinions; v2 and v3 ask ratings for stars, black and red.
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use crate::call::Peer;
use crate::serve::{Answer, Call, Service, json, not_found};

pub struct Reviews {
    /// The colour of the stars; `None` in v1, which does not ask for them.
    stars: Option<String>,
    name: String,
    ratings: Peer,
}

impl Reviews {
    pub fn from_env() -> Reviews {
        let version = std::env::var("SERVICE_VERSION").unwrap_or_else(|_| "v1".to_owned());
        let asks = match std::env::var("ENABLE_RATINGS") {
            Ok(text) => text == "true",
            Err(_) => version != "v1",
        };
        let default_color = if version == "v3" { "red" } else { "black" };
        let color = std::env::var("STAR_COLOR").unwrap_or_else(|_| default_color.to_owned());
        Reviews {
            stars: asks.then_some(color),
            name: format!("reviews-{version}"),
            ratings: Peer::from_env("ratings"),
        }
    }

    /// The stars of a reader, or the words that say why there are none.
    async fn ratings(&self, id: u64, headers: &HeaderMap, color: &str) -> [Value; 2] {
        // As the Java service has it: the black one waits 10 s, the red one 2.5 s.
        let timeout = if color == "black" { Duration::from_secs(10) } else { Duration::from_millis(2500) };
        let reply = self.ratings.get(&format!("/ratings/{id}"), headers, timeout).await;
        let stars = |reader: &str| match &reply {
            Some((status, body)) if status.is_success() => match body["ratings"][reader].as_i64() {
                Some(stars) => json!({"stars": stars, "color": color}),
                None => json!({"stars": -1, "color": color}),
            },
            _ => json!({"error": "Ratings service is currently unavailable"}),
        };
        [stars("Reviewer1"), stars("Reviewer2")]
    }
}

impl Service for Reviews {
    async fn answer(&self, call: Call) -> Answer {
        if call.path == "/health" {
            return json(StatusCode::OK, &json!({"status": "Reviews is healthy"}));
        }
        let Some(id) = call.path.strip_prefix("/reviews/") else { return not_found() };
        let Ok(id) = id.parse::<u64>() else { return not_found() };
        let mut first = json!({"reviewer": "Reviewer1",
            "text": "Two pairs of twins, one long day of mistakes: I laughed until the candles went out."});
        let mut second = json!({"reviewer": "Reviewer2",
            "text": "Funny and quick. Still, I had hoped for the depth of his later plays."});
        if let Some(color) = &self.stars {
            let [one, two] = self.ratings(id, &call.headers, color).await;
            first["rating"] = one;
            second["rating"] = two;
        }
        let body = json!({
            "id": id.to_string(), "podname": self.name, "clustername": Value::Null,
            "reviews": [first, second],
        });
        json(StatusCode::OK, &body)
    }
}
