//! RequestAuthentication: whose tokens are believed.

use std::time::Duration;

use crate::decode::message;
use crate::networking::{PolicySelector, TargetReference};

message! {
    pub struct RequestAuthentication {
        selector: Option<PolicySelector>,
        target_ref: Option<TargetReference>,
        target_refs: Vec<TargetReference>,
        jwt_rules: Vec<JwtRule>,
    }
}

message! {
    pub struct JwtRule {
        issuer: String,
        audiences: Vec<String>,
        jwks_uri: String,
        jwks: String,
        from_headers: Vec<JwtHeader>,
        from_params: Vec<String>,
        from_cookies: Vec<String>,
        output_payload_to_header: String,
        forward_original_token: bool,
        output_claim_to_headers: Vec<ClaimToHeader>,
        space_delimited_claims: Vec<String>,
        timeout: Option<Duration>,
        /// In no schema of Istio 1.32, but its own examples have it and are accepted.
        presence: String,
    }
}

message! {
    pub struct JwtHeader {
        name @required: String,
        prefix: String,
    }
}

message! {
    pub struct ClaimToHeader {
        header @required: String,
        claim @required: String,
    }
}
