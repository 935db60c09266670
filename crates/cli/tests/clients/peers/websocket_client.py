"""PyPI websockets' client, over HTTP/1, against websocket_server.py."""
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from cases import MIB, case, main, pattern, same

PATIENCE = 15
BODY = pattern(MIB)


def opened(path, **options):
    url = path["url"].replace("http://", "ws://") + "/chat?x=1"
    return connect(url, open_timeout=PATIENCE, close_timeout=PATIENCE, max_size=None, proxy=None, **options)


@case("messages of every size")
def messages(path):
    with opened(path, subprotocols=["chat"]) as c:
        same(c.subprotocol, "chat")
        for message in ("", "häi", "x" * 125, "x" * 126, b"", b"\0\xff", BODY[:65_535], BODY[:65_536], BODY):
            c.send(message)
            same(c.recv(PATIENCE), message)


@case("without compression")
def plainly(path):
    with opened(path, compression=None) as c:
        c.send(BODY)
        same(c.recv(PATIENCE), BODY)


@case("fragments and pings")
def fragments(path):
    with opened(path) as c:
        c.send(iter(["one ", "two ", "three"]))
        same(c.recv(PATIENCE), "one two three")
        assert c.ping().wait(PATIENCE), "a pong comes back"


@case("200 turns")
def turns(path):
    with opened(path) as c:
        for turn in range(200):
            c.send(str(turn))
            same(c.recv(PATIENCE), str(turn))


@case("closed by the server, by the client")
def closing(path):
    with opened(path) as c:
        c.send("close 4321")
        try:
            c.recv(PATIENCE)
            raise AssertionError("not closed")
        except ConnectionClosed as closed:
            same((closed.rcvd.code, closed.rcvd.reason), (4321, "as asked"))
    c = opened(path)
    c.close(1001, "going")
    same(c.protocol.close_code, 1001)


if __name__ == "__main__":
    main()
