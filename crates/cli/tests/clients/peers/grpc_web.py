"""A gRPC-Web client by hand, as browsers' libraries are, against grpc_server.py behind a proxy that translates."""
import base64
import struct

import httpx

from cases import case, main, pattern, same

PATIENCE = 15
TRAILERS = 0x80


def frame(message):
    return struct.pack(">BI", 0, len(message)) + message


def frames(body):
    """The messages, and the trailers of the last frame."""
    messages, trailers = [], None
    while body:
        flags, length = struct.unpack(">BI", body[:5])
        part, body = body[5:5 + length], body[5 + length:]
        assert len(part) == length, "a frame cut short"
        assert trailers is None, "something after the trailers"
        if flags & TRAILERS:
            lines = part.decode().strip("\r\n").split("\r\n")
            trailers = dict(line.split(":", 1) for line in lines)
            trailers = {name.lower(): value.strip() for name, value in trailers.items()}
        else:
            messages.append(part)
    return messages, trailers


def decoded(text):
    """Base64 of several pieces, each padded by itself, as a server may flush them."""
    out = b""
    for at in range(0, len(text), 4):
        out += base64.b64decode(text[at:at + 4])
    return out


def call(path, method, message, text=False, headers=()):
    kind = "application/grpc-web-text+proto" if text else "application/grpc-web+proto"
    body = base64.b64encode(frame(message)) if text else frame(message)
    sent = {"content-type": kind, "accept": kind, "x-grpc-web": "1", **dict(headers)}
    with httpx.Client(http1=not path["http2"], http2=path["http2"], timeout=PATIENCE) as c:
        answer = c.post(f"{path['url']}/test.Kinds/{method}", content=body, headers=sent)
    same(answer.status_code, 200)
    assert answer.headers["content-type"].startswith(kind.removesuffix("+proto")), answer.headers["content-type"]
    content = decoded(answer.content) if text else answer.content
    messages, trailers = frames(content)
    # Trailers only: the status is in the headers.
    trailers = trailers if trailers is not None else dict(answer.headers)
    return messages, trailers


@case("unary")
def unary(path):
    for text in (False, True):
        for size in (0, 1, 2, 3, 50_000):
            message = (pattern(1009) * 50)[:size]
            messages, trailers = call(path, "Unary", message, text)
            same(messages, [message], f"{size} bytes, text: {text}")
            same(trailers["grpc-status"], "0")


@case("server streaming")
def streaming(path):
    for text in (False, True):
        messages, trailers = call(path, "ServerStream", b"40 700", text)
        same(messages, [bytes([i]) * 700 for i in range(40)])
        same(trailers["grpc-status"], "0")


@case("errors")
def errors(path):
    for text in (False, True):
        messages, trailers = call(path, "Fail", b"", text)
        same((messages, trailers["grpc-status"], trailers["x-why"]), ([], "3", "asked for"))
        same(trailers["grpc-message"], "na%C3%AFve: 100 %25 wrong")
        messages, trailers = call(path, "FailLate", b"", text)
        same((messages, trailers["grpc-status"]), ([b"one", b"two"], "15"))


@case("metadata")
def metadata(path):
    messages, trailers = call(path, "Metadata", b"", headers=[("x-test-a", "one")])
    same((messages, trailers["grpc-status"], trailers["x-last-a"]), ([b"ok"], "0", "one"))


@case("a deadline is passed on")
def deadline(path):
    messages, _ = call(path, "TimeLeft", b"", headers=[("grpc-timeout", "5S")])
    assert 3 < float(messages[0]) <= 5, messages


if __name__ == "__main__":
    main()
