"""Takes spans by OTLP over HTTP, decodes them with OpenTelemetry's own messages, and says each as a line of JSON.

Arguments: the status to answer with, then certificate and key where it is to speak TLS. The first line that it says is its port.
"""

import http.server
import json
import ssl
import sys

from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service

STATUS = int(sys.argv[1])


def value(any_value):
    kind = any_value.WhichOneof("value")
    return getattr(any_value, kind) if kind else None


def attributes(pairs):
    return {pair.key: value(pair.value) for pair in pairs}


def told(resource, scope, span, headers):
    return {
        "resource": attributes(resource.attributes),
        "scope": scope.name,
        "authorization": headers.get("Authorization"),
        "trace": span.trace_id.hex(),
        "span": span.span_id.hex(),
        "parent": span.parent_span_id.hex(),
        "name": span.name,
        "kind": span.kind,
        "start": span.start_time_unix_nano,
        "end": span.end_time_unix_nano,
        "attributes": attributes(span.attributes),
        "events": [
            {"name": event.name, "time": event.time_unix_nano, "attributes": attributes(event.attributes)}
            for event in span.events
        ],
        "error": span.status.message if span.status.code == span.status.STATUS_CODE_ERROR else None,
    }


class Collector(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        octets = self.rfile.read(int(self.headers["Content-Length"]))
        right = self.path == "/v1/traces" and self.headers["Content-Type"] == "application/x-protobuf"
        if right and STATUS == 200:
            request = service.ExportTraceServiceRequest.FromString(octets)
            for of_resource in request.resource_spans:
                for of_scope in of_resource.scope_spans:
                    for span in of_scope.spans:
                        print(json.dumps(told(of_resource.resource, of_scope.scope, span, self.headers)), flush=True)
        answer = service.ExportTraceServiceResponse().SerializeToString()
        self.send_response(STATUS if right else 400)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
if len(sys.argv) > 2:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2], sys.argv[3])
    server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
