"""Errands: what hosts have been told to warm, and have not said the end of yet.

Pure. The host's side of it is its warming (worker_peer/core/warming.py). A peer is told of a few tasks at a time; the others
wait for their turn. One that has gone may come back within a grace, as after a restart of the supernode, and is told again;
one that says nothing is told again, and then held for lost.
"""

from collections import defaultdict
from dataclasses import dataclass

from broker.core.preheat_events import AskWarm
from broker.core.preheat_records import SEED_HOST


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrandSettings:
    """How much at once, and how patient. Times in seconds."""

    per_peer: int = 4
    """Tasks that a peer is told to warm at the same time."""

    grace_s: float = 20.0
    """A peer that has gone may come back for so long: its process lives, and the supernode or the network was away."""

    silence_s: float = 15.0
    """WARM is said again to a peer that has said nothing of the task for so long; it is to speak every second."""

    tellings: int = 4
    """A peer that has been told so often, and is silent, is lost."""


@dataclass(slots=True, kw_only=True)
class Errand:
    """One task that one host is to have, and has not proven yet."""

    task: str
    #: SEED_HOST or the peer's id.
    host: str
    peer: str
    job: int
    keep_s: float
    #: Since when the peer has been away; None: it is here.
    away_at: float | None = None
    #: It has been told, and has not ended.
    is_told: bool = False
    heard_at: float = 0.0
    tellings: int = 0


class Errands:
    """All of them."""

    def __init__(self, settings: ErrandSettings | None = None) -> None:
        self.settings = settings or ErrandSettings()
        self._present: set[str] = set()
        self._all: dict[tuple[str, str], Errand] = {}
        self._of_peer: dict[str, dict[str, Errand]] = defaultdict(dict)

    def __len__(self) -> int:
        return len(self._all)

    def find(self, host: str, task: str) -> Errand | None:
        """The one of a host and a task."""
        return self._all.get((host, task))

    def ask(self, errand: Errand, now: float) -> list[AskWarm]:
        """Begin one. Where the host is warming the task already, what it is told to keep it for may grow."""
        known = self._all.get((errand.host, errand.task))
        if known is not None and known.peer == errand.peer:
            if errand.keep_s <= known.keep_s:
                return []
            known.keep_s = errand.keep_s
            return [self._told(known, now)] if known.is_told else []
        asked = self.end(errand.host, errand.task, now)
        self._all[errand.host, errand.task] = errand
        self._of_peer[errand.peer][errand.task] = errand
        if errand.peer not in self._present:
            errand.away_at = now
        return asked + self._next(errand.peer, now)

    def heard(self, peer: str, task: str, now: float) -> Errand | None:
        """A peer speaks of a task. None: it was not asked for that."""
        errand = self._of_peer.get(peer, {}).get(task)
        if errand is not None:
            errand.heard_at, errand.tellings = now, 1
        return errand

    def end(self, host: str, task: str, now: float, *, cancel: bool = False) -> list[AskWarm]:
        """One is over: another may begin. `cancel`: its peer is told to stop."""
        errand = self._all.pop((host, task), None)
        if errand is None:
            return []
        mine = self._of_peer[errand.peer]
        del mine[task]
        asked = []
        if cancel and errand.is_told:
            asked.append(AskWarm(peer=errand.peer, task=task, job=errand.job, keep_s=0.0, cancel=True))
        if not mine:
            del self._of_peer[errand.peer]
            return asked
        return asked + self._next(errand.peer, now)

    def peer_here(self, peer: str, now: float) -> list[AskWarm]:
        """A peer has said HELLO, maybe not for the first time: what it was told may not have reached it."""
        self._present.add(peer)
        for errand in self._of_peer.get(peer, {}).values():
            errand.away_at, errand.is_told, errand.tellings = None, False, 0
        return self._next(peer, now)

    def peer_gone(self, peer: str, now: float) -> None:
        """A peer has gone: perhaps it comes back."""
        self._present.discard(peer)
        for errand in self._of_peer.get(peer, {}).values():
            errand.away_at, errand.is_told = now, False

    def tick(self, now: float) -> tuple[list[AskWarm], list[tuple[Errand, str]]]:
        """What is to be said again, and those that are lost, with the reason. The caller ends these."""
        asked: list[AskWarm] = []
        lost: list[tuple[Errand, str]] = []
        for errand in self._all.values():
            if errand.away_at is not None:
                if now - errand.away_at >= self.settings.grace_s:
                    lost.append((errand, f"the host has gone, and did not come back within {self.settings.grace_s:g} s"))
            elif errand.is_told and now - errand.heard_at >= self.settings.silence_s:
                if errand.tellings >= self.settings.tellings:
                    silent_s = errand.tellings * self.settings.silence_s
                    lost.append((errand, f"the host has said nothing of it for {silent_s:g} s: look into its log"))
                else:
                    asked.append(self._told(errand, now))
        return asked, lost

    def _next(self, peer: str, now: float) -> list[AskWarm]:
        """Tell a peer of as many as it may have at a time. The seed's number is bounded by the jobs' own."""
        mine = self._of_peer.get(peer, {})
        if peer not in self._present:
            return []
        room = self.settings.per_peer - sum(each.is_told for each in mine.values() if each.host != SEED_HOST)
        asked = []
        for errand in mine.values():
            if errand.is_told:
                continue
            if errand.host != SEED_HOST:
                if room <= 0:
                    continue
                room -= 1
            asked.append(self._told(errand, now))
        return asked

    def _told(self, errand: Errand, now: float) -> AskWarm:
        errand.is_told, errand.heard_at = True, now
        errand.tellings += 1
        return AskWarm(peer=errand.peer, task=errand.task, job=errand.job, keep_s=errand.keep_s)

    def validate(self) -> None:
        """Raise AssertionError where the indexes contradict each other."""
        for (host, task), errand in self._all.items():
            assert (errand.host, errand.task) == (host, task)
            assert self._of_peer[errand.peer][task] is errand
            assert host in (SEED_HOST, errand.peer)
            assert (errand.away_at is None) == (errand.peer in self._present), errand
            assert not (errand.is_told and errand.away_at is not None)
        assert sum(map(len, self._of_peer.values())) == len(self._all)
        for peer, mine in self._of_peer.items():
            told = [each for each in mine.values() if each.host != SEED_HOST and each.is_told]
            assert len(told) <= self.settings.per_peer
            waits = [each for each in mine.values() if each.host != SEED_HOST and not each.is_told]
            assert not waits or peer not in self._present or len(told) == self.settings.per_peer, "one waits, and could begin"
