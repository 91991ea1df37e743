"""One driver process of `bench broker`: thousands of peers that speak to the broker as real ones do, each by a DEALER.

Each peer says HELLO, says ALIVE as often as it is told to, registers when the crowd comes, and keeps its leases: a leased
piece takes its size over the share of its parent's uplink (or of its own link, where that is less), is not there before
its parent has it, and is then reported at once, in one message with whatever else came in that moment. Nothing but the
payload is missing. The first process plays the seed, too.

**Whose lateness is measured.** A request is stamped when it is handed to ZeroMQ, and all answers that one look at the
sockets (epoll) finds are stamped by the time of that look, before any is read. What a driver spends on its own work
between two looks is not the broker's: of each answer's time that part is taken off in which the driver did not look.
The time with it is kept beside (`raw`), and how long looks were apart: where the two differ much, the driver was slow.
"""

import heapq
import json
import random
import resource
import select
import sys
import time
from array import array
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import zmq

from scripts.benchmark.broker_table import SwarmTable
from scripts.benchmark.broker_words import read, written
from wire.framing import MAX_FRAME_BYTES, to_frames
from wire.ids import task_id
from wire.messages import Hello, Kind, Message, Register, Role, Seeded
from wire.pieces import DIGEST_BYTES, PieceLayout, layout_for
from wire.version import PROTOCOL

REGISTERED, REPORTED, ALIVE = "register", "report", "alive"
#: A wait for something that takes no time of its own is at least so long.
_LEAST_WAIT_S: Final = 0.005
#: Timers that are handled before the sockets are looked at again: bounds how late an answer is seen.
_TIMERS_PER_LOOK: Final = 32
_DIGEST: Final = "sha256:" + "5" * 64
#: A look that took less than this found its answers waiting.
_BLOCKED_S: Final = 50e-6
_SOURCE: Final = "http://source.example/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What one driver process does. Rates in bytes per second, times in seconds."""

    driver: int
    drivers: int
    peers: int
    #: The peers of this process.
    first: int
    last: int
    port: int
    #: Tasks that the crowd wants (each peer one of them), and tasks that are known besides.
    active: int
    known: int
    size: int
    rate: float
    seed_rate: float
    hello_per_s: float
    crowd_s: float
    #: Which share of the peers is the crowd.
    wave: float
    table: str
    result: str


def is_in_wave(row: int, wave: float) -> bool:
    """Whether a peer is one of those that want something: spread over all drivers, the same in every process."""
    return row * 0.7548776662466927 % 1.0 < wave


def task_of(number: int) -> tuple[str, str]:
    """(task id, URL) of a task of the benchmark."""
    url = f"{_SOURCE}{number}"
    return task_id(url), url


class Lease:
    """Pieces that a peer fetches from one parent, one after the other."""

    __slots__ = ("number", "parent", "pieces", "reported_at")

    def __init__(self, number: int, parent: int) -> None:
        self.number = number
        self.parent = parent
        self.pieces: deque[int] = deque()
        #: When the last piece of it was reported; 0: that has been answered.
        self.reported_at = 0.0


class Peer:
    """One peer, or the seed."""

    __slots__ = (
        "alive_asked_at",
        "alive_every_s",
        "asked_at",
        "came",
        "held",
        "leases",
        "name",
        "row",
        "socket",
        "task",
    )

    def __init__(self, name: str, row: int, socket: "zmq.Socket[bytes]") -> None:
        self.name = name
        self.row = row
        self.socket = socket
        #: Number of the task that it wants.
        self.task = 0
        self.leases: dict[int, Lease] = {}
        self.held = 0
        self.came: list[tuple[int, int, float]] = []
        self.asked_at = 0.0
        self.alive_asked_at = 0.0
        self.alive_every_s = 1.0


class Driver:
    """The process."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._layout = layout_for(traffic.size)
        self._tasks = [task_of(number) for number in range(traffic.active + traffic.known)]
        self._number_of = {task: number for number, (task, _) in enumerate(self._tasks)}
        self._rng = random.Random(traffic.driver)
        self._table = SwarmTable(
            Path(traffic.table),
            rows=traffic.peers + traffic.active,
            pieces=self._layout.piece_count,
            drivers=traffic.drivers,
            driver=traffic.driver,
        )
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, 65_536)
        self._epoll = select.epoll()
        self._peers: dict[int, Peer] = {}
        self._again: list[int] = []
        self._timers: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._turn = 0
        self._looked_at = self._entered_at = time.monotonic()
        self._blind_from = self._blind_to = 0.0
        self._began = False
        self._stopped = False
        self._digests: dict[int, bytes] = {}
        self.samples = {kind: (array("f"), array("f")) for kind in (REGISTERED, REPORTED, ALIVE)}
        self.blind = array("f")
        self.counts = dict.fromkeys(
            ("welcomed", "registered", "granted", "reported", "complete", "not_known", "other", "late"), 0
        )

    # -- time -----------------------------------------------------------------------------------------------------------

    def _at(self, due: float, action: Callable[..., None], *given: Any) -> None:
        self._turn += 1
        heapq.heappush(self._timers, (due, self._turn, action, given))

    def run(self) -> None:
        """Connect, say so, wait for `go`, and play until `stop`; both are lines on stdin."""
        began_at = time.monotonic()
        if self._traffic.driver == 0:
            self._at(began_at, self._connect, "cdnnode:127.0.0.1-1-1700000000", self._traffic.peers)
        for number, row in enumerate(range(self._traffic.first, self._traffic.last)):
            name = f"10.{row >> 16}.{row >> 8 & 255}.{row & 255}-{row}-1700000000"
            self._at(began_at + 0.1 + number / self._traffic.hello_per_s, self._connect, name, row)
        self._epoll.register(sys.stdin.fileno(), select.EPOLLIN)
        while not self._stopped:
            self._look()
        self._write()
        self._context.destroy(linger=0)

    def _look(self) -> None:
        """One look at the sockets, and what is due."""
        entered_at = time.monotonic()
        wait_s = 0.0 if self._again else max(0.0, self._timers[0][0] - entered_at) if self._timers else 0.1
        ready = self._epoll.poll(min(wait_s, 0.1), 65_536)
        looked_at = time.monotonic()
        blocked = looked_at - entered_at > _BLOCKED_S
        # An answer that was here when this look began may have come at any time since the look before.
        self._blind_from, self._blind_to = (looked_at, looked_at) if blocked else (self._looked_at, entered_at)
        if self._began:
            self.blind.append(entered_at - self._looked_at)
        self._looked_at = looked_at
        again, self._again = self._again, []
        for descriptor in again:
            self._receive(self._peers[descriptor])
        for descriptor, _ in ready:
            peer = self._peers.get(descriptor)
            if peer is not None:
                self._receive(peer)
            else:
                self._commanded(sys.stdin.readline().strip())
        now, timers = time.monotonic(), self._timers
        for _ in range(_TIMERS_PER_LOOK):
            if not timers or timers[0][0] > now:
                break
            due, _, action, given = heapq.heappop(timers)
            if now - due > 0.02 and self._began:
                self.counts["late"] += 1
            action(due, *given)

    def _commanded(self, word: str) -> None:
        if word != "go":
            self._stopped = True
            return
        self._began = True
        now, traffic = time.monotonic(), self._traffic
        for peer in self._peers.values():
            if peer.row < traffic.peers and is_in_wave(peer.row, traffic.wave):
                self._at(now + self._rng.random() * traffic.crowd_s, self._register, peer, peer.row % traffic.active)

    # -- out ------------------------------------------------------------------------------------------------------------

    def _connect(self, due: float, name: str, row: int) -> None:
        socket = self._context.socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
        socket.connect(f"tcp://127.0.0.1:{self._traffic.port}")
        peer = Peer(name, row, socket)
        descriptor = int(socket.getsockopt(zmq.FD))
        self._peers[descriptor] = peer
        self._epoll.register(descriptor, select.EPOLLIN)
        is_seed = row == self._traffic.peers
        self._tell(
            peer,
            Hello(
                protocol=PROTOCOL,
                peer=name,
                role=Role.SEED if is_seed else Role.PEER,
                software="bench",
                host=f"host-{row}",
                data_endpoint=f"tcp://{name.split('-')[0].removeprefix('cdnnode:')}:15000",
                hint_endpoint=f"tcp://{name.split('-')[0].removeprefix('cdnnode:')}:15001",
            ),
        )

    def _tell(self, peer: Peer, message: Message) -> None:
        self._send(peer, to_frames(message)[0])  # type: ignore[arg-type]

    def _send(self, peer: Peer, frame: bytes) -> None:
        peer.socket.send(frame, zmq.NOBLOCK)
        # Sending may have swallowed the descriptor's edge (zmq_getsockopt(3), ZMQ_FD).
        if int(peer.socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            self._again.append(int(peer.socket.getsockopt(zmq.FD)))

    def _register(self, due: float, peer: Peer, task: int) -> None:
        peer.task = task
        peer.asked_at = time.monotonic()
        self._tell(peer, Register(task=self._tasks[task][0], url=self._tasks[task][1]))

    def _alive(self, due: float, peer: Peer) -> None:
        received = (0, 0, peer.held * self._layout.piece_length, 0)
        values: dict[str, Any] = {"received": received} if peer.held else {}
        if peer.leases:
            values = {"leases": tuple(peer.leases), **values}
        self._at(due + peer.alive_every_s, self._alive, peer)
        peer.alive_asked_at = time.monotonic()
        self._send(peer, written(Kind.ALIVE, values))

    def _report(self, due: float, peer: Peer) -> None:
        done, peer.came = peer.came, []
        now = time.monotonic()
        for number, _, _ in done:
            lease = peer.leases.get(number)
            if lease is not None:
                lease.reported_at = now
        self.counts["reported"] += len(done)
        self._send(peer, written(Kind.REPORT, {"task": self._tasks[peer.task][0], "done": done}))

    # -- in -------------------------------------------------------------------------------------------------------------

    def _receive(self, peer: Peer) -> None:
        socket = peer.socket
        try:
            while True:
                self._heard(peer, *read(socket.recv(zmq.NOBLOCK)))
                if not int(socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
                    return
        except zmq.Again:
            return

    def _answered(self, kind: str, asked_at: float) -> None:
        raw = max(0.0, self._looked_at - asked_at)
        blind = max(0.0, self._blind_to - max(self._blind_from, asked_at))
        if self._began:
            without, with_blind = self.samples[kind]
            without.append(max(0.0, raw - blind))
            with_blind.append(raw)

    def _heard(self, peer: Peer, kind: int, values: dict[str, Any]) -> None:
        if kind == Kind.LEASE:
            self._granted(peer, values)
        elif kind == Kind.ALIVE:
            if peer.alive_asked_at:
                self._answered(ALIVE, peer.alive_asked_at)
                peer.alive_asked_at = 0.0
            peer.alive_every_s = values.get("every_s", 0.0) or peer.alive_every_s
        elif kind == Kind.TASK:
            if peer.asked_at:
                self._answered(REGISTERED, peer.asked_at)
                self.counts["registered"] += 1
                peer.asked_at = 0.0
        elif kind == Kind.FETCH:
            self._fetch(peer, values["task"])
        elif kind == Kind.WELCOME:
            peer.alive_every_s = values.get("alive_every_s", 1.0)
            self.counts["welcomed"] += 1
            self._at(time.monotonic(), self._alive, peer)
            if peer.row < self._traffic.peers:
                for number in range(peer.row, self._traffic.known, self._traffic.peers):
                    task, url = self._tasks[self._traffic.active + number]
                    self._tell(peer, Register(task=task, url=url))
            wanted = self._traffic.last - self._traffic.first + (self._traffic.driver == 0)
            if self.counts["welcomed"] == wanted:
                print("connected", flush=True)
        else:
            self.counts["not_known" if kind == Kind.NOT_KNOWN else "other"] += 1

    # -- pieces ---------------------------------------------------------------------------------------------------------

    def _granted(self, peer: Peer, values: dict[str, Any]) -> None:
        number, parent = values["lease"], values["parent"]
        if values["task"] != self._tasks[peer.task][0]:  # one of those that are only known: it takes no time
            done = [(number, piece, 0.0) for piece in values["pieces"]]
            self._send(peer, written(Kind.REPORT, {"task": values["task"], "done": done}))
            return
        self.counts["granted"] += 1
        lease = peer.leases.get(number)
        if lease is None:
            row = self._traffic.peers + peer.task if parent.startswith("cdnnode:") else int(parent.split("-")[1])
            lease = peer.leases[number] = Lease(number, row)
            self._table.stream(row, +1)
        elif lease.reported_at:
            self._answered(REPORTED, lease.reported_at)
            lease.reported_at = 0.0
        idle = not lease.pieces
        lease.pieces.extend(values["pieces"])
        if idle:
            self._begin(time.monotonic(), peer, lease)

    def _begin(self, at: float, peer: Peer, lease: Lease) -> None:
        parent_rate = self._traffic.seed_rate if lease.parent >= self._traffic.peers else self._rate(lease.parent)
        shares = max(self._table.streams(lease.parent) / parent_rate, len(peer.leases) / self._rate(peer.row))
        seconds = self._layout.piece_span(lease.pieces[0])[1] * shares * self._rng.uniform(0.95, 1.05)
        self._at(at + seconds, self._arrives, peer, lease, seconds)

    def _rate(self, row: int) -> float:
        """A peer's link: half to double the usual one, the same in every process."""
        return self._traffic.rate * float(2.0 ** ((row * 0.6180339887498949 % 1.0) * 2 - 1))

    def _arrives(self, due: float, peer: Peer, lease: Lease, seconds: float) -> None:
        piece = lease.pieces[0]
        if not self._table.has(lease.parent, piece):  # its parent is still waiting for it
            self._at(due + max(_LEAST_WAIT_S, seconds / 10), self._arrives, peer, lease, seconds)
            return
        lease.pieces.popleft()
        if self._table.came(peer.row, piece):
            peer.held += 1
            if peer.held == self._layout.piece_count:
                self.counts["complete"] += 1
        if not peer.came:
            self._at(due, self._report, peer)
        peer.came.append((lease.number, piece, self._layout.piece_span(piece)[1] / max(seconds, 1e-6)))
        if lease.pieces:
            self._begin(due, peer, lease)
        else:
            del peer.leases[lease.number]
            self._table.stream(lease.parent, -1)

    # -- the seed -------------------------------------------------------------------------------------------------------

    def _fetch(self, seed: Peer, task: str) -> None:
        number = self._number_of[task]
        self._seeded(0.0, seed, number, 0)

    def _seeded(self, due: float, seed: Peer, number: int, piece: int) -> None:
        """The seed has read the pieces before `piece`; the source is as fast as the seed, shared by what is wanted."""
        layout = self._layout if number < self._traffic.active else PieceLayout(1, 1 << 18, 1 << 16)
        pieces: tuple[int, ...] = ()
        if piece:
            pieces = (piece - 1,)
            if number < self._traffic.active:
                self._table.came(self._traffic.peers + number, piece - 1)
        digests = b"".join(self._rng.randbytes(DIGEST_BYTES * layout.block_count(each)) for each in pieces)
        told = Seeded(
            task=self._tasks[number][0],
            length=layout.length,
            piece_length=layout.piece_length,
            block_length=layout.block_length,
            pieces=pieces,
            digests=digests,
            digest=_DIGEST if piece == layout.piece_count else None,
        )
        self._tell(seed, told)
        if piece < layout.piece_count:
            step_s = layout.piece_span(piece)[1] / self._traffic.seed_rate * self._traffic.active
            self._at((due or time.monotonic()) + step_s, self._seeded, seed, number, piece + 1)

    # -- the end --------------------------------------------------------------------------------------------------------

    def _write(self) -> None:
        for kind, (without, raw) in self.samples.items():
            for name, values in ((kind, without), (f"{kind}.raw", raw)):
                with Path(f"{self._traffic.result}.{name}").open("wb") as file:
                    values.tofile(file)
        with Path(f"{self._traffic.result}.blind").open("wb") as file:
            self.blind.tofile(file)
        usage = resource.getrusage(resource.RUSAGE_SELF)
        told = {**self.counts, "cpu_s": usage.ru_utime + usage.ru_stime}
        Path(f"{self._traffic.result}.json").write_text(json.dumps(told))


def main() -> int:
    """A driver process: its traffic as JSON is its one argument."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    Driver(Traffic(**json.loads(sys.argv[1]))).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
