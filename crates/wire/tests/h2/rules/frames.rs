//! The beginning of a connection, and the size and shape of frames (§3.4, §4, §6).

use super::*;

#[test]
fn preface_and_first_frame() {
    // §3.4, bad-inputs N-20.
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
        &[&PREFACE[..], &frame(PING, 0, 0, [0; 8])].concat(),
        &[&PREFACE[..], &frame(SETTINGS, ACK, 0, [])].concat(),
        &[&PREFACE[..], &get(1, &[])].concat(),
    ] {
        let mut end = End::raw_server(Config::default());
        assert_eq!(end.events(bytes), ["closed PROTOCOL_ERROR"], "{}", bytes.escape_ascii());
    }
    let mut client = End::raw_client(Config::default());
    assert_eq!(client.events(&frame(PING, 0, 0, [0; 8])), ["closed PROTOCOL_ERROR"]);
    let mut client = End::raw_client(Config::default());
    assert_eq!(client.events(b"HTTP/1.1 400 Bad Request\r\n\r\n"), ["closed PROTOCOL_ERROR"]);
}

#[test]
fn frame_sizes() {
    let stream = post(1, &[]);
    for (rule, bytes, answer) in [
        (
            "§4.2 larger than SETTINGS_MAX_FRAME_SIZE",
            frame(DATA, 0, 1, [0; 16_385]),
            Connection("FRAME_SIZE_ERROR"),
        ),
        ("§4.2 HEADERS too large", frame(HEADERS, 4, 3, [0; 16_385]), Connection("FRAME_SIZE_ERROR")),
        ("§6.3 PRIORITY of 4", frame(PRIORITY, 0, 1, [0; 4]), Stream("FRAME_SIZE_ERROR")),
        ("§6.4 RST_STREAM of 3", frame(RST_STREAM, 0, 1, [0; 3]), Connection("FRAME_SIZE_ERROR")),
        ("§6.4 RST_STREAM of 5", frame(RST_STREAM, 0, 1, [0; 5]), Connection("FRAME_SIZE_ERROR")),
        ("§6.5 SETTINGS of 5", frame(SETTINGS, 0, 0, [0; 5]), Connection("FRAME_SIZE_ERROR")),
        ("§6.5 SETTINGS ACK of 6", frame(SETTINGS, ACK, 0, [0; 6]), Connection("FRAME_SIZE_ERROR")),
        ("§6.7 PING of 7", frame(PING, 0, 0, [0; 7]), Connection("FRAME_SIZE_ERROR")),
        ("§6.7 PING of 9", frame(PING, 0, 0, [0; 9]), Connection("FRAME_SIZE_ERROR")),
        ("§6.8 GOAWAY of 7", frame(GOAWAY, 0, 0, [0; 7]), Connection("FRAME_SIZE_ERROR")),
        ("§6.9 WINDOW_UPDATE of 3", frame(WINDOW_UPDATE, 0, 1, [0; 3]), Connection("FRAME_SIZE_ERROR")),
        ("§6.9 WINDOW_UPDATE of 5", frame(WINDOW_UPDATE, 0, 0, [0; 5]), Connection("FRAME_SIZE_ERROR")),
        (
            "§6.1 padding as long as the frame",
            frame(DATA, PADDED, 1, [3, 1, 2]),
            Connection("PROTOCOL_ERROR"),
        ),
        ("§6.1 no room for the padding's length", frame(DATA, PADDED, 1, []), Connection("PROTOCOL_ERROR")),
        (
            "§6.2 padding as long as the frame",
            frame(HEADERS, PADDED | 4, 3, [3, 1, 2]),
            Connection("PROTOCOL_ERROR"),
        ),
        (
            "§6.2 no room for the priority",
            frame(HEADERS, PRIO | 4, 3, [0; 4]),
            Connection("FRAME_SIZE_ERROR"),
        ),
        ("§6.1 padding to the brim", frame(DATA, PADDED, 1, [2, 0, 0]), Fine),
    ] {
        server(rule, &[stream.clone(), bytes].concat(), answer);
    }
}
