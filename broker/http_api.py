"""The supernode over HTTP: the cluster document, health, version, metrics, tasks and peers. Reads; requests become events.

Driver, Tornado. Nothing secret is in any answer: no header, no query of a source's URL.
"""

from collections.abc import Iterable
from heapq import nsmallest
from typing import Any, Final

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from tornado.web import Application

from broker.api_door import DoorHandler
from broker.cache import http_cache
from broker.core.events import TaskDropped
from broker.core.state import PeerRecord, TaskRecord
from broker.http_handlers import VERSIONED, ApiHandler, ApiParts, Unknown
from broker.preheat import http_jobs, http_kraken, http_v1, http_v2
from wire.ids import is_task_id, url_without_secrets
from wire.messages import Origin
from wire.version import PROTOCOL

#: Entries of a list in one answer: writing one holds up the broker, which shares the loop.
_PAGE: Final = 1000
_LONGEST_PAGE: Final = 5000


class _NoRoute(ApiHandler):
    def prepare(self) -> None:
        raise Unknown("there is nothing at this path")


class _Ping(ApiHandler):
    def get(self) -> None:
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish("OK")


class _Version(ApiHandler):
    def get(self) -> None:
        self.finish({"Version": self.parts.version, "Protocol": ".".join(map(str, PROTOCOL)), "Server": "damselfly"})


class _Metrics(ApiHandler):
    async def get(self) -> None:
        if self.parts.seed_stores is not None:
            await self.parts.seed_stores.look()
        self.set_header("Content-Type", CONTENT_TYPE_LATEST)
        self.finish(generate_latest(self.parts.registry))


class _Cluster(ApiHandler):
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


class _List(ApiHandler):
    """Entries by their ids, `?limit=` of them `?after=` an id; `next` is what to give as `after` for those that follow."""

    def page(self, ids: Iterable[str]) -> tuple[list[str], str | None]:
        """The ids of this page, and `next`. By id, so that what comes and goes between two pages moves nothing else."""
        limit = self.number("limit", _PAGE, least=1, most=_LONGEST_PAGE)
        after = self.get_query_argument("after", "", strip=False)
        found = nsmallest(limit + 1, (each for each in ids if each > after))
        return found[:limit], found[limit - 1] if len(found) > limit else None


class _Peers(_List):
    def get(self) -> None:
        peers, now = self.parts.router.scheduler.state.peers, self.parts.now()
        page, following = self.page(peers)
        self.finish({"peers": [_peer(peers[each], now) for each in page], "next": following})


class _Peer(ApiHandler):
    def get(self, peer: str) -> None:
        record = self.parts.router.scheduler.state.peers.get(peer)
        if record is None:
            raise Unknown(f"no peer {peer[:64]} is here")
        self.finish(_peer(record, self.parts.now()))


class _Tasks(_List):
    def get(self) -> None:
        tasks, now = self.parts.router.scheduler.state.tasks, self.parts.now()
        page, following = self.page(tasks)
        self.finish({"tasks": [_task(tasks[each], now) for each in page], "next": following})


class _Task(DoorHandler):
    def prepare(self) -> None:
        """To see a task is open as everything else about the swarm; to delete it is the door's business, as for the cache."""
        if self.request.method == "DELETE":
            super().prepare()

    def get(self, task: str) -> None:
        record = self.parts.router.scheduler.state.tasks.get(task)
        if record is None:
            raise Unknown(f"no task {task[:64]} is known")
        self.finish(_task(record, self.parts.now()))

    def delete(self, task: str) -> None:
        if not is_task_id(task) or task not in self.parts.router.scheduler.state.tasks:
            raise Unknown(f"no task {task[:64]} is known")
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
    preheat = [*http_v1.ROUTES, *http_v2.ROUTES, *http_kraken.ROUTES, *http_jobs.ROUTES] if parts.preheat is not None else []
    return Application(
        [
            (rf"{VERSIONED}/_ping", _Ping, given),
            (rf"{VERSIONED}/version", _Version, given),
            (rf"{VERSIONED}/metrics", _Metrics, given),
            (rf"{VERSIONED}/cluster", _Cluster, given),
            (rf"{VERSIONED}/peers", _Peers, given),
            (rf"{VERSIONED}/peers/([^/]+)", _Peer, given),
            (rf"{VERSIONED}/tasks", _Tasks, given),
            (rf"{VERSIONED}/tasks/([0-9a-f]+)", _Task, given),
            *((path, handler, given) for path, handler in preheat),
            *((path, handler, given) for path, handler in (http_cache.ROUTES if parts.cache is not None else [])),
        ],
        default_handler_class=_NoRoute,
        default_handler_args=given,
        log_function=lambda handler: None,
    )


__all__ = ["ApiParts", "application"]
