//! Which configuration object a compiled thing comes from.
use std::sync::Arc;

use serde::Serialize;

use crate::proto;

/// `metadata.filter_metadata["istio"]["config"]` and `["filamesh"]["rule"]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Provenance {
    /// Istio's form: `/apis/networking.istio.io/v1/namespaces/NS/virtual-service/NAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub istio: Option<Arc<str>>,
    /// The path within that object: `spec.http[1].match[0]`. The control plane knows the file and line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<Arc<str>>,
}

impl Provenance {
    pub(crate) fn of(metadata: Option<&xds::core::Metadata>) -> Self {
        let text = |filter: &str, key: &str| {
            let fields = &metadata?.filter_metadata.get(filter)?.fields;
            proto::string_value(fields.get(key)?).map(Arc::from)
        };
        Provenance { istio: text("istio", "config"), rule: text("filamesh", "rule") }
    }
}
