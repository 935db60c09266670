"""A gRPC server (grpcio, raw bytes for messages) with one method for each kind of call. Prints `PORT n`.

Arguments: the port (default: the kernel's choice), the address.
"""
import concurrent.futures
import os
import sys
import threading

import grpc

SIZE = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
cancelled = set()


def unary(request, context):
    return request


def client_stream(requests, context):
    sizes = [len(r) for r in requests]
    return f"{len(sizes)} {sum(sizes)}".encode()


def server_stream(request, context):
    count, size = map(int, request.split())
    for i in range(count):
        yield bytes([i & 255]) * size


def bidi(requests, context):
    for request in requests:
        yield b"re:" + request


def fail(request, context):
    """Fails before any message: trailers only."""
    context.set_trailing_metadata((("x-why", "asked for"),))
    context.abort(grpc.StatusCode.INVALID_ARGUMENT, "naïve: 100 % wrong")


def fail_late(request, context):
    """Fails after two messages."""
    yield b"one"
    yield b"two"
    context.abort(grpc.StatusCode.DATA_LOSS, "after two")


def metadata(request, context):
    """What the client sent comes back in both kinds of metadata."""
    sent = [(k, v) for k, v in context.invocation_metadata() if k.startswith("x-test")]
    context.send_initial_metadata([(k.replace("x-test", "x-first"), v) for k, v in sent])
    context.set_trailing_metadata([(k.replace("x-test", "x-last"), v) for k, v in sent])
    return b"ok"


def wait(request, context):
    """Never answers; `was_cancelled` tells when the call was over."""
    ended(request, context).wait(30)
    return b"late"


def wait_stream(request, context):
    over = ended(request, context)
    yield b"begun"
    over.wait(30)


def ended(request, context):
    over = threading.Event()
    context.add_callback(lambda: (cancelled.add(request), over.set()))
    return over


def was_cancelled(request, context):
    return b"yes" if request in cancelled else b"no"


def time_left(request, context):
    """Seconds to the deadline as the server sees it; `none` without one."""
    left = context.time_remaining()
    return b"none" if left is None or left > 1e6 else f"{left:.3f}".encode()


KINDS = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
    "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
    "Bidi": grpc.stream_stream_rpc_method_handler(bidi),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
    "FailLate": grpc.unary_stream_rpc_method_handler(fail_late),
    "Metadata": grpc.unary_unary_rpc_method_handler(metadata),
    "Wait": grpc.unary_unary_rpc_method_handler(wait),
    "WaitStream": grpc.unary_stream_rpc_method_handler(wait_stream),
    "WasCancelled": grpc.unary_unary_rpc_method_handler(was_cancelled),
    "TimeLeft": grpc.unary_unary_rpc_method_handler(time_left),
}


def main():
    port = sys.argv[1] if len(sys.argv) > 1 else "0"
    address = sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1"
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(64), options=SIZE)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Kinds", KINDS)])
    print("PORT", server.add_insecure_port(f"{address}:{port}"), flush=True)
    server.start()
    if os.environ.get("TETHERED"):
        sys.stdin.read()
        os._exit(0)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
