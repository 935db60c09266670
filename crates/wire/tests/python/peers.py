"""Independent implementations of HTTP, from PyPI, as peers of our codecs.

peers.py check              exits with 0 if the packages are there
peers.py h11                each line of the input is a request in hexadecimal; answers what h11 makes of it
peers.py h2-client N SEED   speaks HTTP/2 over stdin and stdout: N requests to a server that echoes them
peers.py h2-server SEED     the other side: echoes what it is sent
"""

import random
import sys

import h11
import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import hpack


def check_h11():
    for line in sys.stdin:
        print(read_request(bytes.fromhex(line.strip())), flush=True)


def read_request(text):
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    body, request, ended = b"", None, False
    try:
        connection.receive_data(text)
        while True:
            event = connection.next_event()
            if event in (h11.NEED_DATA, h11.PAUSED):
                break
            if isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                ended = True
                break
            elif isinstance(event, h11.ConnectionClosed):
                break
    except h11.RemoteProtocolError as error:
        return "refused " + str(error).replace("\n", " ")
    if request is None:
        return "more"
    fields = ",".join(name.hex() + "=" + value.hex() for name, value in request.headers)
    words = [request.method.hex(), request.target.hex(), request.http_version.hex(), fields, body.hex()]
    words.append(connection.trailing_data[0].hex() if ended else "unended")
    return " ".join(["read", *(word or "-" for word in words)])


class Pipe:
    """Standard input and output, read in pieces of any size."""

    def __init__(self, connection, choose):
        self.connection, self.choose = connection, choose
        # What the windows do not let out: by stream, the bytes, the trailers, whether it ends.
        self.waiting = {}
        # Our settings are acknowledged.
        self.settled = False

    def flush(self):
        data = self.connection.data_to_send()
        if data:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()

    def events(self):
        data = sys.stdin.buffer.read1(self.choose.choice([9, 1000, 65536, 65536]))
        if not data:
            return None
        events = self.connection.receive_data(data)
        self.settled = self.settled or any(isinstance(event, h2.events.SettingsAcknowledged) for event in events)
        return events

    def send(self, stream, data, trailers=None, end=False):
        kept = self.waiting.setdefault(stream, [b"", None, False])
        kept[0] += data
        kept[1] = trailers or kept[1]
        kept[2] = end or kept[2]
        self.pump(stream)

    def pump(self, stream):
        try:
            self.write(stream)
        except (h2.exceptions.NoSuchStreamError, h2.exceptions.StreamIDTooLowError):
            # It was reset.
            self.forget(stream)

    def write(self, stream):
        kept = self.waiting.get(stream)
        if kept is None:
            return
        while kept[0]:
            room = min(self.connection.local_flow_control_window(stream), self.connection.max_outbound_frame_size)
            if room <= 0:
                return
            room = min(room, self.choose.choice([100, 5000, 1 << 20]))
            padding = self.choose.choice([None, None, 0, 3]) if room > 10 else None
            part = kept[0][: room - 4 if padding is not None else room]
            kept[0] = kept[0][len(part):]
            self.connection.send_data(stream, part, pad_length=padding)
        del self.waiting[stream]
        if kept[1]:
            self.connection.send_headers(stream, kept[1], end_stream=True)
        elif kept[2]:
            self.connection.end_stream(stream)
        else:
            self.waiting[stream] = kept

    def pump_all(self):
        for stream in list(self.waiting):
            self.pump(stream)

    def forget(self, stream):
        self.waiting.pop(stream, None)

    def unsettle(self):
        """Changes what can be changed of both compression tables."""
        # h2 takes the first acknowledgement for that of any change there is: one at a time.
        if self.settled and self.choose.random() < 0.3:
            self.settled = False
            size = self.choose.choice([0, 64, 300, 4096, 65536])
            self.connection.update_settings({h2.settings.SettingCodes.HEADER_TABLE_SIZE: size})
        size = min(self.choose.choice([0, 50, 1000, 4096]), self.connection.remote_settings.header_table_size)
        # hpack forgets to tell of a change to the size there is.
        if size != self.connection.encoder.header_table_size and self.choose.random() < 0.3:
            self.connection.encoder.header_table_size = size


def config(client):
    return h2.config.H2Configuration(client_side=client, header_encoding=None)


def any_fields(choose):
    fields = []
    for at in range(choose.randrange(14)):
        name = b"x-%d" % choose.randrange(12)
        value = choose.choice(
            [
                b"",
                b"again",
                b"%d" % choose.randrange(10**6),
                bytes(choose.choice(range(0x21, 0x7F)) for _ in range(choose.randrange(60))),
                bytes([0xC3, 0xA9]) * choose.randrange(1, 9),
                b"v" * choose.randrange(3000),
            ]
        )
        fields.append(hpack.NeverIndexedHeaderTuple(name, value) if choose.random() < 0.1 else (name, value))
    return fields


def h2_client(count, seed):
    choose = random.Random(seed)
    connection = h2.connection.H2Connection(config(True))
    pipe = Pipe(connection, choose)
    connection.initiate_connection()
    asked, open_streams, done, settled = 0, {}, 0, False
    while done < count:
        while settled and asked < count and len(open_streams) < 20:
            asked += 1
            pipe.unsettle()
            stream = connection.get_next_available_stream_id()
            fields = any_fields(choose)
            body = choose.randbytes(choose.choice([0, 1, 500, 70000]))
            trailers = [(b"x-sum", b"%d" % len(body))] if choose.random() < 0.3 else None
            head = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/p?%d" % asked), (b":authority", b"a:1")]
            connection.send_headers(stream, head + fields)
            gone = choose.random() < 0.1
            open_streams[stream] = [[tuple(map(bytes, field)) for field in fields], body, trailers, [], b"", None]
            if gone:
                connection.send_data(stream, body[:10])
                connection.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
                del open_streams[stream]
                done += 1
            else:
                pipe.send(stream, body, trailers, end=True)
        pipe.flush()
        events = pipe.events()
        if events is None:
            raise SystemExit("the server ended the connection")
        for event in events:
            stream = getattr(event, "stream_id", None)
            if isinstance(event, h2.events.RemoteSettingsChanged):
                settled = True
            elif isinstance(event, h2.events.ConnectionTerminated):
                raise SystemExit("GOAWAY %r %r" % (event.error_code, event.additional_data))
            elif stream is not None and stream not in open_streams:
                if isinstance(event, h2.events.DataReceived):
                    connection.acknowledge_received_data(event.flow_controlled_length, stream)
            elif isinstance(event, h2.events.ResponseReceived):
                open_streams[stream][3] = [(bytes(name), bytes(value)) for name, value in event.headers]
            elif isinstance(event, h2.events.DataReceived):
                open_streams[stream][4] += event.data
                connection.acknowledge_received_data(event.flow_controlled_length, stream)
            elif isinstance(event, h2.events.TrailersReceived):
                open_streams[stream][5] = [(bytes(name), bytes(value)) for name, value in event.headers]
            elif isinstance(event, h2.events.StreamReset):
                raise SystemExit("stream %d reset: %r" % (stream, event.error_code))
            elif isinstance(event, h2.events.StreamEnded):
                fields, body, trailers, head, received, after = open_streams.pop(stream)
                if head != [(b":status", b"200")] + fields or received != body or after != trailers:
                    raise SystemExit("%r came back as %r" % ((fields, len(body), trailers), (head, len(received), after)))
                done += 1
        pipe.pump_all()
    connection.close_connection()
    pipe.flush()


def h2_server(seed):
    choose = random.Random(seed)
    connection = h2.connection.H2Connection(config(False))
    pipe = Pipe(connection, choose)
    connection.initiate_connection()
    while True:
        pipe.flush()
        events = pipe.events()
        if events is None:
            return
        for event in events:
            stream = getattr(event, "stream_id", None)
            try:
                if isinstance(event, h2.events.RequestReceived):
                    pipe.unsettle()
                    fields = [field for field in event.headers if field[0].startswith(b"x-")]
                    if choose.random() < 0.3:
                        connection.send_headers(stream, [(b":status", b"103"), (b"x-early", b"1")])
                    connection.send_headers(stream, [(b":status", b"200")] + fields)
                elif isinstance(event, h2.events.DataReceived):
                    connection.acknowledge_received_data(event.flow_controlled_length, stream)
                    pipe.send(stream, event.data)
                elif isinstance(event, h2.events.TrailersReceived):
                    pipe.send(stream, b"", list(event.headers))
                elif isinstance(event, h2.events.StreamEnded):
                    pipe.send(stream, b"", end=True)
                elif isinstance(event, h2.events.StreamReset):
                    pipe.forget(stream)
                elif isinstance(event, h2.events.ConnectionTerminated):
                    return
            except h2.exceptions.ProtocolError:
                # It was reset before it was answered; what the peer does wrong is found by receive_data.
                pipe.forget(stream)
        pipe.pump_all()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["check"]:
            pass
        case ["h11"]:
            check_h11()
        case ["h2-client", count, seed]:
            h2_client(int(count), int(seed))
        case ["h2-server", seed]:
            h2_server(int(seed))
        case _:
            raise SystemExit(__doc__)
