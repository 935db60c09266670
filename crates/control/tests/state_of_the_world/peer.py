"""A state-of-the-world ADS client: grpcio for the wire, envoy-data-plane for the messages.

Prints one JSON object per line: {"type": "CDS", "version": ..., "nonce": ..., "names": [...]}. What it is to do next it
reads from stdin, one command per line:

  ask CDS [NAME...]        asks, or changes what is asked for
  ack CDS                  acknowledges the last response of the type
  nack CDS REASON          refuses it
  again                    opens a new stream, on which `ask` offers the version last acknowledged
"""

import json
import queue
import sys
import threading

import grpc
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.core.v3 import Node
from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment
from envoy_data_plane.envoy.config.listener.v3 import Listener
from envoy_data_plane.envoy.config.route.v3 import RouteConfiguration
from envoy_data_plane.envoy.service.discovery.v3 import DiscoveryRequest, DiscoveryResponse
from envoy_data_plane.google.rpc import Status

METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
BASE = "type.googleapis.com/envoy.config."
TYPES = {
    "CDS": (BASE + "cluster.v3.Cluster", lambda body: Cluster.parse(body).name),
    "EDS": (BASE + "endpoint.v3.ClusterLoadAssignment", lambda body: ClusterLoadAssignment.parse(body).cluster_name),
    "LDS": (BASE + "listener.v3.Listener", lambda body: Listener.parse(body).name),
    "RDS": (BASE + "route.v3.RouteConfiguration", lambda body: RouteConfiguration.parse(body).name),
}
SHORT = {url: short for short, (url, _) in TYPES.items()}


class Peer:
    def __init__(self, target, node_id):
        self.channel = grpc.insecure_channel(target)
        self.node_id = node_id
        self.names, self.versions, self.last = {}, {}, {}
        self.open()

    def open(self):
        self.last = {}
        self.requests = queue.Queue()
        self.first = True
        call = self.channel.stream_stream(METHOD, request_serializer=bytes, response_deserializer=DiscoveryResponse.parse)
        stream = call(iter(self.requests.get, None))
        threading.Thread(target=self.read, args=(stream,), daemon=True).start()

    def read(self, stream):
        try:
            for response in stream:
                short = SHORT[response.type_url]
                self.last[short] = response
                names = [TYPES[short][1](resource.value) for resource in response.resources]
                said = {"type": short, "version": response.version_info, "nonce": response.nonce, "names": sorted(names)}
                print(json.dumps(said), flush=True)
        except grpc.RpcError as error:
            print(json.dumps({"ended": error.code().name, "reason": error.details()}), flush=True)

    def send(self, short, nonce="", error=None):
        request = DiscoveryRequest(
            type_url=TYPES[short][0],
            resource_names=self.names.get(short, []),
            version_info=self.versions.get(short, ""),
            response_nonce=nonce,
            error_detail=error,
        )
        if self.first:
            request.node = Node(id=self.node_id, cluster="python")
            self.first = False
        self.requests.put(request)

    def do(self, line):
        word, *rest = line.split()
        if word == "again":
            self.requests.put(None)
            self.open()
            return
        short = rest[0]
        nonce = self.last[short].nonce if short in self.last else ""
        if word == "ask":
            self.names[short] = rest[1:]
            self.send(short, nonce)
        elif word == "ack":
            self.versions[short] = self.last[short].version_info
            self.send(short, nonce)
        elif word == "nack":
            self.send(short, nonce, Status(code=3, message=" ".join(rest[1:])))


peer = Peer(sys.argv[1], sys.argv[2])
for command in sys.stdin:
    peer.do(command)
