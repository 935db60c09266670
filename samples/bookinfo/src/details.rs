//! details: what is known of a book.
use http::StatusCode;
use serde_json::json;

use crate::serve::{Answer, Call, Service, json, not_found};

pub struct Details;

impl Service for Details {
    async fn answer(&self, call: Call) -> Answer {
        if call.path == "/health" {
            return json(StatusCode::OK, &json!({"status": "Details is healthy"}));
        }
        let Some(id) = call.path.strip_prefix("/details/") else { return not_found() };
        let Ok(id) = id.parse::<u64>() else {
            return json(StatusCode::BAD_REQUEST, &json!({"error": "please provide numeric product id"}));
        };
        let book = json!({
            "id": id, "author": "William Shakespeare", "year": 1595, "type": "paperback", "pages": 200,
            "publisher": "PublisherA", "language": "English",
            "ISBN-10": "1234567890", "ISBN-13": "123-1234567890",
        });
        json(StatusCode::OK, &book)
    }
}
