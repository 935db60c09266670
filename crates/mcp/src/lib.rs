//! Istio's objects as another control plane sends them: MCP over xDS.
//!
//! Holds: which collections there are, the envelope of a resource, and Istio's messages (`proto/`, our own pruned definitions
//! of Istio's public API) as the JSON that users write. Holds not: the stream (`xds`), what an object means (`api`, `control`).
//!
//! A collection is asked for by `group/version/Kind` and answered with all its objects, each an `Any` of
//! `istio.mcp.v1alpha1.Resource` whose body is an `Any` of the kind's message (istio/istio `pkg/adsc/adsc.go`,
//! `pilot/pkg/networking/apigen/apigen.go`; istio/api `mcp/v1alpha1`).
//!
//! | module | what |
//! |---|---|
//! | [`collection`] | the collections that are asked for |
//! | [`resource`] | the envelope: name, version, labels, body |
//! | [`reader`] | a body as JSON; an unknown field is refused by number |
//! | [`testing`] | the other way round: what tests send |

pub mod collection;
#[doc(hidden)]
pub mod fuzzing;
pub mod reader;
pub mod resource;
#[doc(hidden)]
pub mod testing;

pub use collection::{COLLECTIONS, Collection};
pub use reader::{BodyError, Reader};
pub use resource::{EnvelopeError, Metadata, Name, Resource};
