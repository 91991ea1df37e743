"""The stores over HTTP, behind the same door as jobs. A host is `seed`, a peer's id, a host's name or its address.

GET /cache?host=&after=&limit=          contents by task with the hosts that have them, and how full each host is
GET /cache?task=<first digits>          the contents that begin so
POST /cache/<task>/pin {keep}?host=     keep it for so long (default 24h); without hosts: on the seeds
DELETE /cache/<task>/pin?host=          no longer
DELETE /cache/<task>?host=              delete it, kept or not; without hosts: everywhere
POST /cache/gc {free}?host=             delete what the rules want deleted, or so many bytes; without hosts: on the seeds
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from broker.api_door import DoorHandler
from broker.cache.questions import TooManyQuestions
from broker.cache.stores import Answers, chosen, contents_told, host_told, left_told, matching
from broker.core.events import TaskDropped
from broker.core.state import PeerRecord
from broker.http_handlers import VERSIONED, Told, Unknown, seconds_of
from wire.ids import is_task_id
from wire.messages import CacheList, CachePage, Collect, Drop, Keep, Message
from worker_peer.host.values import parse_size

_PAGE: Final = 100
_LONGEST_PAGE: Final = 1000
#: Rows of one answer, all hosts together: writing it holds up the broker, which shares the loop.
_MOST_ROWS: Final = 100_000
_FEWEST_DIGITS: Final = 4
#: Tasks that differ in their last digit alone: among so many behind what they share is each of them.
_SIBLINGS: Final = 16
_KEEP_S: Final = 86_400.0


class CacheHandler(DoorHandler):
    """A handler of stores."""

    def hosts(self, otherwise: str = "") -> dict[str, PeerRecord]:
        """The peers that are named; else those of `otherwise`, else all. By peer id."""
        records = self.parts.router.scheduler.state.peers
        asked = [name.strip() for text in self.get_query_arguments("host") for name in text.split(",") if name.strip()]
        names = asked or ([otherwise] if otherwise else [])
        if not names:
            return dict(records)
        found, absent = chosen(records.values(), names)
        if absent:
            raise Unknown(
                f"no host {', '.join(name[:64] for name in absent)} is here: name seed, or a host by its name, address, "
                "address:port or peer id, as supernode cache ls --json and GET /peers say them"
            )
        return {each.peer: each for each in found}

    async def ask(self, hosts: dict[str, PeerRecord], question: Callable[[int], Message]) -> Answers:
        """What each host answers, or why it does not."""
        assert self.parts.cache is not None
        try:
            return await self.parts.cache.ask(list(hosts.values()), question)
        except TooManyQuestions as error:
            raise Told(503, str(error)) from None

    async def whole_id(self, task: str, hosts: dict[str, PeerRecord]) -> str:
        """The task that these first digits mean on these hosts."""
        if is_task_id(task):
            return task
        found = await self.beginning_so(task, hosts)
        if len(found) == 1:
            return found[0]
        if found:
            raise Told(
                409, f"{task} means {len(found)} contents, {found[0][:16]} and {found[1][:16]} among them: give more digits"
            )
        raise Unknown(f"no host has a content whose task begins with {task}")

    async def beginning_so(self, digits: str, hosts: dict[str, PeerRecord]) -> list[str]:
        """The tasks that begin with these digits."""
        if len(digits) < _FEWEST_DIGITS:
            raise Told(400, f"give at least {_FEWEST_DIGITS} digits of the task")
        # What follows "ab" begins with it, or comes after all that do.
        return matching(await self.ask(hosts, partial(_list, after=digits, limit=_PAGE)), digits)

    def tell(self, hosts: dict[str, PeerRecord], answers: Answers, **more: Any) -> None:
        """Answer with what became of it on each host."""
        self.finish(more | {"hosts": [host_told(hosts[peer], answers[peer]) for peer in sorted(answers)]})


def _list(number: int, *, after: str, limit: int) -> CacheList:
    return CacheList(number=number, after=after, limit=limit)


class _Contents(CacheHandler):
    async def get(self) -> None:
        hosts = self.hosts()
        digits = self.get_query_argument("task", "")
        if digits:
            await self._one(hosts, digits)
            return
        limit = self.number("limit", _PAGE, least=1, most=_LONGEST_PAGE)
        after = self.get_query_argument("after", "")
        if len(after) > 64:
            raise Told(400, "after is a task: 64 hexadecimal digits")
        if limit * len(hosts) > _MOST_ROWS:
            raise Told(400, f"{len(hosts)} hosts with {limit} contents each are too many: name hosts, or a smaller limit")
        answers = await self.ask(hosts, partial(_list, after=after, limit=limit))
        contents, following = contents_told(hosts, answers, limit)
        self.tell(hosts, answers, contents=contents, next=following)

    async def _one(self, hosts: dict[str, PeerRecord], digits: str) -> None:
        if not (digits.isascii() and digits.isalnum() and len(digits) <= 64):
            raise Told(400, "task is the first digits of a task's id")
        after = digits if len(digits) < 64 else digits[:-1]
        answers = await self.ask(hosts, partial(_list, after=after, limit=_PAGE))
        contents, _ = contents_told(hosts, answers, _PAGE * max(1, len(hosts)))
        self.tell(hosts, answers, contents=[each for each in contents if each["task"].startswith(digits)], next=None)


class _Content(CacheHandler):
    async def delete(self, task: str) -> None:
        hosts = self.hosts()
        task = await self.whole_id(task, hosts)

        def look(number: int) -> CacheList:
            return _list(number, after=task[:-1], limit=_SIBLINGS)

        answers = await self.ask(hosts, look)
        is_known = task in self.parts.router.scheduler.state.tasks
        having = {peer: hosts[peer] for peer, page in answers.items() if _has(page, task)}
        silent = [peer for peer, page in answers.items() if isinstance(page, str)]
        if not self.get_query_arguments("host") and (is_known or having or silent):
            # Nobody is to be sent for it any more.
            self.parts.router.handle(TaskDropped(task=task))
        elif not having and not silent:
            raise Unknown(f"task {task[:16]} is on none of {len(hosts)} hosts: there is nothing to delete")
        for peer in hosts if is_known else (*having, *silent):
            self.parts.router.tell(peer, Drop(task=task))
        # Asked behind it: what is still there then is in use.
        answers = {**answers, **await self.ask(hosts if is_known else having, look)}
        left = [peer for peer, page in answers.items() if _has(page, task)]
        self.tell(hosts, answers, task=task, in_use=sorted(left), deleted=sorted(having.keys() - set(left)))


def _has(page: CachePage | str, task: str) -> bool:
    return not isinstance(page, str) and any(row[0] == task for row in page.contents)


class _Pin(CacheHandler):
    async def post(self, task: str) -> None:
        keep_s = seconds_of(self.document(b"{}").get("keep"), "keep")
        await self._keep(task, _KEEP_S if keep_s is None else keep_s)

    async def delete(self, task: str) -> None:
        await self._keep(task, 0.0)

    async def _keep(self, task: str, keep_s: float) -> None:
        hosts = self.hosts(otherwise="seed")
        task = await self.whole_id(task, hosts)

        def keep(number: int) -> Keep:
            return Keep(number=number, task=task, keep_s=keep_s)

        answers = await self.ask(hosts, keep)
        contents, _ = contents_told(hosts, answers, 1)
        refused = [page if isinstance(page, str) else page.refused for page in answers.values()]
        if not contents and any(refused):
            raise Told(409, next(filter(None, refused)))
        if not contents:
            raise Unknown(f"task {task[:16]} is not on {'these hosts' if len(hosts) > 1 else 'this host'}: preheat it first")
        errors = [host_told(hosts[peer], page) for peer, page in answers.items()]
        lacking = [each for each in errors if each["peer"] not in {has["peer"] for has in contents[0]["hosts"]}]
        self.finish(contents[0] | {"hosts": [each | {"error": None} for each in contents[0]["hosts"]] + lacking})


class _Collect(CacheHandler):
    async def post(self) -> None:
        wanted = self.document(b"{}").get("free", 0)
        try:
            free = parse_size(wanted) if isinstance(wanted, str | int) else -1
            if not 0 <= free < 1 << 53:
                raise ValueError("it must be a size, as 10GB")
        except ValueError as error:
            raise Told(400, f"free: {error}") from None
        hosts = self.hosts(otherwise="seed")

        def collect(number: int) -> Collect:
            return Collect(number=number, free=free)

        answers = await self.ask(hosts, collect)
        pages = [page for page in answers.values() if not isinstance(page, str)]
        removed, removed_bytes = sum(page.removed for page in pages), sum(page.removed_bytes for page in pages)
        self.tell(hosts, answers, removed=removed, removed_bytes=removed_bytes, left=left_told(pages))


ROUTES: Final[list[tuple[str, type[CacheHandler]]]] = [
    (rf"{VERSIONED}/cache", _Contents),
    (rf"{VERSIONED}/cache/gc", _Collect),
    (rf"{VERSIONED}/cache/([0-9a-f]+)", _Content),
    (rf"{VERSIONED}/cache/([0-9a-f]+)/pin", _Pin),
]
