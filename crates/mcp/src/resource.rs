//! The envelope of one object (istio/api `mcp/v1alpha1/resource.proto`, `metadata.proto`).

use std::collections::BTreeMap;
use std::fmt;

use prost::{Message, Name as _};
use prost_types::{Any, Timestamp};

/// An object as it is sent.
#[derive(Clone, PartialEq, Message)]
pub struct Resource {
    #[prost(message, optional, tag = "1")]
    pub metadata: Option<Metadata>,
    /// The kind's message; absent: an object that says nothing.
    #[prost(message, optional, tag = "2")]
    pub body: Option<Any>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Metadata {
    /// `namespace/name`
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub create_time: Option<Timestamp>,
    /// Kubernetes' resource version, or the server's own.
    #[prost(string, tag = "3")]
    pub version: String,
    #[prost(btree_map = "string, string", tag = "4")]
    pub labels: BTreeMap<String, String>,
    #[prost(btree_map = "string, string", tag = "5")]
    pub annotations: BTreeMap<String, String>,
}

impl prost::Name for Resource {
    const NAME: &'static str = "Resource";
    const PACKAGE: &'static str = "istio.mcp.v1alpha1";

    fn type_url() -> String {
        format!("type.googleapis.com/{}", Self::full_name())
    }
}

/// Who an object is within its collection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    pub namespace: String,
    pub name: String,
}

impl fmt::Display for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.namespace, self.name)
    }
}

/// Why it cannot be told which object a resource is. Nothing can be said then of what the collection holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    #[error("a resource is a {0:?}, expected an istio.mcp.v1alpha1.Resource")]
    Type(String),
    #[error("a resource does not decode: {0}")]
    Decode(String),
    #[error("a resource is named {0:?}, expected NAMESPACE/NAME")]
    Name(String),
}

impl Resource {
    /// Takes it out of its `Any`, with its name: two parts and a slash, as Istio's own client wants it.
    pub fn open(any: &Any) -> Result<(Name, Self), EnvelopeError> {
        if any.type_url.rsplit('/').next() != Some(Self::full_name().as_str()) {
            return Err(EnvelopeError::Type(any.type_url.clone()));
        }
        let resource =
            Self::decode(any.value.as_slice()).map_err(|e| EnvelopeError::Decode(e.to_string()))?;
        let written = resource.metadata.as_ref().map_or("", |metadata| metadata.name.as_str());
        match written.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
                let name = Name { namespace: namespace.to_owned(), name: name.to_owned() };
                Ok((name, resource))
            }
            _ => Err(EnvelopeError::Name(written.to_owned())),
        }
    }

    /// The version its server gave it; empty if none.
    pub fn version(&self) -> &str {
        self.metadata.as_ref().map_or("", |metadata| metadata.version.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Any {
        let metadata = Metadata { name: name.into(), version: "7".into(), ..Default::default() };
        let resource = Resource { metadata: Some(metadata), body: None };
        Any { type_url: Resource::type_url(), value: resource.encode_to_vec() }
    }

    #[test]
    fn an_object_is_named_by_namespace_and_name() {
        let (name, resource) = Resource::open(&named("prod/reviews")).unwrap();
        assert_eq!((name.to_string().as_str(), resource.version()), ("prod/reviews", "7"));
        for wrong in ["", "reviews", "/reviews", "prod/", "a/b/c"] {
            let error = Resource::open(&named(wrong)).unwrap_err();
            assert_eq!(error, EnvelopeError::Name(wrong.to_owned()));
        }
        assert!(matches!(
            Resource::open(&Any { value: vec![0x0a, 0xff], ..named("a/b") }),
            Err(EnvelopeError::Decode(_))
        ));
        let other = "type.googleapis.com/envoy.config.cluster.v3.Cluster".to_owned();
        let error = Resource::open(&Any { type_url: other.clone(), ..named("a/b") }).unwrap_err();
        assert_eq!(error, EnvelopeError::Type(other));
    }
}
