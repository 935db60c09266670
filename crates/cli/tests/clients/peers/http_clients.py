"""Python's http.client (HTTP/1 paths) and httpx (HTTP/1, or HTTP/2 by prior knowledge) against origin.js."""
import asyncio
import http.client
import json
import time
import urllib.parse

import httpx

from cases import MIB, case, main, pattern, same, sha, until

BODY = pattern(MIB)
PATIENCE = 15


def http1(path):
    return not path["http2"]


def plain(path):
    url = urllib.parse.urlsplit(path["url"])
    return http.client.HTTPConnection(url.hostname, url.port, timeout=PATIENCE)


def client(path):
    return httpx.Client(base_url=path["url"], http1=not path["http2"], http2=path["http2"], timeout=PATIENCE)


@case("http.client: one connection, many requests", only=http1)
def connection(path):
    held = plain(path)
    socket = None
    for n in (0, 1, 65_537, MIB):
        held.request("POST", "/echo", body=BODY[:n])
        answer = held.getresponse()
        same(answer.read(), BODY[:n], f"{n} bytes")
        socket = socket or held.sock
        same(held.sock is socket, True, "the connection is kept")
    held.request("HEAD", "/bytes?n=1000&known=1")
    answer = held.getresponse()
    same((answer.status, answer.getheader("content-length"), answer.read()), (200, "1000", b""))
    for code in (204, 304):
        held.request("GET", f"/status?code={code}")
        answer = held.getresponse()
        same((answer.status, answer.read()), (code, b""))
    held.request("POST", "/echo", body=iter([b"one ", b"two ", b"three"]), encode_chunked=True)
    same(held.getresponse().read(), b"one two three")
    held.request("GET", "/bytes?n=5000")
    same(held.getresponse().read(), BODY[:5000])
    same(held.sock is socket, True, "the connection is kept to the end")


@case("http.client: HTTP/1.0 is refused by default", only=http1)
def old_version(path):
    held = plain(path)
    held._http_vsn, held._http_vsn_str = 10, "HTTP/1.0"
    held.request("GET", "/bytes?n=1")
    same(held.getresponse().status, 426)


@case("httpx: bodies both ways")
def bodies(path):
    with client(path) as c:
        same(c.get("/bytes?n=0").content, b"")
        answer = c.post("/echo", content=BODY)
        same(answer.content, BODY)
        same(answer.http_version, "HTTP/2" if path["http2"] else "HTTP/1.1")
        same(answer.headers["x-version"], path["origin"])
        same(answer.headers["x-length"], str(MIB))
        answer = c.post("/echo", content=(BODY[at:at + 70_000] for at in range(0, MIB, 70_000)))
        same(answer.content, BODY)
        same(answer.headers["x-length"], "none")
        told = c.put("/upload", content=BODY).json()
        same((told["bytes"], told["sha"], told["method"]), (MIB, sha(BODY), "PUT"))


@case("httpx: HEAD, 204, 304, cookies")
def bodiless(path):
    with client(path) as c:
        answer = c.head("/bytes?n=1000&known=1")
        same((answer.status_code, answer.headers["content-length"], answer.content), (200, "1000", b""))
        for code in (204, 304):
            answer = c.get(f"/status?code={code}")
            same((answer.status_code, answer.content), (code, b""))
        answer = c.get("/cookies", headers={"cookie": "x=1; y=2"})
        same(answer.headers.get_list("set-cookie"), ["a=1; Path=/", "b=2, with comma"])
        same(answer.headers["x-cookie"], "x=1; y=2")


@case("httpx: a streamed answer, read slowly")
def slowly(path):
    total, read, next_pause = 2 * MIB, 0, 0
    with client(path) as c, c.stream("GET", f"/stream?total={total}") as answer:
        for part in answer.iter_raw():
            read += len(part)
            if read >= next_pause:
                next_pause += 256 * 1024
                time.sleep(0.005)
    same(read, total)


@case("httpx: closing in the middle reaches the origin")
def cancels(path):
    given = urllib.parse.quote(f"httpx {path['name']}")
    # The connection is closed with its client: httpx sends no RST_STREAM for a stream left in the middle.
    with client(path) as c, c.stream("GET", f"/hang?id={given}") as answer:
        same(next(answer.iter_raw()), b"begun")
    with client(path) as c:
        until("the origin notices", lambda: c.get(f"/aborted?id={given}").json()["aborted"])


@case("httpx: 32 at once")
def at_once(path):
    # No bodies: httpx does not bear an answer that is complete before it has ended its request, as one of an HTTP/1
    # host may be that counts to the Content-Length.
    async def ask(c, i):
        answer = await c.get(f"/bytes?n={i * 1000}")
        same(answer.content, BODY[:i * 1000], f"request {i}")

    async def all_of_them():
        async with httpx.AsyncClient(
                base_url=path["url"], http1=not path["http2"], http2=path["http2"], timeout=PATIENCE) as c:
            await asyncio.gather(*(ask(c, i) for i in range(32)))

    asyncio.run(all_of_them())


if __name__ == "__main__":
    main()
