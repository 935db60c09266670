"""Delta ADS servers: grpcio for the wire, envoy-data-plane for the messages, whose import takes a second: it is done once,
and each connection to the socket that stdin names gets a server in a process of its own (fork).

A server answers every subscription out of what it holds. What it holds, and whatever else it is to do, it reads from its
connection, one JSON object a line:

  {"do": "listen", "port": 0}                         takes connections; says {"listening": PORT}
  {"do": "put", "type": "CDS", "resources": [...]}    holds these from now on
  {"do": "lose", "type": "CDS", "names": [...]}       holds them no longer
  {"do": "push", "type": "CDS"}                       sends what differs from what the client has, in one response
  {"do": "keep", "types": ["EDS"]}                    these are not sent by themselves, when they are asked for
  {"do": "forget", "versions": true}                  what a client says it holds is not listened to
  {"do": "send", "response": {...}}                   sends just that, whatever is held
  {"do": "end", "how": "close" | "status" | "reset"}  ends the stream
  {"do": "leave"}                                     GOAWAY, and nobody listens any more; says {"left": true}

A resource is {"name", "version", "body"}: the body in protobuf's JSON mapping, or hexadecimal "bytes"; "ttl" and "aliases" as
in Resource, and "type" where it is another than that of the response.

Says one JSON object a line: {"pid": N} first, {"request": ...} for each request as it came, {"sent": ...} for each response,
{"opened": N} and {"ended": N} for streams. It ends with its connection, all end with the stdin of the first process.
"""

import json
import os
import queue
import selectors
import signal
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment
from envoy_data_plane.envoy.config.listener.v3 import Listener
from envoy_data_plane.envoy.config.route.v3 import RouteConfiguration

# Known by having been imported: what a listener's JSON names by `@type`.
import envoy_data_plane.envoy.extensions.filters.http.router.v3  # noqa: F401
import envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3  # noqa: F401
from envoy_data_plane.envoy.service.discovery.v3 import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    Resource,
)

SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
BASE = "type.googleapis.com/"
MESSAGES = {
    "CDS": (BASE + "envoy.config.cluster.v3.Cluster", Cluster),
    "EDS": (BASE + "envoy.config.endpoint.v3.ClusterLoadAssignment", ClusterLoadAssignment),
    "LDS": (BASE + "envoy.config.listener.v3.Listener", Listener),
    "RDS": (BASE + "envoy.config.route.v3.RouteConfiguration", RouteConfiguration),
}
SHORT = {url: short for short, (url, _) in MESSAGES.items()}


def url(short):
    return MESSAGES[short][0] if short in MESSAGES else short


def say(**what):
    with speaking:
        out.write(json.dumps(what) + "\n")
        out.flush()


def resource(short, given):
    """A Resource out of its JSON."""
    short = given.get("type", short)
    made = {"name": given["name"], "version": given.get("version", "")}
    for field in ("aliases", "ttl"):
        if field in given:
            made[field] = given[field]
    made = Resource.from_dict(made)
    if "bytes" in given:
        body = bytes.fromhex(given["bytes"])
    elif "body" in given:
        body = bytes(MESSAGES[short][1].from_dict(given["body"]))
    else:
        return made
    field = bytes([0x0A, len(url(short))]) + url(short).encode() + b"\x12" + varint(len(body)) + body
    # An Any by its own fields: the body is as it was given, also where no message decodes from it.
    made.resource = type(Resource.parse(b"\x12\x00").resource).parse(field)
    return made


def varint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(out) + bytes([number])


class Asked:
    """What one stream asks for of a type, and has."""

    def __init__(self, has):
        self.everything, self.names, self.has = False, set(), has


class Stream:
    def __init__(self, number, plane, context):
        self.number, self.plane, self.context = number, plane, context
        self.asked, self.responses = {}, queue.Queue()

    def read(self, requests):
        try:
            for request in requests:
                with self.plane.lock:
                    self.take(request)
        except Exception:
            pass
        self.responses.put(None)

    def take(self, request):
        short = SHORT.get(request.type_url, request.type_url)
        node = request.node.to_dict() if request.node else None
        error = request.error_detail.message if request.error_detail else None
        say(
            request={
                "stream": self.number,
                "type": short,
                "subscribe": sorted(request.resource_names_subscribe),
                "unsubscribe": sorted(request.resource_names_unsubscribe),
                "initial": request.initial_resource_versions,
                "nonce": request.response_nonce,
                "error": error,
                "node": node,
            }
        )
        first = short not in self.asked
        if first:
            initial = {} if self.plane.forgets else dict(request.initial_resource_versions)
            self.asked[short] = Asked(initial)
            self.asked[short].everything = not request.resource_names_subscribe
        asked = self.asked[short]
        asked.names |= set(request.resource_names_subscribe)
        for name in request.resource_names_unsubscribe:
            asked.names.discard(name)
            asked.has.pop(name, None)
        if (first or request.resource_names_subscribe) and short not in self.plane.kept:
            self.push(short)

    def push(self, short):
        held, asked = self.plane.held.get(short, {}), self.asked.get(short)
        if asked is None:
            return
        wanted = {name: held[name] for name in held if asked.everything or name in asked.names}
        due = [given for name, given in wanted.items() if asked.has.get(name) != given["version"]]
        gone = [name for name in asked.has if name not in wanted]
        if due or gone:
            self.send({"type": short, "resources": due, "removed": gone})

    def send(self, response):
        short = response["type"]
        self.plane.nonce += 1
        nonce = response.get("nonce", f"n{self.plane.nonce}")
        resources = [resource(short, given) for given in response.get("resources", [])]
        removed = response.get("removed", [])
        if short in self.asked:
            has = self.asked[short].has
            has.update({made.name: made.version for made in resources})
            for name in removed:
                has.pop(name, None)
        names = sorted(made.name for made in resources)
        say(sent={"stream": self.number, "type": short, "nonce": nonce, "names": names, "removed": sorted(removed)})
        self.responses.put(
            DeltaDiscoveryResponse(type_url=url(short), nonce=nonce, resources=resources, removed_resources=removed)
        )


class Plane:
    def __init__(self):
        self.lock = threading.RLock()
        self.held, self.kept, self.forgets = {}, set(), False
        self.nonce, self.streams, self.server, self.port = 0, 0, None, 0
        # The newest.
        self.stream = None

    def delta(self, requests, context):
        with self.lock:
            self.streams += 1
            stream = self.stream = Stream(self.streams, self, context)
        say(opened=stream.number)
        context.add_callback(lambda: say(ended=stream.number))
        threading.Thread(target=stream.read, args=(requests,), daemon=True).start()
        while (response := stream.responses.get()) is not None:
            if isinstance(response, str):
                context.abort(grpc.StatusCode.UNAVAILABLE, response)
            yield response

    def listen(self, port):
        self.server = grpc.server(ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
        method = grpc.stream_stream_rpc_method_handler(
            self.delta, request_deserializer=DeltaDiscoveryRequest.parse, response_serializer=bytes
        )
        handler = grpc.method_handlers_generic_handler(SERVICE, {"DeltaAggregatedResources": method})
        self.server.add_generic_rpc_handlers((handler,))
        self.port = self.server.add_insecure_port(f"127.0.0.1:{port}")
        self.server.start()
        say(listening=self.port)

    def do(self, command):
        word = command["do"]
        if word == "listen":
            self.listen(command.get("port") or self.port)
        elif word == "put":
            held = self.held.setdefault(command["type"], {})
            held.update({given["name"]: given for given in command["resources"]})
        elif word == "lose":
            for name in command["names"]:
                self.held[command["type"]].pop(name)
        elif word == "push":
            self.stream.push(command["type"])
        elif word == "keep":
            self.kept = set(command["types"])
        elif word == "forget":
            self.forgets = command["versions"]
        elif word == "send":
            self.stream.send(command["response"])
        elif word == "end":
            if command["how"] == "reset":
                self.stream.context.cancel()
            self.stream.responses.put(None if command["how"] == "close" else "as it was told to")


def serve(lines):
    plane = Plane()
    say(pid=os.getpid())
    for line in lines:
        command = json.loads(line)
        if command["do"] == "leave":
            # Without the lock, which streams take to end.
            plane.server.stop(None).wait()
            say(left=True)
            continue
        with plane.lock:
            plane.do(command)


speaking, out = threading.Lock(), sys.stdout
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
place = socket.socket(socket.AF_UNIX)
place.bind(sys.stdin.readline().strip())
place.listen()
say(ready=True)
waiting = selectors.DefaultSelector()
for end in (place, sys.stdin):
    waiting.register(end, selectors.EVENT_READ)
while all(key.fileobj is place for key, _ in waiting.select()):
    connection, _ = place.accept()
    if os.fork() == 0:
        out = connection.makefile("w")
        try:
            serve(connection.makefile("r"))
        finally:
            os._exit(0)
    connection.close()
