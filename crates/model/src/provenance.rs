//! Which configuration object a compiled thing comes from.
use std::sync::Arc;

use serde::Serialize;

use crate::proto;

/// `metadata.filter_metadata["istio"]["config"]` and `["filamesh"]["config"]` (and its `file`, `line`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Provenance {
    /// Istio's form: `/apis/networking.istio.io/v1/namespaces/NS/virtual-service/NAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub istio: Option<Arc<str>>,
    /// Ours: `file.yaml:12 VirtualService ns/name http[1]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filamesh: Option<Arc<str>>,
}

impl Provenance {
    pub(crate) fn of(metadata: Option<&xds::core::Metadata>) -> Self {
        let config = |filter: &str| {
            let fields = &metadata?.filter_metadata.get(filter)?.fields;
            proto::string_value(fields.get("config")?).map(Arc::from)
        };
        Provenance { istio: config("istio"), filamesh: config("filamesh") }
    }
}
