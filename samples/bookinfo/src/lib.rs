//! Bookinfo: the four services of Istio's sample application as one small program.
//!
//! `bookinfo SERVICE [--port 9080] [--listen ADDRESS]` runs one of them. It keeps what scripts and people rely on:
//! ports, paths, the markers in the page, the timeouts, the two tries for reviews and the headers handed on.
//! It knows nothing of the mesh it may run in.
//!
//! | file | service |
//! |---|---|
//! | `productpage.rs`, `page.rs` | the page: calls details and reviews |
//! | `reviews.rs` | v1 without stars, v2 black, v3 red (calls ratings) |
//! | `details.rs`, `ratings.rs` | a document each |

mod call;
mod details;
mod page;
mod productpage;
mod ratings;
mod reviews;
mod serve;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

const USAGE: &str = "usage: bookinfo productpage|details|reviews|ratings [--port PORT] [--listen ADDRESS]

environment, as in Istio's images:
  SERVICE_VERSION   the version told to callers (default v1)
  ENABLE_RATINGS    reviews: true asks ratings for stars (default: v2 and v3 do)
  STAR_COLOR        reviews: black or red (default: v2 black, v3 red)
  DETAILS_HOSTNAME, REVIEWS_HOSTNAME, RATINGS_HOSTNAME, SERVICES_DOMAIN, *_SERVICE_PORT";

/// Runs the service that the arguments name, until the process ends.
pub fn run(arguments: impl IntoIterator<Item = String>) -> anyhow::Result<()> {
    let mut arguments = arguments.into_iter();
    let mut service = None;
    let mut address = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 9080);
    while let Some(argument) = arguments.next() {
        let mut value =
            |name: &str| arguments.next().ok_or_else(|| anyhow::anyhow!("{name} needs a value\n{USAGE}"));
        match argument.as_str() {
            "--port" => address.set_port(value("--port")?.parse()?),
            "--listen" => address.set_ip(value("--listen")?.parse()?),
            name if service.is_none() && !name.starts_with('-') => service = Some(argument),
            other => anyhow::bail!("unexpected argument {other}\n{USAGE}"),
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match service.as_deref() {
            Some("productpage") => serve::serve(address, productpage::ProductPage::from_env()).await,
            Some("details") => serve::serve(address, details::Details).await,
            Some("reviews") => serve::serve(address, reviews::Reviews::from_env()).await,
            Some("ratings") => serve::serve(address, ratings::Ratings).await,
            _ => anyhow::bail!("{USAGE}"),
        }
    })
}
