"""grpcio's own client on round_robin, for `cargo xtask interop`.

    client.py TARGET

Reads one order a line on stdin, as JSON, and answers each with one line of JSON: what came of so
many RPCs, by backend and by status code.
"""

import collections
import json
import sys
import time

import grpc

from wire import decode, encode

METHODS = {"unary": "unary_unary", "client_stream": "stream_unary",
           "server_stream": "unary_stream", "bidi": "stream_stream"}


def connect(target):
    config = json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})
    return grpc.insecure_channel(
        target,
        options=[
            ("grpc.service_config", config),
            # A list target would be sent as :authority, whole.
            ("grpc.default_authority", "interop.test"),
            ("grpc.enable_retries", 0),
            ("grpc.max_receive_message_length", -1),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
        ],
    )


def call(channel, order):
    """One RPC: the backend's name and the messages it answered."""
    kind = order.get("kind", "unary")
    method = getattr(channel, METHODS[kind])(
        order["path"], request_serializer=encode, response_deserializer=decode
    )
    messages = [order.get("text", "hello").encode() * order.get("times", 1)] * order.get("messages", 1)
    streams = kind in ("client_stream", "bidi")
    one_answer = kind in ("unary", "client_stream")
    start = method.future if one_answer else method
    begun = start(
        iter(messages) if streams else messages[0],
        timeout=order.get("timeout", 10),
        metadata=[("x-echo-bin", bytes(range(256)))],
        wait_for_ready=order.get("wait_for_ready", False),
    )
    answers = [begun.result()] if one_answer else list(begun)
    backend = dict(begun.initial_metadata()).get("x-backend", "?")
    return backend, answers == messages


def run(channel, order):
    backends, codes, details = collections.Counter(), collections.Counter(), ""
    wrong, started = 0, time.monotonic()
    for _ in range(order.get("count", 1)):
        try:
            backend, right = call(channel, order)
            backends[backend] += 1
            codes["OK"] += 1
            wrong += not right
        except grpc.RpcError as error:
            codes[error.code().name] += 1
            details = error.details()
    return {
        "backends": backends,
        "codes": codes,
        "wrong": wrong,
        "details": details,
        "ms": int((time.monotonic() - started) * 1000),
    }


def main():
    with connect(sys.argv[1]) as channel:
        for line in sys.stdin:
            print(json.dumps(run(channel, json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
