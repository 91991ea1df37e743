"""The supernode over HTTP: the cluster document, health, version, metrics, tasks and peers. Reads; requests become events.

Driver, Tornado. Nothing secret is in any answer: no header, no query of a source's URL.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from tornado.web import Application, HTTPError, RequestHandler

from broker.core.events import TaskDropped
from broker.core.state import PeerRecord, TaskRecord
from broker.router import Router
from wire.ids import is_task_id, url_without_secrets
from wire.messages import Origin
from wire.version import PROTOCOL

_log = logging.getLogger("http")

#: Every route also exists below a version, as in 1.x.
_VERSIONED = r"(?:/(?:api/)?v[\d.]+)?"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiParts:
    """What the handlers stand on."""

    router: Router
    registry: CollectorRegistry
    version: str
    run_id: str
    #: The broker's endpoint as the asker reaches it, from the host name that it used.
    broker_endpoint: Callable[[str], str]
    began_at: float
    now: Callable[[], float]


class _Handler(RequestHandler):
    parts: ApiParts

    def initialize(self, parts: ApiParts) -> None:
        self.parts = parts

    def set_default_headers(self) -> None:
        self.set_header("Server", "damselfly")

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """1.x's shape of an error."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        self.finish({"code": status_code, "message": error.words if isinstance(error, _Unknown) else self._reason})

    def log_exception(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        """Our own errors, without the request: its query and headers are nobody's business."""
        if not isinstance(error, HTTPError):
            _log.error("%s %s cannot be answered", self.request.method, self.request.path, exc_info=error)


class _Unknown(HTTPError):
    """What was asked for is not here. The words reach the body only: what the asker said is no part of a status line."""

    def __init__(self, words: str) -> None:
        super().__init__(404)
        self.words = words


class _NoRoute(_Handler):
    def prepare(self) -> None:
        raise _Unknown("there is nothing at this path")


class _Ping(_Handler):
    def get(self) -> None:
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish("OK")


class _Version(_Handler):
    def get(self) -> None:
        self.finish({"Version": self.parts.version, "Protocol": ".".join(map(str, PROTOCOL)), "Server": "damselfly"})


class _Metrics(_Handler):
    def get(self) -> None:
        self.set_header("Content-Type", CONTENT_TYPE_LATEST)
        self.finish(generate_latest(self.parts.registry))


class _Cluster(_Handler):
    """What a peer asks first: where the broker is, and how this cluster is run."""

    def get(self) -> None:
        settings = self.parts.router.scheduler.settings
        self.finish(
            {
                "broker": self.parts.broker_endpoint(self.request.host_name),
                "protocol": list(PROTOCOL),
                "supernode": self.parts.run_id,
                "version": self.parts.version,
                "secured": False,
                "settings": {"alive_every_s": settings.alive_every_s, "lost_after_s": settings.lost_after_s},
            }
        )


class _Peers(_Handler):
    def get(self) -> None:
        peers = self.parts.router.scheduler.state.peers.values()
        self.finish({"peers": [_peer(peer, self.parts.now()) for peer in peers]})


class _Peer(_Handler):
    def get(self, peer: str) -> None:
        record = self.parts.router.scheduler.state.peers.get(peer)
        if record is None:
            raise _Unknown(f"no peer {peer[:64]} is here")
        self.finish(_peer(record, self.parts.now()))


class _Tasks(_Handler):
    def get(self) -> None:
        tasks = self.parts.router.scheduler.state.tasks.values()
        self.finish({"tasks": [_task(task, self.parts.now()) for task in tasks]})


class _Task(_Handler):
    def get(self, task: str) -> None:
        record = self.parts.router.scheduler.state.tasks.get(task)
        if record is None:
            raise _Unknown(f"no task {task[:64]} is known")
        self.finish(_task(record, self.parts.now()))

    def delete(self, task: str) -> None:
        if not is_task_id(task) or task not in self.parts.router.scheduler.state.tasks:
            raise _Unknown(f"no task {task[:64]} is known")
        self.parts.router.handle(TaskDropped(task=task))
        self.finish({"dropped": task})


def _peer(record: PeerRecord, now: float) -> dict[str, Any]:
    return {
        "id": record.peer,
        "role": record.role.name.lower(),
        "host": record.host,
        "version": record.software,
        "endpoint": record.data_endpoint,
        "location": record.location,
        "heard_s_ago": round(now - record.heard_at, 3),
        "here_for_s": round(now - record.joined_at, 3),
        "tasks": sorted(record.tasks),
        "strikes": len(record.strikes),
        "received_bytes": {origin.name.lower(): count for origin, count in zip(Origin, record.received, strict=False)},
        "sent_bytes": record.sent,
    }


def _task(record: TaskRecord, now: float) -> dict[str, Any]:
    layout = record.layout
    return {
        "id": record.task,
        "state": record.state.name.lower(),
        "url": url_without_secrets(record.spec.url),
        "length": layout.length if layout is not None else None,
        "piece_length": layout.piece_length if layout is not None else None,
        "block_length": layout.block_length if layout is not None else None,
        "pieces": layout.piece_count if layout is not None else None,
        "pieces_cached": record.pieces_cached,
        "digest": record.digest,
        "peers": len(record.members),
        "complete_peers": record.matcher.complete_peers if record.matcher is not None else 0,
        "age_s": round(now - record.born_at, 3),
        "code": record.code.name.lower() if record.code is not None else None,
        "status": record.status,
        "message": record.message,
    }


def application(parts: ApiParts) -> Application:
    """The supernode's HTTP application."""
    given = {"parts": parts}
    return Application(
        [
            (rf"{_VERSIONED}/_ping", _Ping, given),
            (rf"{_VERSIONED}/version", _Version, given),
            (rf"{_VERSIONED}/metrics", _Metrics, given),
            (rf"{_VERSIONED}/cluster", _Cluster, given),
            (rf"{_VERSIONED}/peers", _Peers, given),
            (rf"{_VERSIONED}/peers/([^/]+)", _Peer, given),
            (rf"{_VERSIONED}/tasks", _Tasks, given),
            (rf"{_VERSIONED}/tasks/([0-9a-f]+)", _Task, given),
        ],
        default_handler_class=_NoRoute,
        default_handler_args=given,
        log_function=lambda handler: None,
    )
