//! What the proxies compared are called, and which of them belong together.

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Contender {
    /// Generator and upstream without anything between: the rig's own bound.
    Direct,
    /// Without an access log, and with Envoy's own counters only.
    Envoy,
    /// With Istio's access log, and the metrics of Istio as far as this build of Envoy can make them.
    EnvoyLog,
    /// Two, with HTTP/2 between them.
    EnvoyMux,
    Nginx,
    Haproxy,
    /// With Istio's access log and Istio's metrics.
    Filamesh,
    FilameshBare,
    /// Two, with all requests over few connections between them. Log and metrics as `Filamesh`.
    FilameshMux,
    /// The prototype that does nothing but the work; for HTTP/1 with a log line and a counter for each request.
    Floor,
    /// Two, with a bare framing between them that is not even HTTP/2.
    FloorMux,
    /// Bytes moved between two sockets, nothing read.
    Relay,
}

impl Contender {
    pub const ALL: [Contender; 12] = [
        Contender::Direct,
        Contender::Envoy,
        Contender::EnvoyLog,
        Contender::EnvoyMux,
        Contender::Nginx,
        Contender::Haproxy,
        Contender::Filamesh,
        Contender::FilameshBare,
        Contender::FilameshMux,
        Contender::Floor,
        Contender::FloorMux,
        Contender::Relay,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Contender::Direct => "direct",
            Contender::Envoy => "envoy",
            Contender::EnvoyLog => "envoy-log",
            Contender::EnvoyMux => "envoy-mux",
            Contender::Nginx => "nginx",
            Contender::Haproxy => "haproxy",
            Contender::Filamesh => "filamesh",
            Contender::FilameshBare => "filamesh-bare",
            Contender::FilameshMux => "filamesh-mux",
            Contender::Floor => "floor",
            Contender::FloorMux => "floor-mux",
            Contender::Relay => "relay",
        }
    }

    /// Whether it is ours: the run has failed without it.
    pub fn ours(self) -> bool {
        matches!(self, Contender::Filamesh | Contender::FilameshBare | Contender::FilameshMux)
    }

    /// The prototype that does the same.
    pub fn floor(self) -> Contender {
        if self.multiplexes() { Contender::FloorMux } else { Contender::Floor }
    }

    /// Whether two of it carry all requests over few connections.
    pub fn multiplexes(self) -> bool {
        matches!(self, Contender::EnvoyMux | Contender::FilameshMux | Contender::FloorMux)
    }
}

impl std::str::FromStr for Contender {
    type Err = String;

    fn from_str(text: &str) -> Result<Contender, String> {
        Contender::ALL.into_iter().find(|contender| contender.name() == text).ok_or_else(|| {
            let known: Vec<&str> = Contender::ALL.iter().map(|contender| contender.name()).collect();
            format!("unknown contender {text:?}; known: {}", known.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for contender in Contender::ALL {
            assert_eq!(contender.name().parse(), Ok(contender));
        }
        assert!("envoi".parse::<Contender>().unwrap_err().contains("haproxy"));
    }
}
