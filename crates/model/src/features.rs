//! What of that which configuration may ask of a proxy this data plane does. A proxy says so in its node
//! ([`xds::node::FEATURES`]); what is not here is refused where it is met, and not sent by our control plane.

use xds::node::Feature;

pub const FEATURES: [Feature; 0] = [];
