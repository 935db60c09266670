"""An HTTP/1 server of bytes: the body of its answer is the request as it came. Prints `PORT n`.

Arguments: the port (default: the kernel's choice), the address.
"""
import os
import re
import socket
import sys
import threading

# As no library would write it: cases and order are to reach the client.
HEAD = (b"HTTP/1.1 200 OK\r\nX-SeCond: 2\r\ncontent-TYPE: text/x-mirror\r\nX-First: 1\r\nx-second: 3\r\n"
        b"Set-Cookie: a=1\r\nset-cookie: b=2\r\nETAG: \"E\"\r\nContent-Length: %d\r\n\r\n")


def serve(connection):
    kept = b""
    while True:
        while b"\r\n\r\n" not in kept:
            received = connection.recv(65536)
            if not received:
                return
            kept += received
        head, kept = kept.split(b"\r\n\r\n", 1)
        length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
        length = int(length.group(1)) if length else 0
        while len(kept) < length:
            kept += connection.recv(65536)
        request, kept = head + b"\r\n\r\n" + kept[:length], kept[length:]
        connection.sendall(HEAD % len(request) + request)


def main():
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    address = sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1"
    listener = socket.create_server((address, port))
    print("PORT", listener.getsockname()[1], flush=True)
    if os.environ.get("TETHERED"):
        threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main()
