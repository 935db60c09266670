"""grpcio's client against grpc_server.py."""
import queue
import time

import grpc

from cases import case, main, pattern, same, until

SIZE = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
# A subchannel pool of its own: each case has connections of its own.
OPTIONS = SIZE + [("grpc.use_local_subchannel_pool", 1)]
PATIENCE = 15


def channel(path):
    return grpc.insecure_channel(path["url"].removeprefix("http://"), options=OPTIONS)


def method(name):
    return f"/test.Kinds/{name}"


def refused(call, code):
    """The error of a call that must fail so."""
    try:
        call()
    except grpc.RpcError as error:
        same(error.code(), code, error.details())
        return error
    raise AssertionError(f"no error, {code} expected")


@case("unary, also empty and 8 MiB")
def unary(path):
    with channel(path) as c:
        ask = c.unary_unary(method("Unary"))
        for size in (0, 1, 16_384, 65_536, 1_000_003, 8 * 1024 * 1024):
            message = pattern(1009) * (size // 1009 + 1)
            same(ask(message[:size], timeout=PATIENCE), message[:size], f"{size} bytes")


@case("client streaming")
def client_streaming(path):
    with channel(path) as c:
        ask = c.stream_unary(method("ClientStream"))
        same(ask(iter([]), timeout=PATIENCE), b"0 0")
        same(ask((b"x" * 1000 for _ in range(500)), timeout=PATIENCE), b"500 500000")


@case("server streaming")
def server_streaming(path):
    with channel(path) as c:
        ask = c.unary_stream(method("ServerStream"))
        same(list(ask(b"0 0", timeout=PATIENCE)), [])
        same(list(ask(b"300 5000", timeout=PATIENCE)), [bytes([i & 255]) * 5000 for i in range(300)])


@case("server streaming, read slowly")
def slowly(path):
    with channel(path) as c:
        total = 0
        for i, message in enumerate(c.unary_stream(method("ServerStream"))(b"64 65536", timeout=PATIENCE)):
            total += len(message)
            if i % 8 == 0:
                time.sleep(0.01)
        same(total, 64 * 65536)


@case("bidirectional: strictly in turns")
def bidirectional(path):
    with channel(path) as c:
        outgoing = queue.Queue()
        call = c.stream_stream(method("Bidi"))(iter(outgoing.get, None), timeout=PATIENCE)
        for turn in range(100):
            outgoing.put(b"%d" % turn)
            same(next(call), b"re:%d" % turn)
        outgoing.put(None)
        same(list(call), [])
        same(call.code(), grpc.StatusCode.OK)


@case("metadata, also binary, in both directions")
def metadata(path):
    sent = [("x-test-a", "one"), ("x-test-b", "with, comma"), ("x-test-c-bin", bytes(range(256))), ("x-test-d", "1"),
            ("x-test-d", "2")]
    with channel(path) as c:
        answer, call = c.unary_unary(method("Metadata")).with_call(b"", metadata=sent, timeout=PATIENCE)
        same(answer, b"ok")
        for prefix, received in (("x-first", call.initial_metadata()), ("x-last", call.trailing_metadata())):
            found = [(k, v) for k, v in received if k.startswith(prefix)]
            same(sorted(found), sorted((k.replace("x-test", prefix), v) for k, v in sent), prefix)


@case("errors: trailers only, after messages, of an unknown method")
def errors(path):
    with channel(path) as c:
        ask = c.unary_unary(method("Fail"))
        error = refused(lambda: ask(b"", timeout=PATIENCE), grpc.StatusCode.INVALID_ARGUMENT)
        same(error.details(), "naïve: 100 % wrong")
        same(dict(error.trailing_metadata()).get("x-why"), "asked for")
        got = []
        ask = c.unary_stream(method("FailLate"))
        error = refused(lambda: got.extend(ask(b"", timeout=PATIENCE)), grpc.StatusCode.DATA_LOSS)
        same(error.details(), "after two")
        ask = c.unary_unary(method("NoSuchMethod"))
        refused(lambda: ask(b"", timeout=PATIENCE), grpc.StatusCode.UNIMPLEMENTED)


@case("deadlines: the server is told, and the call is ended")
def deadlines(path):
    with channel(path) as c:
        # The least of several: gRPC's server tells it by two clocks that it reads one after the other, now and then
        # some milliseconds apart. A proxy that gives time away gives it to each call.
        left = min(float(c.unary_unary(method("TimeLeft"))(b"", timeout=5)) for _ in range(5))
        assert 3 < left <= 5, left
        same(c.unary_unary(method("TimeLeft"))(b""), b"none")
        given = f"deadline {path['name']}".encode()
        began = time.monotonic()
        ask = c.unary_unary(method("Wait"))
        refused(lambda: ask(given, timeout=0.3), grpc.StatusCode.DEADLINE_EXCEEDED)
        assert time.monotonic() - began < 2
        was = c.unary_unary(method("WasCancelled"))
        until("the server is told", lambda: was(given, timeout=PATIENCE) == b"yes")


@case("cancelling reaches the server, and nothing else is hurt")
def cancelling(path):
    with channel(path) as c:
        given = f"cancel {path['name']}".encode()
        other = c.unary_stream(method("WaitStream"))(b"other", timeout=PATIENCE)
        same(next(other), b"begun")
        call = c.unary_stream(method("WaitStream"))(given, timeout=PATIENCE)
        same(next(call), b"begun")
        call.cancel()
        was = c.unary_unary(method("WasCancelled"))
        until("the server is told", lambda: was(given, timeout=PATIENCE) == b"yes")
        same(other.is_active(), True, "the other call goes on")
        other.cancel()


@case("500 calls at once on one connection")
def at_once(path):
    with channel(path) as c:
        ask = c.unary_unary(method("Unary"))
        calls = [ask.future(b"%d" % i, timeout=PATIENCE) for i in range(500)]
        for i, call in enumerate(calls):
            same(call.result(), b"%d" % i)


if __name__ == "__main__":
    main()
