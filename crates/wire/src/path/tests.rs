//! Istio's `tests/integration/security/normalization_test.go`: the sampled rows and the generated sweep.

use super::*;
use proptest::prelude::*;

const MODES: [Normalization; 4] = [
    Normalization::NONE,
    Normalization::BASE,
    Normalization::MERGE_SLASHES,
    Normalization::DECODE_AND_MERGE_SLASHES,
];

fn path_of(target: &str, how: Normalization) -> Result<String, Reject> {
    canonicalize(target.as_bytes(), how)
        .map(|canonical| String::from_utf8(canonical.path().to_vec()).unwrap())
}

#[test]
fn istio_modes() {
    for (input, expected) in [
        ("/app#foo", ["/app", "/app", "/app", "/app"]),
        ("/app/../admin", ["/app/../admin", "/admin", "/admin", "/admin"]),
        ("/app//", ["/app//", "/app//", "/app/", "/app/"]),
        ("/app/%2f", ["/app/%2f", "/app/%2f", "/app/%2f", "/app/"]),
        ("/xyz%30..//abc", ["/xyz%30..//abc", "/xyz0..//abc", "/xyz0../abc", "/xyz0../abc"]),
        ("/app/%2E./admin", ["/app/%2E./admin", "/admin", "/admin", "/admin"]),
        ("/app/\\/\\/\\admin", ["/app/\\/\\/\\admin", "/app//////admin", "/app/admin", "/app/admin"]),
        (
            "/%2Fapp%5cadmin%5Cabc",
            ["/%2Fapp%5cadmin%5Cabc", "/%2Fapp%5cadmin%5Cabc", "/%2Fapp%5cadmin%5Cabc", "/app/admin/abc"],
        ),
        (
            "/%5Capp%2f%5c%2F%2e%2e%2fadmin%5c\\abc",
            [
                "/%5Capp%2f%5c%2F%2e%2e%2fadmin%5c\\abc",
                "/%5Capp%2f%5c%2F..%2fadmin%5c/abc",
                "/%5Capp%2f%5c%2F..%2fadmin%5c/abc",
                "/app/admin/abc",
            ],
        ),
        ("/app//../../admin", ["/app//../../admin", "/admin", "/admin", "/admin"]),
    ] {
        for (mode, expected) in MODES.into_iter().zip(expected) {
            assert_eq!(path_of(input, mode).unwrap(), expected, "{input} in {mode:?}");
        }
    }
    assert_eq!(path_of("/%c0%2fadmin", Normalization::DECODE_AND_MERGE_SLASHES).unwrap(), "/%c0/admin");
}

#[test]
fn what_no_mode_changes() {
    // bad-inputs P-10: never decoded twice; parameters are part of their segment.
    for path in [
        "/%252e%252e/admin",
        "/%c0%ae%c0%ae/admin",
        "/admin;a=b",
        "/admin;/x",
        "/...;/admin",
        "/a..;/admin",
        "/a/;../admin",
        "/..%3b/admin",
        "/[a]/!$&'()*+,=:@~",
        "/Admin",
        "/.../admin",
        "/%2561dmin",
        "/%u0061dmin",
        "/..%c0%af",
        "/a%0d%0aX:%20y",
        "/admin%3Fx",
    ] {
        for mode in MODES {
            assert_eq!(path_of(path, mode).unwrap(), path, "{mode:?}");
        }
    }
}

#[test]
fn as_envoy() {
    // Measured with Envoy 1.40: base, and with slashes decoded and merged.
    for (input, base, decoded) in [
        ("/a/..;/b", "/b", "/b"),
        ("/..;/admin", "/admin", "/admin"),
        ("/a/.;/b", "/a/b", "/a/b"),
        ("/a/..;x=1;y/b", "/b", "/b"),
        ("/a/..;", "/", "/"),
        ("/a/.;x", "/a/", "/a/"),
        ("/a/b;/../c", "/a/c", "/a/c"),
        (r"/a/..\b", "/b", "/b"),
        (r"/a/..;\b", "/", "/"),
        ("/a/..;%2fb", "/", "/b"),
        (r"/a\b\..\c", "/a/c", "/a/c"),
        ("/%25%32e", "/%252e", "/%252e"),
        ("/a/%2e%2e%2fb", "/a/..%2fb", "/b"),
        ("/a%5c..%5cb", "/a%5c..%5cb", "/b"),
        ("/a/..%5cb", "/a/..%5cb", "/b"),
        ("//..//b", "//b", "/b"),
        (r"/\a", "//a", "/a"),
        ("/a|%7c", "/a%7C%7c", "/a%7C%7c"),
        (r#"/"<>^`{|}"#, "/%22%3C%3E%5E%60%7B%7C%7D", "/%22%3C%3E%5E%60%7B%7C%7D"),
    ] {
        assert_eq!(path_of(input, Normalization::BASE).unwrap(), base, "{input}");
        assert_eq!(path_of(input, Normalization::DECODE_AND_MERGE_SLASHES).unwrap(), decoded, "{input}");
        assert_eq!(path_of(input, Normalization::NONE).unwrap(), input);
    }
    let query = canonicalize(br#"/a?b"c^|\../%2e"#, Normalization::BASE).unwrap();
    assert_eq!(&*query.target, br#"/a?b"c^|\../%2e"#);
    // Slashes alone.
    let slashes = Normalization { normalize: false, ..Normalization::DECODE_AND_MERGE_SLASHES };
    let slashes = Normalization { merge_slashes: false, ..slashes };
    assert_eq!(path_of("/a%5c..%5cb%2f|", slashes).unwrap(), r"/a\..\b/|");
}

#[test]
fn sweep_of_every_escape() {
    for byte in 1..=255u8 {
        for input in [format!("/admin%{byte:02x}"), format!("/admin%{byte:02X}")] {
            let decoded = path_of(&input, Normalization::DECODE_AND_MERGE_SLASHES).unwrap();
            let plain = byte.is_ascii_alphanumeric() || b"-./\\_~".contains(&byte);
            let expected = match byte {
                b'\\' => "/admin/".into(),
                _ if plain => format!("/admin{}", byte as char),
                _ => input.clone(),
            };
            assert_eq!(decoded, expected);
        }
    }
}

#[test]
fn refusals() {
    // bad-inputs P-09, P-11.
    for path in
        ["/admin%00", "/%00admin", "/%", "/%2", "/%zz", "/a%u00", "/a/%2e%2e;/b", r"/a\..;/b", "/a/.%2e;x"]
    {
        for mode in MODES.into_iter().skip(1) {
            let reject = path_of(path, mode).unwrap_err();
            assert_eq!((reject.status, reject.details), (400, "path_normalization_failed"), "{path}");
        }
        assert_eq!(path_of(path, Normalization::NONE).unwrap(), path);
    }
}

#[test]
fn escaped_slashes() {
    // bad-inputs P-04.
    let with = |escaped_slashes| Normalization { escaped_slashes, ..Normalization::BASE };
    assert_eq!(path_of("/public%2F..%2Fadmin", with(EscapedSlashes::Reject)).unwrap_err().status, 400);
    let redirect = with(EscapedSlashes::UnescapeAndRedirect);
    let canonical = canonicalize(b"/public%2F..%2Fadmin?x=%2F", redirect).unwrap();
    assert!(canonical.redirect);
    assert_eq!(&*canonical.target, b"/admin?x=%2F");
    assert!(!canonicalize(b"/public/../admin", redirect).unwrap().redirect);
}

#[test]
fn queries_and_fragments() {
    for (input, path, query) in [
        ("/public?/../admin", "/public", Some("/../admin")),
        ("/public#/../admin", "/public", None),
        ("/a/../b?c#d?e", "/b", Some("c")),
        ("/a?", "/a", Some("")),
        ("/app/..", "/", None),
        ("/app/.", "/app/", None),
        ("/..", "/", None),
        ("/", "/", None),
        ("*", "*", None),
        ("", "", None),
    ] {
        let canonical = canonicalize(input.as_bytes(), Normalization::BASE).unwrap();
        assert_eq!(canonical.path(), path.as_bytes(), "{input}");
        assert_eq!(canonical.query(), query.map(str::as_bytes), "{input}");
    }
    let strict = Normalization { fragment: Fragment::Reject, ..Normalization::NONE };
    assert_eq!(canonicalize(b"/a?b#c", strict).unwrap_err().details, "path_normalization_failed");
    assert!(canonicalize(b"/a?b", strict).is_ok());
    let plain = canonicalize(b"/productpage?u=normal&x=/../%2e#f", Normalization::DECODE_AND_MERGE_SLASHES);
    assert!(matches!(plain.unwrap().target, Cow::Borrowed(b"/productpage?u=normal&x=/../%2e")));
}

proptest! {
    /// A second pass changes nothing, in any mode that does not decode slashes out of `%2F` anew.
    #[test]
    fn idempotent(path in "/[a-b/.%25eEfFcC\\\\;|0-2?#]{0,24}") {
        for mode in MODES {
            if let Ok(once) = canonicalize(path.as_bytes(), mode) {
                let twice = canonicalize(&once.target, mode);
                let twice = twice.map(|twice| twice.target.into_owned());
                // What was `%25` followed by digits stays `%25…`: no step makes a new escape.
                prop_assert_eq!(twice, Ok(once.target.clone().into_owned()));
            }
        }
    }
}
