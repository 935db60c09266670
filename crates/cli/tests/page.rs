//! The page as a person's browser shows it.
mod common;

use std::process::Command;

use common::{Running, have};

#[test]
#[ignore = "end to end: run by ./test on the release build"]
fn a_browser_shows_the_page() {
    if !have("chromium", "the page in a browser") {
        return;
    }
    let mesh = Running::start(&["demo", "--no-load"]);
    let profile = tempfile::tempdir().unwrap();
    let picture = profile.path().join("page.png");
    let chromium = |what: &str| {
        Command::new("chromium")
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .args([what, mesh.text("/page")])
            .output()
            .unwrap()
    };
    let dom = String::from_utf8(chromium("--dump-dom").stdout).unwrap();
    for words in
        ["Simple Bookstore App", "Book Details", "William Shakespeare", "Reviews served by", "Sign in"]
    {
        assert!(dom.contains(words), "{words} is on the page: {dom}");
    }
    chromium(&format!("--screenshot={}", picture.display()));
    let size = std::fs::metadata(&picture).unwrap().len();
    assert!(size > 20_000, "a picture of an empty page is smaller than {size} bytes");
}
