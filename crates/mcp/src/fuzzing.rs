//! Entry point for fuzzers: any bytes in, no panic.

use std::sync::LazyLock;

use prost::Name as _;
use prost_types::Any;

use crate::{COLLECTIONS, Reader, Resource};

static READER: LazyLock<Reader> = LazyLock::new(Reader::default);

/// The bytes as a resource of every collection: it is a document of that kind and of its name, or it is refused in words.
pub fn resource(data: &[u8]) {
    let any = Any { type_url: Resource::type_url(), value: data.to_vec() };
    let Ok((name, resource)) = Resource::open(&any) else { return };
    assert!(!name.namespace.is_empty() && !name.name.is_empty());
    for collection in COLLECTIONS {
        let mut resource = resource.clone();
        if let Some(body) = &mut resource.body {
            body.type_url = format!("type.googleapis.com/{}", collection.message);
        }
        match READER.document(collection, &name, &resource) {
            Ok(document) => {
                assert_eq!(document["kind"], collection.kind);
                assert_eq!(document["metadata"]["name"], name.name.as_str());
                assert!(document["spec"].is_object());
            }
            Err(refused) => assert!(!refused.to_string().is_empty()),
        }
    }
}
