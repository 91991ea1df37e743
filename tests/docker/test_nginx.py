"""The gateway's answers beside nginx's, on the same file: ranges, conditions, and what a client may ask of an HTTP server."""

import hashlib
import http.client
import random
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from scripts.benchmark.nginx import start_nginx
from scripts.demonstration.swarm import LOOPBACK, Swarm, program
from tests.support.processes import running_processes
from tests.support.swarm import short_directory

pytestmark = [pytest.mark.docker, pytest.mark.timeout(120)]

_DATA: Final = random.Random(3).randbytes(700_001)
_N: Final = len(_DATA)
#: By its digest, as registries name it; and by a name that says nothing.
_PATHS: Final = (f"/v2/team/app/blobs/sha256:{hashlib.sha256(_DATA).hexdigest()}", "/files/plain.bin")
_EMPTY: Final = "/files/empty.bin"
_COMPARED: Final = ("content-type", "content-length", "content-range", "etag", "last-modified")


@dataclass(frozen=True, kw_only=True)
class Pair:
    """nginx, and a gateway before it."""

    nginx: int
    gateway: int

    def p2p(self) -> float:
        """Answers by the swarm so far."""
        text = _ask(self.gateway, "GET", "/metrics", {}).body.decode()
        found = [
            line for line in text.splitlines() if line.startswith('dragonfly_dfdaemon_requests_total{status="2xx",verdict="p2p"}')
        ]
        return float(found[0].split()[-1]) if found else 0.0


@dataclass(frozen=True, kw_only=True)
class Got:
    """An answer."""

    status: int
    headers: dict[str, str]
    body: bytes = field(repr=False)


def _ask(port: int, method: str, target: str, headers: dict[str, str], host: str = LOOPBACK) -> Got:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=30)
    try:
        connection.request(method, target, headers={"Host": host, **headers})
        answer = connection.getresponse()
        return Got(status=answer.status, headers={k.lower(): v for k, v in answer.getheaders()}, body=answer.read())
    finally:
        connection.close()


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """Real processes: nginx, supernode and dfdaemon."""
    with short_directory() as directory, running_processes(directory) as processes:
        for path in _PATHS:
            file = Path(f"{directory}/files{path}")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(_DATA)
        (directory / "files" / _EMPTY.lstrip("/")).write_bytes(b"")
        with socket.create_server((LOOPBACK, 0)) as free:
            port = free.getsockname()[1]
        start_nginx(processes, list, directory, LOOPBACK, port)
        supernode = Swarm(processes, directory).start_supernode()
        config = directory / "dfdaemon.yml"
        home = directory / "home"
        config.write_text(
            f"port: 0\nlocalIP: {LOOPBACK}\nworkHome: {home}\nsupernodes: ['{supernode.node}']\n"
            "proxies: [{regx: 'blobs/sha256|/files/'}]\n"
        )
        started = processes.start("dfdaemon", [program("dfdaemon"), "--config", str(config)])
        found = started.wait_for(r"dfdaemon ready: http://127\.0\.0\.1:(\d+)")
        yield Pair(nginx=port, gateway=int(found[1]))


def _both(pair: Pair, path: str, headers: dict[str, str], method: str = "GET") -> tuple[Got, Got]:
    """nginx's answer and the gateway's."""
    host = f"{LOOPBACK}:{pair.nginx}"
    return _ask(pair.nginx, method, path, headers, host), _ask(pair.gateway, method, f"http://{host}{path}", headers, host)


def _same(nginx: Got, gateway: Got) -> None:
    assert gateway.status == nginx.status
    compared = _COMPARED if nginx.status in (200, 206) else ("content-range", "etag", "last-modified")
    if nginx.headers.get("content-type", "").startswith("multipart/"):
        compared = ("content-length", "etag", "last-modified")
        assert gateway.headers["content-type"].startswith("multipart/byteranges; boundary=")
        # Byte for byte, but for the boundary, which is as long.
        one, other = (got.headers["content-type"].partition("boundary=")[2].encode() for got in (nginx, gateway))
        assert nginx.body.replace(one, b"=") == gateway.body.replace(other, b"=")
    elif nginx.status in (200, 206):
        assert gateway.body == nginx.body
    for name in compared:
        if nginx.status == 416 and name != "content-range":
            continue
        assert gateway.headers.get(name) == nginx.headers.get(name), name


@pytest.mark.parametrize("path", _PATHS, ids=["blob", "file"])
@pytest.mark.parametrize(
    "value",
    [
        "bytes=0-", "bytes=0-0", "bytes=0-499", "bytes=500-999", "bytes=-1", "bytes=-500", "bytes=-99999999",
        f"bytes={_N - 1}-", f"bytes={_N - 1}-{_N + 5}", "bytes=65535-65536", "bytes=131071-262145", "BYTES=1-2",
        "bytes= 3-4", f"bytes={_N}-", f"bytes={_N + 9}-{_N + 10}", "bytes=-0", "bytes=5-2", "bytes=a-b", "bytes=-",
        "bytes=--1", "bytes=1", "bytes=1-2x", "bytes=", "bytes", "lines=0-1", "bytes=0-0,-1",
        "bytes=0-0, 5-6 ,100000-200000", "bytes=5-6,1-2", "bytes=0-9,5-14", f"bytes=0-0,{_N}-",
        f"bytes={_N}-,{_N + 1}-", "bytes=0-,0-", "bytes=0-0,", "bytes=,0-0", f"bytes=0-{_N - 1}", f"bytes=1-,-{_N - 1}",
    ],
)  # fmt: skip
def test_ranges_are_answered_as_nginx_answers_them(pair: Pair, path: str, value: str) -> None:
    before = pair.p2p()
    nginx, gateway = _both(pair, path, {"Range": value})
    _same(nginx, gateway)
    # Out of the swarm, not passed on.
    assert nginx.status == 416 or pair.p2p() == before + 1


@pytest.mark.parametrize("path", _PATHS, ids=["blob", "file"])
def test_conditions_are_judged_as_nginx_judges_them(pair: Pair, path: str) -> None:
    whole, _ = _both(pair, path, {})
    etag, modified = whole.headers["etag"], whole.headers["last-modified"]
    old = "Wed, 21 Oct 2015 07:28:00 GMT"
    for headers in [
        {},
        {"If-None-Match": etag},
        {"If-None-Match": f'"x", {etag}'},
        {"If-None-Match": f"W/{etag}"},
        {"If-None-Match": '"x"'},
        {"If-None-Match": "*"},
        {"If-Modified-Since": modified},
        {"If-Modified-Since": old},
        {"If-Modified-Since": "nonsense"},
        {"If-Match": etag},
        {"If-Match": '"x"'},
        {"If-Match": "*"},
        {"If-Unmodified-Since": modified},
        {"If-Unmodified-Since": old},
        {"Range": "bytes=5-9", "If-Range": etag},
        {"Range": "bytes=5-9", "If-Range": '"x"'},
        {"Range": "bytes=5-9", "If-Range": modified},
        {"Range": "bytes=5-9", "If-Range": old},
        {"Range": "bytes=5-9", "If-Range": "nonsense"},
        {"Range": "bytes=5-9", "If-None-Match": etag},
        {"Range": "bytes=5-9", "If-None-Match": '"x"'},
        {"Range": f"bytes={_N}-", "If-Range": '"x"'},
        {"Accept-Encoding": "gzip"},
    ]:
        nginx, gateway = _both(pair, path, headers)
        _same(nginx, gateway)
    if path == _PATHS[0]:
        # A registry's own tag for the content is this one's, too.
        digest = path.rpartition("/")[2]
        assert _both(pair, path, {"If-None-Match": f'"{digest}"'})[1].status == 304


@pytest.mark.parametrize("path", [*_PATHS, _EMPTY], ids=["blob", "file", "empty"])
@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=0-4"}, {"Range": "bytes=-5"}, {"Range": "bytes=9-"}])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_heads_and_empty_files_too(pair: Pair, path: str, headers: dict[str, str], method: str) -> None:
    _same(*_both(pair, path, headers, method))


def test_what_is_not_there_is_nginxs_own_answer(pair: Pair) -> None:
    for method, path in (("GET", "/files/none"), ("HEAD", "/files/none"), ("DELETE", _PATHS[1]), ("POST", _PATHS[1])):
        nginx, gateway = _both(pair, path, {}, method)
        assert (gateway.status, gateway.body) == (nginx.status, nginx.body)
