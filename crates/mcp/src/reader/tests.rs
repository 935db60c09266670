use prost::Name as _;
use prost_types::Any;

use super::*;
use crate::resource::Metadata;
use crate::testing::pack;

const RULES: &str = "networking.istio.io/v1/VirtualService";

fn collection(type_url: &str) -> &'static Collection {
    Collection::of(type_url).unwrap()
}

fn name() -> Name {
    Name { namespace: "prod".into(), name: "reviews".into() }
}

/// A resource whose body is this JSON.
fn resource(type_url: &str, spec: &Json) -> Resource {
    let Collection { api_version, kind, .. } = collection(type_url);
    let document =
        json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "reviews"}, "spec": spec});
    Resource::open(&pack(&document).unwrap()).unwrap().1
}

fn with_body(message: &str, value: Vec<u8>) -> Resource {
    let body = Any { type_url: format!("type.googleapis.com/{message}"), value };
    Resource { metadata: None, body: Some(body) }
}

#[test]
fn an_object_is_the_document_a_user_would_have_written() {
    let spec = json!({
        "hosts": ["reviews"],
        "http": [{
            "match": [{"uri": {"prefix": ""}, "headers": {"x": {}}}],
            "timeout": "1.500s",
            "fault": {"delay": {"percentage": {"value": 0.5}, "fixedDelay": "7s"}},
            "retries": {"attempts": 3, "retryIgnorePreviousHosts": false},
            "route": [{"destination": {"host": "reviews", "port": {"number": 80}}, "weight": 100}],
        }],
    });
    let mut sent = resource(RULES, &spec);
    sent.metadata = Some(Metadata {
        name: "prod/reviews".into(),
        create_time: Some(Timestamp { seconds: 1_700_000_000, nanos: 5 }),
        version: "42".into(),
        labels: [("team".to_owned(), "a".to_owned())].into(),
        annotations: [("note".to_owned(), "b".to_owned())].into(),
    });
    assert_eq!(Resource::type_url(), "type.googleapis.com/istio.mcp.v1alpha1.Resource");
    let document = Reader::default().document(collection(RULES), &name(), &sent).unwrap();
    assert_eq!(
        document,
        json!({
            "apiVersion": "networking.istio.io/v1",
            "kind": "VirtualService",
            "metadata": {
                "name": "reviews", "namespace": "prod", "resourceVersion": "42",
                "creationTimestamp": "2023-11-14T22:13:20Z", "labels": {"team": "a"}, "annotations": {"note": "b"},
            },
            "spec": spec,
        })
    );
}

/// What the JSON of proto3 leaves to the reader: enumerations and numbers of 64 bits.
#[test]
fn numbers_are_numbers_and_enumerations_are_names() {
    let rule = "networking.istio.io/v1/DestinationRule";
    let spec = json!({
        "host": "a",
        "trafficPolicy": {
            "tls": {"mode": "ISTIO_MUTUAL"},
            "loadBalancer": {"consistentHash": {"useSourceIp": true, "minimumRingSize": 1024}},
            "outlierDetection": {"consecutive5xxErrors": 0},
        },
    });
    let document = Reader::default().document(collection(rule), &name(), &resource(rule, &spec)).unwrap();
    assert_eq!(document["spec"], spec);
}

#[test]
fn an_object_without_a_body_says_nothing() {
    let peers = "security.istio.io/v1/PeerAuthentication";
    let empty = Resource { metadata: None, body: None };
    let document = Reader::default().document(collection(peers), &name(), &empty).unwrap();
    assert_eq!(document["spec"], json!({}));
}

/// Field 99 inside the first route: tag (99 << 3) | 0, value 1.
#[test]
fn what_cannot_be_read_is_refused_in_words() {
    let refusal = |body: Resource| Reader::default().document(collection(RULES), &name(), &body).unwrap_err();
    let unknown = vec![0x1a, 3, 0x98, 0x06, 1];
    assert_eq!(
        refusal(with_body("istio.networking.v1alpha3.VirtualService", unknown)).to_string(),
        "unknown field 99 of istio.networking.v1alpha3.HTTPRoute"
    );
    assert_eq!(
        refusal(with_body("istio.networking.v1alpha3.Gateway", vec![])).to_string(),
        "its body is a \"type.googleapis.com/istio.networking.v1alpha3.Gateway\", expected a \
         istio.networking.v1alpha3.VirtualService"
    );
    let cut = refusal(with_body("istio.networking.v1alpha3.VirtualService", vec![0x0a, 9, b'x']));
    assert!(matches!(cut, BodyError::Decode { .. }), "{cut}");
    // A duration of 400 billion seconds: tag 6 of HTTPRoute, tag 1 of Duration.
    let mut duration = vec![0x1a, 9, 0x32, 7, 0x08];
    duration.extend([0x80, 0xc0, 0xf2, 0x94, 0xd2, 0x0b]);
    let long = refusal(with_body("istio.networking.v1alpha3.VirtualService", duration));
    assert!(matches!(long, BodyError::Json(_)), "{long}");
}

/// Every collection has its message, so that none is refused for want of it.
#[test]
fn every_collection_has_its_message() {
    let reader = Reader::default();
    for collection in crate::COLLECTIONS {
        assert!(reader.descriptors().get_message_by_name(collection.message).is_some(), "{collection:?}");
    }
}
