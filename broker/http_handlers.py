"""What every handler of the supernode's HTTP stands on: its parts, the shape of errors, and where routes are.

Driver, Tornado. Nothing secret is in any answer or log: no header, no query of a source's URL.
"""

import json
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, Final

from prometheus_client import CollectorRegistry
from tornado.web import HTTPError, RequestHandler

from broker.router import Router
from wire.vocabulary import LONGEST_S
from worker_peer.host.values import parse_duration

if TYPE_CHECKING:
    from broker.cache.metrics import SeedStores
    from broker.cache.questions import CacheQuestions
    from broker.preheat.service import Preheat

_log = logging.getLogger("http")

#: Every route also exists below a version, as in 1.x.
VERSIONED: Final = r"(?:/(?:api/)?v[\d.]+)?"
#: Methods that change nothing.
_READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_DAYS: Final = re.compile(r"([0-9]{1,4})d")
#: An escape that may be one.
_HALF_PAIR: Final = re.compile(rb"\\u[dD][89a-fA-F]")


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
    #: None: this supernode takes no jobs.
    preheat: "Preheat | None" = None
    #: None: hosts are not asked for their stores.
    cache: "CacheQuestions | None" = None
    #: What /metrics tells of seeds' stores. None: nothing.
    seed_stores: "SeedStores | None" = None


class ApiHandler(RequestHandler):
    parts: ApiParts

    def initialize(self, parts: ApiParts) -> None:
        self.parts = parts

    def prepare(self) -> None:
        """Refuses what a page in somebody's browser would change here (CWE-352, and by DNS rebinding): none is ours.

        Browsers say Origin with every POST and DELETE (Fetch standard, "append a request Origin header"), whatever
        type the body has; Harbor, registries, curl and our own commands never do.
        """
        if self.request.method in _READS:
            return
        site = self.request.headers.get("Sec-Fetch-Site", "none").strip().lower()
        if "Origin" in self.request.headers or site != "none":
            raise Told(403, "a page in a browser may change nothing here: use curl, supernode preheat or supernode cache")

    def set_default_headers(self) -> None:
        self.set_header("Server", "damselfly")

    def number(self, name: str, default: int, *, least: int = 0, most: int) -> int:
        """The whole number that the query's `name` says, `default` where it says none."""
        text = self.get_query_argument(name, str(default))
        if not (text.isascii() and text.isdigit() and len(text) < 17 and least <= int(text) <= most):
            raise Told(400, f"{name} is a number from {least} to {most}")
        return int(text)

    def document(self, otherwise: bytes = b"") -> dict[str, Any]:
        """The request's body, which must be a JSON object. `otherwise`: what an empty one stands for."""
        body = self.request.body or otherwise
        try:
            told = json.loads(body, parse_constant=_no_number)
            if _HALF_PAIR.search(body):
                # Half of a surrogate pair is no character: nobody could be told of it, on no wire and no disk.
                json.dumps(told, ensure_ascii=False).encode()
        except (ValueError, RecursionError):
            raise Told(400, "the body must be JSON") from None
        if not isinstance(told, dict):
            raise Told(400, "the body must be a JSON object")
        return told

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """1.x's shape of an error."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        self.finish({"code": status_code, "message": error.words if isinstance(error, Told) else self._reason})

    def log_exception(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        """Our own errors, without the request: its query and headers are nobody's business."""
        if not isinstance(error, HTTPError):
            _log.error("%s %s cannot be answered", self.request.method, self.request.path, exc_info=error)


class Told(HTTPError):
    """An error in words. They reach the body only: what the asker said is no part of a status line."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(status)
        self.words = words


class Unknown(Told):
    """What was asked for is not here."""

    def __init__(self, words: str) -> None:
        super().__init__(404, words)


def _no_number(text: str) -> float:
    """NaN and Infinity are Python's, not JSON's (RFC 8259): no comparison holds for them."""
    raise ValueError(text)


def seconds_of(told: Any, key: str) -> float | None:
    """A duration: a number of seconds, `7d`, or as Go writes them. None: not given."""
    if told is None or told == "":
        return None
    try:
        if isinstance(told, str):
            days = _DAYS.fullmatch(told)
            seconds = float(days[1]) * 86400 if days else parse_duration(told)
        elif isinstance(told, int | float) and not isinstance(told, bool):
            seconds = float(told)
        else:
            raise ValueError("it must be a duration")
    except OverflowError:
        seconds = inf
    except ValueError as error:
        raise Told(400, f"{key}: {error}") from None
    if not 0 <= seconds <= LONGEST_S:
        raise Told(400, f"{key} must be from 0 to {LONGEST_S:g} seconds (11 days)")
    return seconds
