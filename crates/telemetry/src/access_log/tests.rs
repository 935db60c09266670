use std::net::SocketAddr;
use std::time::Duration;

use super::*;
use crate::Flags;

/// An exchange made of literals.
#[derive(Default, Clone)]
struct Exchange {
    start: Duration,
    flags: Flags,
    method: Option<&'static str>,
    path: Option<&'static [u8]>,
    authority: Option<&'static str>,
    request: Vec<(&'static str, &'static [u8])>,
    response: Vec<(&'static str, &'static [u8])>,
    trailers: Vec<(&'static str, &'static [u8])>,
    texts: Vec<(TextField, &'static str)>,
    numbers: Vec<(NumberField, u64)>,
    addresses: Vec<(AddressField, &'static str)>,
}

fn find<'a, K: PartialEq + ?Sized, V: Copy + 'a>(rows: &'a [(&'a K, V)], key: &K) -> Option<V> {
    rows.iter().find(|(found, _)| *found == key).map(|(_, value)| *value)
}

fn field<K: PartialEq, V: Copy>(rows: &[(K, V)], key: K) -> Option<V> {
    rows.iter().find(|(found, _)| *found == key).map(|(_, value)| *value)
}

impl LogSource for Exchange {
    fn start_time(&self) -> Duration {
        self.start
    }

    fn flags(&self) -> Flags {
        self.flags
    }

    fn method(&self) -> Option<&[u8]> {
        self.method.map(str::as_bytes)
    }

    fn path(&self) -> Option<&[u8]> {
        self.path
    }

    fn authority(&self) -> Option<&[u8]> {
        self.authority.map(str::as_bytes)
    }

    fn request_header(&self, name: &HeaderName) -> Option<&[u8]> {
        find(&self.request, name.text())
    }

    fn response_header(&self, name: &HeaderName) -> Option<&[u8]> {
        find(&self.response, name.text())
    }

    fn response_trailer(&self, name: &HeaderName) -> Option<&[u8]> {
        find(&self.trailers, name.text())
    }

    fn text(&self, name: TextField) -> Option<&[u8]> {
        field(&self.texts, name).map(str::as_bytes)
    }

    fn number(&self, name: NumberField) -> Option<u64> {
        field(&self.numbers, name)
    }

    fn address(&self, name: AddressField) -> Option<Address<'_>> {
        let text = field(&self.addresses, name)?;
        Some(match text.parse::<SocketAddr>() {
            Ok(address) => Address::Socket(address),
            Err(_) => Address::Named(text.as_bytes()),
        })
    }

    fn dynamic_metadata(&self, namespace: &str, path: &[String]) -> Option<&[u8]> {
        (namespace == "ns" && path == ["a", "b"]).then_some(b"meta data")
    }

    fn filter_state(&self, key: &str) -> Option<&[u8]> {
        (key == "io.istio.peer").then_some(b"state")
    }
}

/// The request of the sample line in the article this project began with.
fn teapot() -> Exchange {
    Exchange {
        start: Duration::new(1_551_864_687, 360_999_999),
        method: Some("GET"),
        path: Some(b"/status/418"),
        authority: Some("httpbin:8000"),
        request: vec![
            ("user-agent", b"curl/7.60.0"),
            ("x-request-id", b"d209e46f-9ed5-9b61-bbdd-43e22662702a"),
        ],
        response: vec![("x-envoy-upstream-service-time", b"2")],
        texts: vec![
            (TextField::Protocol, "HTTP/1.1"),
            (TextField::ResponseCodeDetails, "via_upstream"),
            (TextField::UpstreamCluster, "inbound|8000|http|httpbin.default.svc.cluster.local"),
            (TextField::UpstreamClusterRaw, "inbound|8000|http|httpbin.default.svc.cluster.local"),
            (TextField::RequestedServerName, "outbound_.8000_._.httpbin.default.svc.cluster.local"),
            (TextField::RouteName, "default"),
        ],
        numbers: vec![
            (NumberField::ResponseCode, 418),
            (NumberField::BytesReceived, 0),
            (NumberField::BytesSent, 135),
            (NumberField::Duration, 5),
        ],
        addresses: vec![
            (AddressField::UpstreamHost, "127.0.0.1:80"),
            (AddressField::DownstreamLocal, "172.30.146.73:80"),
            (AddressField::DownstreamRemote, "172.30.146.82:38618"),
        ],
        ..Exchange::default()
    }
}

/// A connection that met no filter chain: nothing is known but its ends.
fn lost_connection() -> Exchange {
    Exchange {
        start: Duration::new(1_551_864_687, 5_000_000),
        flags: Flags::NO_ROUTE_FOUND,
        texts: vec![(TextField::ResponseCodeDetails, "filter chain not found")],
        numbers: vec![(NumberField::Duration, 0)],
        addresses: vec![
            (AddressField::DownstreamLocal, "[::1]:15006"),
            (AddressField::DownstreamRemote, "[2001:db8::7]:5"),
        ],
        ..Exchange::default()
    }
}

fn line(format: &Format, source: &Exchange) -> String {
    let mut out = Vec::new();
    format.render(source, &mut TimeCache::default(), &mut out);
    String::from_utf8(out).expect("lines are UTF-8")
}

fn rendered(format: &str, source: &Exchange) -> String {
    let format = Format::text(format, &Context::EMPTY).unwrap_or_else(|error| panic!("{format}: {error}"));
    line(&format, source).trim_end_matches('\n').to_owned()
}

#[test]
fn the_legacy_line_of_the_article_comes_out_byte_for_byte() {
    assert_eq!(
        line(&Format::istio_legacy(), &teapot()),
        "[2019-03-06T09:31:27.360Z] \"GET /status/418 HTTP/1.1\" 418 - \"-\" 0 135 5 2 \"-\" \"curl/7.60.0\" \
         \"d209e46f-9ed5-9b61-bbdd-43e22662702a\" \"httpbin:8000\" \"127.0.0.1:80\" \
         inbound|8000|http|httpbin.default.svc.cluster.local - 172.30.146.73:80 172.30.146.82:38618 \
         outbound_.8000_._.httpbin.default.svc.cluster.local\n"
    );
}

/// Istio's `telemetry_logging.go`; the line is the one its documentation shows for this request.
#[test]
fn istios_line_comes_out_byte_for_byte() {
    assert_eq!(
        line(&Format::istio(), &teapot()),
        "[2019-03-06T09:31:27.360Z] \"GET /status/418 HTTP/1.1\" 418 - via_upstream - \"-\" 0 135 5 2 \"-\" \
         \"curl/7.60.0\" \"d209e46f-9ed5-9b61-bbdd-43e22662702a\" \"httpbin:8000\" \"127.0.0.1:80\" \
         inbound|8000|http|httpbin.default.svc.cluster.local - 172.30.146.73:80 172.30.146.82:38618 \
         outbound_.8000_._.httpbin.default.svc.cluster.local default\n"
    );
    assert_eq!(
        line(&Format::istio(), &lost_connection()),
        "[2019-03-06T09:31:27.005Z] \"- - -\" 0 NR filter_chain_not_found - \"-\" 0 0 0 - \"-\" \"-\" \"-\" \"-\" \"-\" - - \
         [::1]:15006 [2001:db8::7]:5 - -\n"
    );
}

#[test]
fn istios_json_keeps_its_order_and_types() {
    assert_eq!(
        line(&Format::istio_json(), &teapot()),
        "{\"start_time\":\"2019-03-06T09:31:27.360Z\",\"route_name\":\"default\",\"method\":\"GET\",\
         \"path\":\"/status/418\",\"protocol\":\"HTTP/1.1\",\"response_code\":418,\"response_flags\":\"-\",\
         \"response_code_details\":\"via_upstream\",\"connection_termination_details\":null,\
         \"bytes_received\":0,\"bytes_sent\":135,\"duration\":5,\"upstream_service_time\":\"2\",\
         \"x_forwarded_for\":null,\"user_agent\":\"curl/7.60.0\",\
         \"request_id\":\"d209e46f-9ed5-9b61-bbdd-43e22662702a\",\"authority\":\"httpbin:8000\",\
         \"upstream_host\":\"127.0.0.1:80\",\
         \"upstream_cluster\":\"inbound|8000|http|httpbin.default.svc.cluster.local\",\
         \"upstream_local_address\":null,\"downstream_local_address\":\"172.30.146.73:80\",\
         \"downstream_remote_address\":\"172.30.146.82:38618\",\
         \"requested_server_name\":\"outbound_.8000_._.httpbin.default.svc.cluster.local\",\
         \"upstream_transport_failure_reason\":null}\n"
    );
}

/// Envoy's access-log documentation, operator by operator.
#[test]
fn operators() {
    let mut source = teapot();
    source.flags = Flags::UPSTREAM_CONNECTION_FAILURE | Flags::UPSTREAM_RETRY_LIMIT_EXCEEDED;
    source.request.push(("x-envoy-original-path", b"/original"));
    source.trailers.push(("grpc-message", b"no"));
    source.texts.push((TextField::UpstreamTransportFailureReason, "TLS error: bad cert"));
    source.texts.push((TextField::ConnectionTerminationDetails, ""));
    source.numbers.push((NumberField::GrpcStatus, 14));
    source.addresses.push((AddressField::UpstreamLocal, "/run/app.sock"));
    source.addresses.push((AddressField::DownstreamDirectRemote, "[::ffff:10.0.0.255]:65535"));
    for (format, expected) in [
        ("", ""),
        ("100%% plain", "100% plain"),
        ("%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%", "/original"),
        ("%REQ(X-MISSING?:PATH)%", "/status/418"),
        ("%REQ(X-MISSING?X-ALSO)%", "-"),
        ("%REQ(:PATH):7%", "/status"),
        ("%REQ(:PATH):0%", ""),
        ("%REQ(:PATH):999%", "/status/418"),
        ("%REQ(host)%", "httpbin:8000"),
        ("%REQ(User-Agent)%%REQ(USER-AGENT)%", "curl/7.60.0curl/7.60.0"),
        ("%RESP(:STATUS)% %RESP(X-Envoy-Upstream-Service-Time)%", "418 2"),
        ("%TRAILER(GRPC-MESSAGE)%", "no"),
        (
            "%RESPONSE_FLAGS% %RESPONSE_FLAGS_LONG%",
            "UF,URX UpstreamConnectionFailure,UpstreamRetryLimitExceeded",
        ),
        ("%UPSTREAM_TRANSPORT_FAILURE_REASON%", "TLS_error:_bad_cert"),
        ("%CONNECTION_TERMINATION_DETAILS%", "-"),
        ("%RESPONSE_CODE_DETAILS(ALLOW_WHITESPACES)%", "via_upstream"),
        (
            "%GRPC_STATUS% %GRPC_STATUS(SNAKE_STRING)% %GRPC_STATUS(NUMBER)% %GRPC_STATUS_NUMBER%",
            "Unavailable UNAVAILABLE 14 14",
        ),
        (
            "%UPSTREAM_LOCAL_ADDRESS% %UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT% %UPSTREAM_LOCAL_PORT%",
            "/run/app.sock /run/app.sock -",
        ),
        ("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_REMOTE_PORT%", "172.30.146.82 38618"),
        (
            "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS% %DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%",
            "[::ffff:10.0.0.255]:65535 ::ffff:10.0.0.255",
        ),
        ("%UPSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_DIRECT_LOCAL_ADDRESS%", "- -"),
        ("%UPSTREAM_REQUEST_ATTEMPT_COUNT% %CONNECTION_ID% %RESPONSE_DURATION%", "0 - -"),
        (
            "%DYNAMIC_METADATA(ns:a:b)% %DYNAMIC_METADATA(ns:a:b):4% %DYNAMIC_METADATA(istio.mixer:status)%",
            "meta data meta -",
        ),
        ("%FILTER_STATE(io.istio.peer)% %FILTER_STATE(io.istio.peer:PLAIN):2%", "state st"),
        ("%START_TIME%", "2019-03-06T09:31:27.360Z"),
        ("%START_TIME(%Y/%m/%dT%H:%M:%S%z)%", "2019/03/06T09:31:27+0000"),
        ("%START_TIME(%s.%3f)% %START_TIME(%6f %9f %f %1f)%", "1551864687.360 360999 360999999 360999999 3"),
        ("%START_TIME(%E3S %E6f %Ez)%", "27.360 360999 +00:00"),
        (
            "%START_TIME(%a %A %b %B %e %j %y %I %p %u %w %D %F %T %R %Z %% (x))%",
            "Wed Wednesday Mar March  6 065 19 09 AM 3 3 03/06/19 2019-03-06 09:31:27 09:31 UTC % (x)",
        ),
        ("%HOSTNAME% %ENVIRONMENT(NOPE)%", "- -"),
    ] {
        assert_eq!(rendered(format, &source), expected, "{format}");
    }
    let context = Context {
        hostname: Some("node\"1"),
        environment: &|name| (name == "POD").then(|| "reviews-v1".to_owned()),
    };
    let format = Format::text("%HOSTNAME%/%ENVIRONMENT(POD):7%", &context).unwrap();
    assert_eq!(line(&format, &source), "node\\\"1/reviews\n");
}

#[test]
fn unknown_and_misused_operators_are_refused_by_name_and_place() {
    for (format, message) in [
        ("ab %NOPE% c", "access log format, byte 3: unknown operator %NOPE%"),
        ("%NOPE(a):3%", "access log format, byte 0: unknown operator %NOPE%"),
        ("%WASM_PORT%", "access log format, byte 0: unknown operator %WASM_PORT%"),
        ("网 %NOPE%", "access log format, byte 4: unknown operator %NOPE%"),
        ("%REQ%", "access log format, byte 0: %REQ% needs a header's name in parentheses"),
        ("%REQ()%", "access log format, byte 0: %REQ% needs a header's name in parentheses"),
        ("%REQ(A?B?C)%", "access log format, byte 0: %REQ% takes at most two headers"),
        ("%REQ(?B)%", "access log format, byte 0: %REQ% names an empty header"),
        ("%RESP(:PATH)%", "access log format, byte 0: %RESP% has no pseudo header \":path\""),
        ("%PROTOCOL(x)%", "access log format, byte 0: %PROTOCOL% takes no argument"),
        ("%DURATION:3%", "access log format, byte 0: %DURATION% takes no length"),
        (
            "%GRPC_STATUS(x)%",
            "access log format, byte 0: %GRPC_STATUS% takes CAMEL_STRING, SNAKE_STRING or NUMBER",
        ),
        ("%FILTER_STATE(a:TYPED)%", "access log format, byte 0: %FILTER_STATE% is shown PLAIN only"),
        (
            "%START_TIME(%Q)%",
            "access log format, byte 0: %START_TIME% has the unknown time conversion \"%Q\"",
        ),
        (
            "%START_TIME(%E0S)%",
            "access log format, byte 0: %START_TIME% has the unknown time conversion \"%E0S\"",
        ),
    ] {
        assert_eq!(Format::text(format, &Context::EMPTY).unwrap_err().to_string(), message, "{format}");
    }
    for format in [
        "%",
        "a % b",
        "%req(a)%",
        "%REQ(a",
        "%REQ(a)",
        "%REQ(a):x%",
        "%REQ(a):%",
        "%REQ(a):99999999999999999999%",
        "%PROTOCOL",
    ] {
        let refused = Format::text(format, &Context::EMPTY);
        assert!(matches!(refused, Err(FormatError::Malformed { .. })), "{format}: {refused:?}");
    }
    let json = JsonTemplate::Object(vec![("code".into(), JsonTemplate::Format("x%CODE%".into()))]);
    assert_eq!(
        Format::json(&json, &Context::EMPTY).unwrap_err().to_string(),
        "access log format, key \"code\": access log format, byte 1: unknown operator %CODE%"
    );
    let deep = (0..40).fold(JsonTemplate::Null, |inner, _| JsonTemplate::List(vec![inner]));
    assert_eq!(Format::json(&deep, &Context::EMPTY), Err(FormatError::TooDeep { limit: 16 }));
}

/// CVE-2024-45808 and its kind: what a client sends cannot end a line, a field or a JSON string.
#[test]
fn hostile_values_stay_inside_their_field() {
    let hostile: &'static [u8] =
        b"a\" 200\n[2019] \"\\x\r\t\x1b[2J\x00\x7f\xff\xc3 \xe7\xbd\x91 \xc2\x85\xe2\x80\xa8";
    let mut source = Exchange { path: Some(hostile), ..teapot() };
    source.texts = vec![(TextField::RequestedServerName, "a b\"\n%|网.x")];
    assert_eq!(
        rendered("\"%REQ(:PATH)%\" %REQUESTED_SERVER_NAME%", &source),
        "\"a\\\" 200\\n[2019] \\\"\\\\x\\r\\t\\x1b[2J\\x00\\x7f\\xff\\xc3 网 \\xc2\\x85\\xe2\\x80\\xa8\" a_b_______.x"
    );
    let json = JsonTemplate::Object(vec![("p\"".into(), JsonTemplate::Format("%REQ(:PATH)%".into()))]);
    assert_eq!(
        line(&Format::json(&json, &Context::EMPTY).unwrap(), &source),
        "{\"p\\\"\":\"a\\\" 200\\n[2019] \\\"\\\\x\\r\\t\\u001b[2J\\u0000\\u007f\u{fffd}\u{fffd} 网 \\u0085\\u2028\"}\n"
    );
}

/// Whoever sends a request decides what it lacks; a log must not lose its line over it, or write another value.
#[test]
fn operators_without_their_subject_print_a_dash() {
    let nothing = Exchange::default();
    for operator in [
        "REQUESTED_SERVER_NAME",
        // HTTP/1.0 without a Host.
        "REQ(:AUTHORITY)",
        "REQ(:METHOD)",
        "REQ(:PATH)",
        "REQ(HOST?:AUTHORITY)",
        "REQ(X):5",
        "RESP(:STATUS)",
        "RESP(X)",
        "TRAILER(GRPC-STATUS)",
        "GRPC_STATUS",
        "PROTOCOL",
        "ROUTE_NAME",
        "UPSTREAM_HOST",
        "UPSTREAM_CLUSTER",
        "UPSTREAM_LOCAL_ADDRESS",
        "UPSTREAM_TRANSPORT_FAILURE_REASON",
        "DOWNSTREAM_LOCAL_ADDRESS",
        "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
        "DOWNSTREAM_LOCAL_PORT",
        "DOWNSTREAM_PEER_URI_SAN",
        "DOWNSTREAM_TLS_VERSION",
        "CONNECTION_TERMINATION_DETAILS",
        "RESPONSE_CODE_DETAILS",
        "DYNAMIC_METADATA(a:b)",
        "FILTER_STATE(a)",
    ] {
        // A length stands behind the parentheses.
        assert_eq!(rendered(&format!("<%{operator}%>"), &nothing), "<->", "{operator}");
    }
    // RFC 6066 §3: an address is no server name.
    for address in ["192.0.2.1", "2001:db8::1"] {
        let source =
            Exchange { texts: vec![(TextField::RequestedServerName, address)], ..Exchange::default() };
        assert_eq!(rendered("%REQUESTED_SERVER_NAME%", &source), "-", "{address}");
    }
}

#[test]
fn lengths_cut_between_characters() {
    let source = Exchange { path: Some("网格é".as_bytes()), ..Exchange::default() };
    for (max, expected) in [
        (0, ""),
        (1, ""),
        (2, ""),
        (3, "网"),
        (5, "网"),
        (6, "网格"),
        (7, "网格"),
        (8, "网格é"),
        (9, "网格é"),
    ] {
        assert_eq!(rendered(&format!("%REQ(:PATH):{max}%"), &source), expected, "{max}");
    }
    // What is no UTF-8 is cut where it was asked.
    let source = Exchange { path: Some(&[0x80; 9]), ..Exchange::default() };
    assert_eq!(rendered("%REQ(:PATH):5%", &source), "\\x80".repeat(5));
}

#[test]
fn json_shapes_and_omitted_values() {
    use JsonTemplate::*;
    let template = Object(vec![
        ("gone".into(), Format("%ROUTE_NAME%".into())),
        ("text".into(), Format("%ROUTE_NAME% took %DURATION% ms".into())),
        ("port".into(), Format("%DOWNSTREAM_REMOTE_PORT%".into())),
        (
            "fixed".into(),
            List(vec![
                Number(1.5),
                Number(f64::INFINITY),
                Bool(true),
                Null,
                Format(String::new()),
                Format("a\"b".into()),
            ]),
        ),
        ("inner".into(), Object(vec![("gone".into(), Format("%REQ(X)%".into()))])),
    ]);
    let mut source = teapot();
    source.texts.clear();
    let format = super::Format::json(&template, &Context::EMPTY).unwrap();
    assert_eq!(
        line(&format, &source),
        "{\"gone\":null,\"text\":\"- took 5 ms\",\"port\":38618,\"fixed\":[1.5,null,true,null,\"\",\"a\\\"b\"],\"inner\":{\"gone\":null}}\n"
    );
    assert_eq!(
        line(&format.omit_empty_values(true), &source),
        "{\"text\":\" took 5 ms\",\"port\":38618,\"fixed\":[1.5,null,true,null,\"\",\"a\\\"b\"],\"inner\":{}}\n"
    );
    let text = super::Format::text("a%ROUTE_NAME%b\n", &Context::EMPTY).unwrap().omit_empty_values(true);
    assert_eq!(line(&text, &source), "ab\n");
}

#[test]
fn the_time_cache_answers_for_every_order_of_seconds() {
    let mut time = TimeCache::default();
    let format = super::Format::text("%START_TIME%", &Context::EMPTY).unwrap();
    for (seconds, expected) in [
        (0, "1970-01-01T00:00:00.000Z"),
        (951_782_400, "2000-02-29T00:00:00.000Z"),
        (4_102_444_799, "2099-12-31T23:59:59.000Z"),
        (951_782_400, "2000-02-29T00:00:00.000Z"),
        (951_782_401, "2000-02-29T00:00:01.000Z"),
        (0, "1970-01-01T00:00:00.000Z"),
        // The calendar's end stands for what lies beyond it.
        (u64::MAX, "9999-12-30T22:00:00.000Z"),
    ] {
        let mut out = Vec::new();
        let source = Exchange { start: Duration::from_secs(seconds), ..Exchange::default() };
        format.render(&source, &mut time, &mut out);
        assert_eq!(String::from_utf8(out).unwrap().trim_end(), expected, "{seconds}");
    }
}

#[test]
fn formats_come_by_name() {
    assert_eq!(Format::named("istio"), Some(Format::istio()));
    assert_eq!(Format::named("istio-json"), Some(Format::istio_json()));
    assert_eq!(Format::named("istio-legacy"), Some(Format::istio_legacy()));
    assert_eq!(Format::named("apache"), None);
    // The constants compile to themselves: a broken one would render nothing.
    for constant in [ISTIO, ISTIO_LEGACY] {
        assert!(Format::text(constant, &Context::EMPTY).is_ok());
    }
}
