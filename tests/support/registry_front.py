"""A thin server in front of a real registry: it adds what the registry of the user's document does and Debian's cannot.

It may speak TLS. Into each redirect it puts the bucket, and a query with Expires, KSSAccessKeyId and a Signature that
differs at every request. It writes down what leaves it. Everything else goes through as it is.

`python -m tests.support.registry_front --listen HOST:PORT --upstream HOST:PORT --bucket NAME --log FILE
[--certificate F --key F]` prints `front ready`.
"""

import argparse
import http.client
import itertools
import signal
import socket
import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

from tests.support.access_log import Access, AccessLog

_SLICE_BYTES: Final = 1 << 16
_NOT_PASSED_ON: Final = {"connection", "keep-alive", "transfer-encoding"}


class _Front(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], upstream: str, bucket: str, log: AccessLog) -> None:
        super().__init__(address, _FrontHandler)
        self.bucket = bucket
        self.upstream = upstream
        self.log = log
        self.signatures = itertools.count(1)

    def handle_error(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        """Clients go away, and some say no TLS: neither is worth a trace."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _FrontHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Front

    def do_GET(self) -> None:
        """Ask the registry and pass on what it says."""
        body_bytes = 0
        upstream = http.client.HTTPConnection(self.server.upstream, timeout=60)
        try:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            # One by one: dockerd sends six headers named Accept.
            for name, value in self.headers.items():
                if name.lower() not in _NOT_PASSED_ON:
                    upstream.putheader(name, value)
            upstream.endheaders()
            answer = upstream.getresponse()
            self._send_head(answer)
            while self.command == "GET" and (part := answer.read(_SLICE_BYTES)):
                self.wfile.write(part)
                body_bytes += len(part)
        finally:
            upstream.close()
        path, _, query = self.path.partition("?")
        seen = {name.lower(): value for name, value in self.headers.items()}
        self.server.log.add(
            Access(method=self.command, path=path, query=query, status=answer.status, body_bytes=body_bytes, headers=seen)
        )

    do_HEAD = do_GET

    def _send_head(self, answer: http.client.HTTPResponse) -> None:
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in _NOT_PASSED_ON:
                self.send_header(name, self._signed(value) if name.lower() == "location" else value)
        if answer.getheader("Content-Length") is None and answer.status >= 200:
            # Its length is not known here: the end of the connection ends it.
            self.send_header("Connection", "close")
        self.end_headers()

    def _signed(self, location: str) -> str:
        number = next(self.server.signatures)
        # The registry's redirect middleware keeps of its base URL only the host.
        location = location.replace("/docker/", f"/{self.server.bucket}/docker/", 1)
        signature = f"LNvgD8CLY6gxEn5NyduM{number}%3D"
        return f"{location}?Expires={1604406484 + number}&KSSAccessKeyId=bzMoctdKv0tXPJMHOkdn&Signature={signature}"

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the access log has it."""


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="registry_front", allow_abbrev=False)
    parser.add_argument("--listen", required=True, help="HOST:PORT")
    parser.add_argument("--upstream", required=True, help="HOST:PORT")
    parser.add_argument("--bucket", required=True, help="first folder of redirects' paths")
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--certificate", type=Path)
    parser.add_argument("--key", type=Path)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    host, _, port = arguments.listen.rpartition(":")
    with _Front((host, int(port)), arguments.upstream, arguments.bucket, AccessLog(arguments.log)) as server:
        if arguments.certificate is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(arguments.certificate, arguments.key)
            # The handshake belongs to the connection's thread, not to the one that accepts.
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        print("front ready", flush=True)
        server.serve_forever(poll_interval=0.1)


if __name__ == "__main__":
    main()
