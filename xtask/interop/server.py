"""A grpcio server for `cargo xtask interop`.

    server.py NAME ADDRESS [CERT KEY]

Listens on ADDRESS (127.0.0.1:0 or unix:path), says `ready PORT` on stdout, and obeys lines on
stdin: `drain` stops it gracefully and says `drained`; the end of stdin ends it.
"""

import json
import sys
import threading
import time
from concurrent import futures

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from wire import decode, encode

CODES = {code.value[0]: code for code in grpc.StatusCode}


class Service:
    """Every kind of method; messages are BytesValue, orders are JSON inside."""

    def __init__(self, name):
        self.name = name
        self.cancelled = 0
        self.lock = threading.Lock()

    def begin(self, context):
        """Echoes the request's x-echo* metadata in the headers, under the server's name."""
        echoed = [(k, v) for k, v in context.invocation_metadata() if k.startswith("x-echo")]
        context.send_initial_metadata([("x-server", self.name), *echoed])

    def unary(self, request, context):
        self.begin(context)
        return request

    def client_stream(self, requests, context):
        self.begin(context)
        return b"".join(requests)

    def server_stream(self, request, context):
        self.begin(context)
        order = json.loads(request)
        for n in range(order["count"]):
            yield bytes([n % 256]) * order["size"]

    def bidi(self, requests, context):
        self.begin(context)
        yield from requests

    def status(self, request, context):
        """Ends with the code and message it is told, and binary metadata in the trailers."""
        order = json.loads(request)
        trailers = [("x-trailer", "told"), ("x-trailer-bin", bytes(range(256)))]
        if "details" in order:
            trailers.append(("grpc-status-details-bin", order["details"].encode()))
        context.set_trailing_metadata(trailers)
        if order["code"] == 0:
            return request
        context.abort(CODES[order["code"]], order["message"])

    def time_left(self, _, context):
        left = context.time_remaining()
        # Without a deadline grpcio says None, or centuries.
        return b"none" if left is None or left > 1e8 else str(int(left * 1000)).encode()

    def slow(self, request, context):
        """Does not answer, but for headers if asked, and counts who gave up."""
        if request == b"begin":
            self.begin(context)
        ended = threading.Event()
        context.add_callback(ended.set)
        ended.wait(30)
        with self.lock:
            self.cancelled += 1
        return b""

    def gave_up(self, request, _):
        """Waits until so many have given up on `slow`; answers how many did."""
        until = time.monotonic() + 5
        while time.monotonic() < until:
            with self.lock:
                if self.cancelled >= int(request):
                    break
            time.sleep(0.01)
        return str(self.cancelled).encode()

    def gzip(self, request, context):
        context.set_compression(grpc.Compression.Gzip)
        self.begin(context)
        return request

    def peer(self, _, context):
        """Who the client says it is."""
        found = dict(context.invocation_metadata())
        return found.get("user-agent", "").encode()


def handlers(service):
    def raw(make, method):
        return make(method, request_deserializer=decode, response_serializer=encode)

    unary = grpc.unary_unary_rpc_method_handler
    methods = {
        "Unary": raw(unary, service.unary),
        "ClientStream": raw(grpc.stream_unary_rpc_method_handler, service.client_stream),
        "ServerStream": raw(grpc.unary_stream_rpc_method_handler, service.server_stream),
        "Bidi": raw(grpc.stream_stream_rpc_method_handler, service.bidi),
        "Status": raw(unary, service.status),
        "TimeLeft": raw(unary, service.time_left),
        "Slow": raw(unary, service.slow),
        "GaveUp": raw(unary, service.gave_up),
        "Gzip": raw(unary, service.gzip),
        "Peer": raw(unary, service.peer),
    }
    return grpc.method_handlers_generic_handler("interop.Test", methods)


def main():
    name, address, *tls = sys.argv[1:]
    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=32),
        options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)],
    )
    server.add_generic_rpc_handlers([handlers(Service(name))])
    checks = health.HealthServicer()
    checks.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    if tls:
        cert, key = (open(path, "rb").read() for path in tls)
        port = server.add_secure_port(address, grpc.ssl_server_credentials([(key, cert)]))
    else:
        port = server.add_insecure_port(address)
    server.start()
    print("ready", port, flush=True)
    for line in sys.stdin:
        if line.strip() == "drain":
            server.stop(10).wait()
            print("drained", flush=True)
    server.stop(None).wait()


if __name__ == "__main__":
    main()
