//! The named fallback where user namespaces are forbidden: asking the application, by environment
//! variables, to use a proxy. It captures only clients that honour them, and only HTTP; that is why
//! it is a fallback and has to be said.

use std::ffi::OsString;
use std::net::SocketAddr;

/// The variables that point an application at the explicit proxy listening on `proxy`.
///
/// Both spellings are set because curl reads only the lower-case `http_proxy` (the upper-case one
/// could come from a CGI request header) while others read only the upper-case one. HTTPS is left
/// alone unless `tunnel` says that the listener accepts CONNECT. `direct` are host names, addresses
/// or `.suffixes` to reach without the proxy, added to the loopback ones.
pub fn variables(proxy: SocketAddr, tunnel: bool, direct: &[String]) -> Vec<(OsString, OsString)> {
    let url = format!("http://{proxy}");
    let mut not_proxied = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    not_proxied.extend(direct.iter().cloned());
    let not_proxied = not_proxied.join(",");

    let mut out: Vec<(OsString, OsString)> = Vec::new();
    let mut set = |name: &str, value: &str| {
        out.push((name.to_ascii_lowercase().into(), value.into()));
        out.push((name.to_ascii_uppercase().into(), value.into()));
    };
    set("http_proxy", &url);
    if tunnel {
        set("https_proxy", &url);
    }
    set("no_proxy", &not_proxied);
    // Node 24 and later honour the variables above only when told to.
    out.push(("NODE_USE_ENV_PROXY".into(), "1".into()));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_and_loopback_exempt() {
        let found = variables("127.77.1.2:15080".parse().unwrap(), false, &[".internal".into()]);
        let value =
            |name: &str| found.iter().find(|(n, _)| n == name).map(|(_, v)| v.to_str().unwrap().to_owned());
        assert_eq!(value("http_proxy").unwrap(), "http://127.77.1.2:15080");
        assert_eq!(value("HTTP_PROXY"), value("http_proxy"));
        assert_eq!(value("no_proxy").unwrap(), "localhost,127.0.0.1,::1,.internal");
        assert_eq!(value("https_proxy"), None);
        assert!(
            variables("[::1]:1".parse().unwrap(), true, &[])
                .iter()
                .any(|(n, v)| { n == "HTTPS_PROXY" && v == "http://[::1]:1" })
        );
    }
}
