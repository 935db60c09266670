"""Two gRPC servers, and a gRPC client without a proxy that calls them through `xds:///`: grpcio, with bytes for messages.

What it is to do it reads from stdin, one command per line, and answers each with one line of JSON:

  serve ADDRESS VERSION...   opens servers at ADDRESS.1, ADDRESS.2 and so on, one for each version, on one port: the port
  dial TARGET                one call: who answered, or the status and its text
  call TARGET                from now on calls the target again and again
  counts                     who answered how often since `counts` was last asked, and which calls failed
"""

import collections
import json
import sys
import threading
from concurrent import futures

import grpc

METHOD = "/test.Web/Version"
DEADLINE = 10


class Web(grpc.GenericRpcHandler):
    def __init__(self, version):
        self.version = version.encode()

    def service(self, details):
        if details.method != METHOD:
            return None
        return grpc.unary_unary_rpc_method_handler(lambda request, context: self.version)


def serve(address, *versions):
    """Tries ports until one is free at all addresses."""
    for _ in range(20):
        servers, port = [], 0
        for number, version in enumerate(versions, 1):
            server = grpc.server(futures.ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
            server.add_generic_rpc_handlers((Web(version),))
            try:
                port = server.add_insecure_port(f"{address}.{number}:{port}")
            except RuntimeError:
                break
            servers.append(server)
        if len(servers) == len(versions):
            for server in servers:
                server.start()
            KEPT.extend(servers)
            return port
    raise RuntimeError("no port is free")


def call(channel):
    return channel.unary_unary(METHOD)(b"", timeout=DEADLINE).decode()


def dial(target):
    with grpc.insecure_channel(target) as channel:
        try:
            return {"answer": call(channel)}
        except grpc.RpcError as error:
            return {"status": error.code().name, "reason": error.details()}


class Calls:
    def __init__(self, target):
        self.lock = threading.Lock()
        self.answers, self.failed = collections.Counter(), []
        self.channel = grpc.insecure_channel(target)
        self.pause = threading.Event()
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while not self.pause.wait(0.002):
            try:
                answer = call(self.channel)
                with self.lock:
                    self.answers[answer] += 1
            except grpc.RpcError as error:
                with self.lock:
                    self.failed.append(f"{error.code().name}: {error.details()}")

    def counts(self):
        with self.lock:
            answers, self.answers = self.answers, collections.Counter()
            return {"answers": answers, "failed": self.failed}


KEPT = []
calls = None
for line in sys.stdin:
    word, *rest = line.split()
    if word == "serve":
        said = serve(*rest)
    elif word == "dial":
        said = dial(*rest)
    elif word == "call":
        calls = Calls(*rest)
        said = None
    elif word == "counts":
        said = calls.counts()
    print(json.dumps(said), flush=True)
