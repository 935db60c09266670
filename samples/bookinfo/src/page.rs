//! The HTML. Scripts look for the title, the star elements' id and the error texts: keep them.
use std::fmt::Write;

use http::StatusCode;
use serde_json::Value;

/// What a service said, or the status and words the page shows instead.
pub type Part = Result<Value, (StatusCode, String)>;

pub const STYLE: &str = include_str!("../static/style.css");

pub fn index() -> String {
    document(
        "<main class=\"narrow\"><h1>Bookinfo</h1><p>A small bookstore made of four services: \
        productpage, details, reviews and ratings.</p>\
        <p><a class=\"button\" href=\"/productpage\">Open the product page</a></p></main>",
    )
}

pub fn product(title: &str, user: Option<&str>, details: &Part, reviews: &Part) -> String {
    let mut body = String::with_capacity(8192);
    let account = match user {
        Some(user) => format!(
            "<span class=\"user\">{}</span><a class=\"button quiet\" href=\"/logout\">Sign out</a>",
            escape(user)
        ),
        None => "<form action=\"/login\" method=\"post\"><input name=\"username\" placeholder=\"user, e.g. jason\" \
                 aria-label=\"user\" autocomplete=\"off\" required><button>Sign in</button></form>"
            .to_owned(),
    };
    let _ = write!(
        body,
        "<header><a class=\"brand\" href=\"/productpage\">Bookinfo</a><nav>{account}</nav></header>\
         <main><section class=\"book\"><div class=\"cover\" aria-hidden=\"true\"><span>{title}</span></div>\
         <div><h1>{title}</h1><p class=\"lead\">Two masters and two servants, alike as twins can be, meet in one town: \
         one of Shakespeare's earliest and shortest comedies.</p>{}</div></section>{}</main>\
         <footer>productpage asks details and reviews; reviews v2 and v3 ask ratings. \
         Reload to see which version answers.</footer>",
        book(details),
        opinions(reviews)
    );
    document(&body)
}

fn book(details: &Part) -> String {
    let details = match details {
        Ok(details) => details,
        Err((_, words)) => {
            return format!(
                "<div class=\"error\"><h4>Error fetching product details!</h4><p>{words}</p></div>"
            );
        }
    };
    let rows = [
        ("Author", "author"),
        ("Year", "year"),
        ("Type", "type"),
        ("Pages", "pages"),
        ("Publisher", "publisher"),
        ("Language", "language"),
        ("ISBN-10", "ISBN-10"),
        ("ISBN-13", "ISBN-13"),
    ];
    let mut html = String::from("<h4>Book Details</h4><dl>");
    for (label, key) in rows {
        let value = match &details[key] {
            Value::String(text) => escape(text),
            Value::Null => "-".to_owned(),
            other => escape(&other.to_string()),
        };
        let _ = write!(html, "<dt>{label}</dt><dd>{value}</dd>");
    }
    html + "</dl>"
}

fn opinions(reviews: &Part) -> String {
    let reviews = match reviews {
        Ok(reviews) => reviews,
        Err((_, words)) => {
            return format!(
                "<section class=\"error\"><h4>Error fetching product reviews!</h4><p>{words}</p></section>"
            );
        }
    };
    let mut html = String::from("<section class=\"reviews\"><h4>Book Reviews</h4>");
    for review in reviews["reviews"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let _ = write!(
            html,
            "<blockquote><p>{}</p><footer>{}{}</footer></blockquote>",
            escape(review["text"].as_str().unwrap_or_default()),
            escape(review["reviewer"].as_str().unwrap_or_default()),
            rating(&review["rating"])
        );
    }
    let served = escape(reviews["podname"].as_str().unwrap_or("unknown"));
    let _ = write!(html, "<p class=\"served\">Reviews served by: <u>{served}</u></p>");
    html + "</section>"
}

fn rating(rating: &Value) -> String {
    if let Some(words) = rating["error"].as_str() {
        return format!("<i class=\"unrated\">{}</i>", escape(words));
    }
    let Some(stars) = rating["stars"].as_i64() else { return String::new() };
    let color = if rating["color"] == "red" { "red" } else { "black" };
    let mut html = format!("<span class=\"stars {color}\" title=\"{stars} of 5\">");
    for place in 1..=5 {
        // The id is what Istio's own task scripts count, however many elements carry it.
        html += if place <= stars {
            "<span id=\"glyphicon glyphicon-star\" class=\"glyphicon glyphicon-star\">\u{2605}</span>"
        } else {
            "<span class=\"glyphicon glyphicon-star-empty\">\u{2606}</span>"
        };
    }
    html + "</span>"
}

fn document(body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Simple Bookstore App</title>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <link rel=\"stylesheet\" href=\"/static/style.css\"></head><body>{body}</body></html>"
    )
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            c => out.push(c),
        }
    }
    out
}
