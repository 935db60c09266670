//! productpage: the page, the login, and the JSON view of the same.
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};

use crate::call::Peer;
use crate::page::{self, Part};
use crate::serve::{Answer, Call, Service, json, not_found, text};

const TIMEOUT: Duration = Duration::from_secs(3);
const TITLE: &str = "The Comedy of Errors";

pub struct ProductPage {
    details: Peer,
    reviews: Peer,
    ratings: Peer,
}

impl ProductPage {
    pub fn from_env() -> ProductPage {
        ProductPage {
            details: Peer::from_env("details"),
            reviews: Peer::from_env("reviews"),
            ratings: Peer::from_env("ratings"),
        }
    }

    async fn details(&self, headers: &HeaderMap) -> Part {
        part(self.details.get("/details/0", headers, TIMEOUT).await, "product details are")
    }

    /// Tried twice, as the original does: a delay in ratings shows as 6 s here.
    async fn reviews(&self, headers: &HeaderMap) -> Part {
        let mut reply = None;
        for _ in 0..2 {
            reply = self.reviews.get("/reviews/0", headers, TIMEOUT).await;
            if reply.as_ref().is_some_and(|(status, _)| status.is_success()) {
                break;
            }
        }
        part(reply, "product reviews are")
    }

    async fn ratings(&self, headers: &HeaderMap) -> Part {
        part(self.ratings.get("/ratings/0", headers, TIMEOUT).await, "product ratings are")
    }
}

fn part(reply: Option<(StatusCode, Value)>, what: &str) -> Part {
    match reply {
        Some((status, body)) if status.is_success() => Ok(body),
        reply => {
            let status = reply.map_or(StatusCode::INTERNAL_SERVER_ERROR, |(status, _)| status);
            Err((status, format!("Sorry, {what} currently unavailable for this book.")))
        }
    }
}

impl Service for ProductPage {
    async fn answer(&self, call: Call) -> Answer {
        let user = user(&call.headers);
        let mut headers = call.headers.clone();
        // The user is who logged in here, whatever the caller claims.
        headers.remove("end-user");
        if let Some(value) = user.as_deref().and_then(|u| HeaderValue::from_str(u).ok()) {
            headers.insert("end-user", value);
        }
        let show = |part: Part| match part {
            Ok(body) => json(StatusCode::OK, &body),
            Err((status, words)) => json(status, &json!({"error": words})),
        };
        match call.path.as_str() {
            "/" | "/index.html" => text(StatusCode::OK, "text/html; charset=utf-8", page::index()),
            "/health" => text(StatusCode::OK, "text/plain", "Product page is healthy"),
            "/login" if call.method == Method::POST => login(&call),
            "/login" => back(None),
            "/logout" => back(Some("session=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax".to_owned())),
            "/productpage" => {
                let details = self.details(&headers).await;
                let reviews = self.reviews(&headers).await;
                let page = page::product(TITLE, user.as_deref(), &details, &reviews);
                text(StatusCode::OK, "text/html; charset=utf-8", page)
            }
            "/static/style.css" => text(StatusCode::OK, "text/css", page::STYLE),
            "/api/v1/products" => json(StatusCode::OK, &json!([{"id": 0, "title": TITLE}])),
            "/api/v1/products/0" => show(self.details(&headers).await),
            "/api/v1/products/0/reviews" => show(self.reviews(&headers).await),
            "/api/v1/products/0/ratings" => show(self.ratings(&headers).await),
            _ => not_found(),
        }
    }
}

/// The user of the session cookie. The sample trusts it, as a sample may: there is nothing to steal.
fn user(headers: &HeaderMap) -> Option<String> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().strip_prefix("session="))
        .find(|user| !user.is_empty())
        .map(str::to_owned)
}

fn login(call: &Call) -> Answer {
    let form = String::from_utf8_lossy(&call.body);
    let user = form.split('&').find_map(|pair| pair.strip_prefix("username=")).unwrap_or_default();
    // The name travels in a cookie and in a header: letters, digits and a few signs, the rest is dropped.
    let user: String =
        user.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.@".contains(*c)).take(64).collect();
    back(Some(format!("session={user}; Path=/; HttpOnly; SameSite=Lax")))
}

fn back(cookie: Option<String>) -> Answer {
    let mut answer = text(StatusCode::FOUND, "text/plain", "");
    answer.headers_mut().insert(header::LOCATION, HeaderValue::from_static("/productpage"));
    if let Some(value) = cookie.and_then(|c| HeaderValue::from_str(&c).ok()) {
        answer.headers_mut().insert(header::SET_COOKIE, value);
    }
    answer
}
