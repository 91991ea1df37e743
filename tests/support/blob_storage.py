"""The store behind a registry, as an S3 would be: serves signed URLs only, and writes down what leaves it.

`python -m tests.support.blob_storage --listen HOST:PORT --root DIR --log FILE` prints `storage ready`. A request without
Expires and Signature in its query is refused with 403.
"""

import argparse
import signal
import sys
from http import HTTPStatus
from pathlib import Path
from urllib.parse import parse_qs

from scripts.demonstration.source import FileHandler, SourceServer
from tests.support.access_log import Access, AccessLog


class _Storage(SourceServer):
    def __init__(self, address: tuple[str, int], root: Path, log: AccessLog) -> None:
        super().__init__(address, root, _SignedHandler)
        self.log = log


class _SignedHandler(FileHandler):
    server: _Storage
    _status = 0

    def do_GET(self) -> None:
        """Serve a file to whoever has a signature."""
        path, _, query = self.path.partition("?")
        self.sent_bytes = 0
        try:
            if {"Expires", "Signature"} <= parse_qs(query).keys():
                super().do_GET()
            else:
                self.send_error(HTTPStatus.FORBIDDEN, "not signed")
        finally:
            headers = {name.lower(): value for name, value in self.headers.items()}
            self.server.log.add(
                Access(
                    method=self.command, path=path, query=query, status=self._status, body_bytes=self.sent_bytes, headers=headers
                )
            )

    do_HEAD = do_GET

    def send_response(self, code: int, message: str | None = None) -> None:
        """Remember the status, too."""
        self._status = int(code)
        super().send_response(code, message)


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="blob_storage", allow_abbrev=False)
    parser.add_argument("--listen", required=True, help="HOST:PORT")
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--log", type=Path, required=True)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    host, _, port = arguments.listen.rpartition(":")
    with _Storage((host, int(port)), arguments.root, AccessLog(arguments.log)) as server:
        print("storage ready", flush=True)
        server.serve_forever(poll_interval=0.1)


if __name__ == "__main__":
    main()
