"""A server of tokens for a registry with `auth: token`: who may pull what is a rule of two words.

`python -m tests.support.token_server --listen HOST:PORT --certificate F --key F --may USER:PASSWORD=PREFIX ...` prints
`tokens ready`. Everybody may pull what is under `library/`; a user what is under his prefix. Both forms of the question are
answered: GET with Basic, and OAuth2's POST.
"""

import argparse
import base64
import json
import signal
import ssl
import sys
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

_PUBLIC: Final = "library/"
ISSUER: Final = "test-issuer"
SERVICE: Final = "test-registry"
_LASTS_S: Final = 300


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], key: Path, certificate: Path, users: dict[str, str]) -> None:
        super().__init__(address, _Handler)
        loaded = serialization.load_pem_private_key(key.read_bytes(), None)
        assert isinstance(loaded, rsa.RSAPrivateKey)
        self._key = loaded
        shown = x509.load_pem_x509_certificate(certificate.read_bytes())
        self._chain = [base64.b64encode(shown.public_bytes(serialization.Encoding.DER)).decode()]
        self._users = users

    def handle_error(self, request: Any, client_address: object) -> None:
        """Clients go away."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def token(self, login: str | None, scopes: list[str]) -> str | None:
        """A token for what the user may of what he asks. None: he is not who he says."""
        if login is not None and login not in self._users:
            return None
        access = []
        for scope in scopes:
            kind, name, actions = scope.rsplit(":", 2)
            may = name.startswith(_PUBLIC) or (login is not None and name.startswith(self._users[login]))
            access.append(
                {"type": kind, "name": name, "actions": [each for each in actions.split(",") if may and each == "pull"]}
            )
        now = int(time.time())
        claims = {
            "iss": ISSUER, "sub": (login or "").partition(":")[0], "aud": SERVICE, "exp": now + _LASTS_S, "nbf": now - 60,
            "iat": now, "jti": uuid.uuid4().hex, "access": access,
        }  # fmt: skip
        head = {"typ": "JWT", "alg": "RS256", "x5c": self._chain}
        text = ".".join(_base64(json.dumps(part).encode()) for part in (head, claims))
        return f"{text}.{_base64(self._key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        """The docker form."""
        kind, _, coded = self.headers.get("Authorization", "").partition(" ")
        login = base64.b64decode(coded).decode() if kind.lower() == "basic" else None
        self._answer(login, parse_qs(urlsplit(self.path).query))

    def do_POST(self) -> None:
        """OAuth2's form: containerd with a login."""
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        login = f"{form['username'][0]}:{form['password'][0]}" if "password" in form else None
        self._answer(login, form)

    def _answer(self, login: str | None, asked: dict[str, list[str]]) -> None:
        token = self.server.token(login, " ".join(asked.get("scope", [])).split())
        told = {"token": token, "access_token": token, "expires_in": _LASTS_S} if token else {"details": "wrong name or password"}
        body = json.dumps(told).encode()
        self.send_response(200 if token else 401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="token_server", allow_abbrev=False)
    parser.add_argument("--listen", required=True, help="HOST:PORT, spoken to by https")
    parser.add_argument("--certificate", type=Path, required=True, help="of the server and of its signatures")
    parser.add_argument("--key", type=Path, required=True)
    parser.add_argument("--may", action="append", default=[], metavar="USER:PASSWORD=PREFIX")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    users = dict(each.split("=", 1) for each in arguments.may)
    host, _, port = arguments.listen.rpartition(":")
    with _Server((host, int(port)), arguments.key, arguments.certificate, users) as server:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(arguments.certificate, arguments.key)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        print("tokens ready", flush=True)
        server.serve_forever(poll_interval=0.1)


if __name__ == "__main__":
    main()
