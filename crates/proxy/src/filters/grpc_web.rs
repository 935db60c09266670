//! gRPC-Web as a filter: where it stands in the chain a request becomes gRPC, head and body.

use std::borrow::Cow;

use telemetry::Flags;

use crate::exchange::Exchange;
use crate::filters::grpc_web_bodies::NOT_BASE64;
use crate::filters::step::{FilterReply, Step};
use crate::request::chain::HttpChain;
use crate::worker::Worker;

impl Worker {
    /// `body` becomes what the host is to get of it.
    pub(crate) fn grpc_web_in(
        &mut self,
        http: &HttpChain,
        exchange: &mut Exchange,
        body: &mut Cow<'_, [u8]>,
    ) -> Step {
        // A filter before this one may have waited: then all that came is kept, as it came.
        let kept = std::mem::take(&mut exchange.replay);
        let came = if kept.is_empty() { &**body } else { &kept };
        match self.begin_web(exchange, http, came) {
            Ok(None) => exchange.replay = kept,
            Ok(Some(decoded)) if kept.is_empty() => *body = Cow::Owned(decoded),
            Ok(Some(decoded)) => exchange.replay = decoded,
            Err(bad) => {
                return Step::Reply(FilterReply {
                    status: 400,
                    body: NOT_BASE64,
                    headers: vec![],
                    flags: Flags::NONE,
                    details: bad.details(),
                });
            }
        }
        exchange.edit_web_request();
        Step::Next
    }
}
