"""The demonstration's source: an HTTP/1.1 server of one folder, with ranges, that counts what leaves it.

Run as a process: `python -m scripts.demonstration.source --root DIR`. It prints `source ready: http://127.0.0.1:PORT`
and answers GET /__count with JSON {requests, body_bytes}. Bodies go out by sendfile(2), so that it takes little of the CPU
that the swarm is being measured on.
"""

import argparse
import json
import re
import signal
import socket
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

_RANGE: Final = re.compile(r"bytes=(\d+)-(\d*)")
_SLICE_BYTES: Final = 1 << 20
COUNT_PATH: Final = "/__count"


class SourceServer(ThreadingHTTPServer):
    """The server and its counters."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], root: Path, handler: "type[FileHandler] | None" = None) -> None:
        super().__init__(address, handler or FileHandler)
        self.root = root.resolve()
        self._lock = threading.Lock()
        self._requests = 0
        self._body_bytes = 0

    def count(self, *, requests: int = 0, body_bytes: int = 0) -> None:
        """Add to the counters; called from the connections' threads."""
        with self._lock:
            self._requests += requests
            self._body_bytes += body_bytes

    def counters(self) -> dict[str, int]:
        """Requests answered, and bytes of bodies handed to the kernel."""
        with self._lock:
            return {"requests": self._requests, "body_bytes": self._body_bytes}

    def handle_error(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        """A client that went away is nothing to talk about; anything else is."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class FileHandler(BaseHTTPRequestHandler):
    """One connection's requests."""

    protocol_version = "HTTP/1.1"
    server: SourceServer
    #: Bytes of body that left in this connection.
    sent_bytes = 0

    def do_GET(self) -> None:
        """Serve a file, a part of it, or the counters."""
        path = self.path.partition("?")[0]
        if path == COUNT_PATH:
            self._send_counters()
            return
        file = (self.server.root / path.lstrip("/")).resolve()
        if not file.is_relative_to(self.server.root) or not file.is_file():
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        self._send_file(file)

    do_HEAD = do_GET

    def _send_counters(self) -> None:
        body = json.dumps(self.server.counters()).encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _send_file(self, file: Path) -> None:
        size = file.stat().st_size
        asked = _RANGE.fullmatch(self.headers.get("Range", ""))
        first, last = (int(asked[1]), min(int(asked[2] or size - 1), size - 1)) if asked else (0, size - 1)
        self.server.count(requests=1)
        if asked and first > last:
            self.send_response(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
            self.send_header("Content-Range", f"bytes */{size}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(HTTPStatus.PARTIAL_CONTENT if asked else HTTPStatus.OK)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(last - first + 1))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{size:x}-{file.stat().st_mtime_ns:x}"')
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.end_headers()
        if self.command == "GET":
            self._send_body(file, first, last)

    def _send_body(self, file: Path, first: int, last: int) -> None:
        self.wfile.flush()
        with file.open("rb") as content:
            while first <= last:
                sent = self.connection.sendfile(content, first, min(_SLICE_BYTES, last + 1 - first))
                self.server.count(body_bytes=sent)
                self.sent_bytes += sent
                first += sent

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the counters tell all that is asked of this server."""


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="source", allow_abbrev=False)
    parser.add_argument("--root", type=Path, required=True, help="folder to serve")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with SourceServer(("127.0.0.1", arguments.port), arguments.root) as server:
        print(f"source ready: http://127.0.0.1:{server.server_address[1]}", flush=True)
        server.serve_forever(poll_interval=0.1)


if __name__ == "__main__":
    main()
