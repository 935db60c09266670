// A control plane that serves objects by MCP over xDS, with Istio's own messages and grpc-go: an independent peer for the
// tests of configSources. It is told by lines of JSON and answers by lines of JSON; `mcp-peer convert` turns objects into
// resources, one a line.
//
//	{"listen": "127.0.0.1:0"}                      -> {"listening": "127.0.0.1:4711"}
//	{"put": {object}}, {"put": {object}, "collection": TYPE}, {"delete": {object}}    nothing is sent yet
//	{"raw": {"collection": TYPE, "resources": [hexadecimal digits of an Any]}}                    the collection is these bytes
//	{"push": true}, {"push": TYPE}                 sends what is subscribed to
//	{"cut": true}                                  ends every stream
//	{"close": true}                                stops listening
//	requests                                       -> {"request": {"type", "version", "nonce", "error", "node"}}
package main

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"sort"
	"strings"
	"sync"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"
	mcp "istio.io/api/mcp/v1alpha1"
	_ "istio.io/api/networking/v1alpha3"
	_ "istio.io/api/security/v1beta1"
	_ "istio.io/api/telemetry/v1alpha1"
)

// object is a document as users write it.
type object struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name              string            `json:"name"`
		Namespace         string            `json:"namespace"`
		ResourceVersion   string            `json:"resourceVersion"`
		CreationTimestamp string            `json:"creationTimestamp"`
		Labels            map[string]string `json:"labels"`
		Annotations       map[string]string `json:"annotations"`
	} `json:"metadata"`
	Spec json.RawMessage `json:"spec"`
}

// packages of Istio's messages by API group.
var packages = map[string]string{
	"networking.istio.io": "istio.networking.v1alpha3",
	"security.istio.io":   "istio.security.v1beta1",
	"telemetry.istio.io":  "istio.telemetry.v1alpha1",
}

func (o object) collection() string { return o.APIVersion + "/" + o.Kind }

func (o object) name() string {
	if o.Metadata.Namespace == "" {
		return "default/" + o.Metadata.Name
	}
	return o.Metadata.Namespace + "/" + o.Metadata.Name
}

// resource packs an object as istiod does (pilot/pkg/networking/apigen/apigen.go).
func (o object) resource() (*anypb.Any, error) {
	group, _, _ := strings.Cut(o.APIVersion, "/")
	kind, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName(packages[group] + "." + o.Kind))
	if err != nil {
		return nil, err
	}
	spec := kind.New().Interface()
	if len(o.Spec) > 0 {
		// By the generated UnmarshalJSON, which takes durations as 1h, as users write them.
		if err := json.Unmarshal(o.Spec, spec); err != nil {
			return nil, err
		}
	}
	body, err := anypb.New(spec)
	if err != nil {
		return nil, err
	}
	metadata := &mcp.Metadata{
		Name:        o.name(),
		Version:     o.Metadata.ResourceVersion,
		Labels:      o.Metadata.Labels,
		Annotations: o.Metadata.Annotations,
	}
	if created, err := time.Parse(time.RFC3339, o.Metadata.CreationTimestamp); err == nil {
		metadata.CreateTime = timestamppb.New(created)
	}
	return anypb.New(&mcp.Resource{Metadata: metadata, Body: body})
}

type server struct {
	discovery.UnimplementedAggregatedDiscoveryServiceServer
	mutex       sync.Mutex
	collections map[string]map[string]*anypb.Any
	raw         map[string][]*anypb.Any
	streams     map[*stream]bool
	nonce       int
	listener    *grpc.Server
}

type stream struct {
	to    discovery.AggregatedDiscoveryService_StreamAggregatedResourcesServer
	asked map[string]bool
	cut   chan struct{}
}

// StreamAggregatedResources answers the first request of a type with all there is of it, as istiod does also for types that
// it does not know.
func (s *server) StreamAggregatedResources(to discovery.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	st := &stream{to: to, asked: map[string]bool{}, cut: make(chan struct{})}
	s.mutex.Lock()
	s.streams[st] = true
	s.mutex.Unlock()
	defer func() {
		s.mutex.Lock()
		delete(s.streams, st)
		s.mutex.Unlock()
	}()
	ended := make(chan error, 1)
	go func() {
		for {
			request, err := to.Recv()
			if err != nil {
				ended <- err
				return
			}
			s.request(st, request)
		}
	}()
	select {
	case err := <-ended:
		return err
	case <-st.cut:
		return status.Error(codes.Unavailable, "cut by the test")
	}
}

func (s *server) request(st *stream, request *discovery.DiscoveryRequest) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	say(map[string]any{"request": map[string]string{
		"type":    request.TypeUrl,
		"version": request.VersionInfo,
		"nonce":   request.ResponseNonce,
		"error":   request.GetErrorDetail().GetMessage(),
		"node":    request.GetNode().GetId(),
	}})
	if !st.asked[request.TypeUrl] {
		st.asked[request.TypeUrl] = true
		s.send(st, request.TypeUrl)
	}
}

func (s *server) send(st *stream, collection string) {
	s.nonce++
	response := &discovery.DiscoveryResponse{
		TypeUrl:     collection,
		VersionInfo: fmt.Sprint("v", s.nonce),
		Nonce:       fmt.Sprint("n", s.nonce),
		Resources:   s.raw[collection],
	}
	names := []string{}
	for name := range s.collections[collection] {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		response.Resources = append(response.Resources, s.collections[collection][name])
	}
	// A client that is gone is noticed by the receiving half.
	_ = st.to.Send(response)
}

type command struct {
	Listen     string `json:"listen"`
	Put        *object
	Delete     *object
	Collection string `json:"collection"`
	Raw        *struct {
		Collection string   `json:"collection"`
		Resources  []string `json:"resources"`
	}
	Push  any
	Cut   bool
	Close bool
}

func (s *server) act(c command) error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	switch {
	case c.Listen != "":
		socket, err := net.Listen("tcp", c.Listen)
		if err != nil {
			return err
		}
		s.listener = grpc.NewServer()
		discovery.RegisterAggregatedDiscoveryServiceServer(s.listener, s)
		go s.listener.Serve(socket)
		say(map[string]any{"listening": socket.Addr().String()})
	case c.Put != nil:
		resource, err := c.Put.resource()
		if err != nil {
			return err
		}
		collection := c.Collection
		if collection == "" {
			collection = c.Put.collection()
		}
		if s.collections[collection] == nil {
			s.collections[collection] = map[string]*anypb.Any{}
		}
		s.collections[collection][c.Put.name()] = resource
	case c.Delete != nil:
		for _, collection := range s.collections {
			delete(collection, c.Delete.name())
		}
	case c.Raw != nil:
		s.raw[c.Raw.Collection] = nil
		for _, text := range c.Raw.Resources {
			bytes, err := hex.DecodeString(text)
			if err != nil {
				return err
			}
			resource := &anypb.Any{}
			if err := proto.Unmarshal(bytes, resource); err != nil {
				return err
			}
			s.raw[c.Raw.Collection] = append(s.raw[c.Raw.Collection], resource)
		}
	case c.Push != nil:
		for st := range s.streams {
			for collection := range st.asked {
				if c.Push == true || c.Push == collection {
					s.send(st, collection)
				}
			}
		}
	case c.Cut:
		for st := range s.streams {
			close(st.cut)
			delete(s.streams, st)
		}
	case c.Close:
		// Not under the lock: streams take it when they end.
		go s.listener.Stop()
	}
	return nil
}

var out sync.Mutex

func say(what any) {
	line, err := json.Marshal(what)
	if err != nil {
		panic(err)
	}
	out.Lock()
	defer out.Unlock()
	fmt.Println(string(line))
}

func main() {
	s := &server{
		collections: map[string]map[string]*anypb.Any{},
		raw:         map[string][]*anypb.Any{},
		streams:     map[*stream]bool{},
	}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		if len(os.Args) > 1 && os.Args[1] == "convert" {
			convert(lines.Bytes())
			continue
		}
		c := command{}
		err := json.Unmarshal(lines.Bytes(), &c)
		if err == nil {
			err = s.act(c)
		}
		if err != nil {
			say(map[string]string{"failed": err.Error()})
		}
	}
}

func convert(line []byte) {
	o := object{}
	err := json.Unmarshal(line, &o)
	var resource *anypb.Any
	if err == nil {
		resource, err = o.resource()
	}
	var bytes []byte
	if err == nil {
		bytes, err = proto.Marshal(resource)
	}
	if err != nil {
		say(map[string]string{"failed": err.Error()})
		return
	}
	say(map[string]string{"resource": hex.EncodeToString(bytes)})
}
