//! Flow control as the receiver (§6.9).

use super::*;

#[test]
fn windows_of_this_side() {
    // §6.9.1: one byte more than the stream's window.
    let mut end = End::server(Config { stream_window: 100, ..Config::default() });
    end.consume = false;
    end.feed(&post(1, &[])).unwrap();
    end.feed(&frame(DATA, 0, 1, [0; 100])).unwrap();
    assert_eq!(end.said(), Vec::<String>::new());
    end.feed(&frame(DATA, 0, 1, [0; 1])).unwrap();
    assert_eq!(end.said(), ["RST_STREAM 1 FLOW_CONTROL_ERROR"]);
    // What was not consumed of a stream that is gone does not narrow the connection's window for ever.
    let mut end =
        End::server(Config { stream_window: 65_535, connection_window: 65_535, ..Config::default() });
    end.consume = false;
    for at in 0..20 {
        let id = 2 * at + 1;
        end.feed(&post(id, &[])).unwrap();
        for _ in 0..2 {
            end.feed(&frame(DATA, 0, id, [0; 16_384])).unwrap();
        }
        end.feed(&frame(RST_STREAM, 0, id, [0, 0, 0, 8])).unwrap();
    }
    // The connection's own.
    end.feed(&[post(101, &[]), post(103, &[])].concat()).unwrap();
    let mut result = Ok(());
    let mut sent = 0;
    while result.is_ok() {
        sent += 16_384;
        result = end.feed(&frame(DATA, 0, if sent % 32_768 == 0 { 101 } else { 103 }, [0; 16_384]));
    }
    assert!(sent <= 65_535 + 32_768 + 16_384, "{sent}");
    assert!(end.said().last().unwrap().ends_with("FLOW_CONTROL_ERROR"));
    // Consumed is given back, half a window at a time, padding without being asked.
    let mut end = End::server(Config { stream_window: 1000, ..Config::default() });
    end.consume = false;
    end.feed(&[post(1, &[]), frame(DATA, PADDED, 1, [&[99][..], &[7; 499]].concat())].concat()).unwrap();
    let stream = end.stream(1);
    end.connection.consume(stream, 300);
    assert_eq!(end.said(), Vec::<String>::new());
    end.connection.consume(stream, 5000);
    assert_eq!(end.said(), ["WINDOW_UPDATE 1 500"]);
}
