"""A WebSocket server (PyPI websockets): what comes goes back; `close N` is answered by closing with code N.

Prints `PORT n`. Arguments: the port (default: the kernel's choice), the address.
"""
import os
import sys
import threading

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve


def echo(connection):
    try:
        for message in connection:
            if isinstance(message, str) and message.startswith("close "):
                connection.close(int(message.removeprefix("close ")), "as asked")
                return
            connection.send(message)
    except ConnectionClosed:
        pass


def chosen(connection, offered):
    return "chat" if "chat" in offered else None


def main():
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    address = sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1"
    with serve(echo, address, port, max_size=None, select_subprotocol=chosen) as server:
        print("PORT", server.socket.getsockname()[1], flush=True)
        if os.environ.get("TETHERED"):
            threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
        server.serve_forever()


if __name__ == "__main__":
    main()
