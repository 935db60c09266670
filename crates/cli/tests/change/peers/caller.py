"""Calls a service at a steady rate, each call by a connection of its own, and writes a line for each:
`MILLISECONDS STATUS CONFIGURED WHY`, where CONFIGURED is the header that the mesh's configuration adds.

FILE HOST PORT RATE COUNT   COUNT 0: for ever, from the first call that was answered as it should be
"""
import socket
import sys
import threading
import time

file, host, port, rate, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5])
out = open(file, "ab", buffering=0)


def call():
    """Status (0: no answer), the header, and what went wrong."""
    answer = b""
    try:
        with socket.create_connection((host, port), 10) as stream:
            stream.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            while part := stream.recv(65536):
                answer += part
        head, _, body = answer.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        status = int(lines[0].split(" ")[1])
        right = status == 200 and body == b"ok"
        return status, fields.get("x-configured", "-"), "" if right else repr(answer[:300])
    except Exception as error:
        return 0, "-", f"{error!r} after {answer[:200]!r}"


def one():
    began = time.monotonic()
    status, configured, why = call()
    took = (time.monotonic() - began) * 1000
    out.write(f"{took:.2f} {status} {configured} {why}\n".encode())


while count == 0 and call()[1] == "-":
    time.sleep(0.02)
began, sent, running = time.monotonic(), 0, []
while count == 0 or sent < count:
    thread = threading.Thread(target=one, daemon=True)
    thread.start()
    running = [known for known in running if known.is_alive()] + [thread]
    sent += 1
    time.sleep(max(0, began + sent / rate - time.monotonic()))
for thread in running:
    thread.join()
