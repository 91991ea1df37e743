"""The host's control socket: dfget asks the running peer to bring a content, over ipc in the peer's home.

Driver, on the loop. A ROUTER, since several dfgets may ask at once; PROTOCOL.md, "dfget and the host's peer". A dfget that
has fallen silent is given up, and its download with it.
"""

import asyncio
import fcntl
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, TextIO

import zmq

from wire.errors import ErrorCode, RemoteError
from wire.framing import MAX_FRAME_BYTES, from_frames, to_frames
from wire.handshake import agree
from wire.ids import ByteRange
from wire.messages import Alive, Cancel, Download, Finished, Hello, Message, Origin, Placed, Progress, Refused, Welcome
from worker_peer.api import DownloadFailed, DownloadRequest, Waits
from worker_peer.content import ContentReader
from worker_peer.control_path import control_path
from worker_peer.host.background import Background
from worker_peer.host.clock import Clock
from worker_peer.host.loop_socket import LoopSocket

_log = logging.getLogger("control")

_PROGRESS_S: Final = 0.2
_LOCK_TRIES: Final = 5
_LOCK_PAUSE_S: Final = 0.02
#: A dfget says ALIVE each second; after so long without a word it is gone.
_SILENT_S: Final = 10.0


class _Client:
    """One dfget."""

    def __init__(self, heard_at: float) -> None:
        self.heard_at = heard_at
        self.work: asyncio.Task[None] | None = None
        self.reader: ContentReader | None = None
        self.placed = asyncio.Event()


class ControlServer:
    """Serves dfgets of this home."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        *,
        home: Path,
        peer_id: str,
        open_content: Callable[[DownloadRequest, Waits], Awaitable[ContentReader]],
        set_total_rate: Callable[[int], None],
        clock: Clock,
        background: Background,
    ) -> None:
        """Binds. Raises OSError when another peer of this home is running."""
        self._peer_id = peer_id
        self._open_content = open_content
        self._set_total_rate = set_total_rate
        self._clock = clock
        self._background = background
        self._clients: dict[bytes, _Client] = {}
        self._path = control_path(home)
        # ZeroMQ takes over another's socket file without a word: the lock says whose it is.
        self._lock = _locked(self._path.with_suffix(".lock"), home)
        router = context.socket(zmq.ROUTER)
        router.setsockopt(zmq.LINGER, 200)
        router.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
        try:
            router.bind(f"ipc://{self._path}")
            self._path.chmod(0o600)
        except (zmq.ZMQError, OSError) as error:
            router.close(0)
            self._lock.close()
            raise OSError(f"cannot listen on {self._path}: {error}") from None
        self._socket = LoopSocket(router, self._received)
        background.spawn(self._watch(), "control")

    @property
    def busy(self) -> int:
        """dfgets that wait for something."""
        return sum(1 for client in self._clients.values() if client.work is not None and not client.work.done())

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()
        self._path.unlink(missing_ok=True)
        self._lock.close()

    # -- messages -------------------------------------------------------------------------------------------------------

    def _received(self, frames: list[bytes]) -> None:
        identity, *rest = frames
        try:
            message = from_frames(rest).message
        except RemoteError as error:
            self._say(identity, Refused(code=error.code, message=str(error)))
            return
        client = self._clients.get(identity)
        if isinstance(message, Hello):
            self._greet(identity, message)
            return
        if client is None:
            self._say(identity, Refused(code=ErrorCode.NOT_GREETED, message="say HELLO first"))
            return
        client.heard_at = self._clock.now()
        match message:
            case Alive():
                pass
            case Download():
                if client.work is None or client.work.done():
                    client.work = self._background.spawn(self._serve(identity, client, message), "dfget")
            case Cancel():
                self._give_up(identity)
            case Placed():
                if message.linked and client.reader is not None:
                    client.reader.mark_linked()
                client.placed.set()
            case _:
                self._say(identity, Refused(code=ErrorCode.UNEXPECTED_KIND, message=message.KIND.name))

    def _greet(self, identity: bytes, hello: Hello) -> None:
        agreed = agree(hello)
        if isinstance(agreed, Refused):
            self._say(identity, agreed)
            return
        self._clients[identity] = _Client(self._clock.now())
        self._say(identity, Welcome(protocol=agreed, supernode=self._peer_id))

    def _say(self, identity: bytes, message: Message) -> None:
        self._socket.send([identity, *to_frames(message)])

    def _give_up(self, identity: bytes) -> None:
        client = self._clients.pop(identity, None)
        if client is not None and client.work is not None:
            client.work.cancel()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            now = self._clock.now()
            for identity, client in list(self._clients.items()):
                if now - client.heard_at > _SILENT_S:
                    self._give_up(identity)

    # -- one download ---------------------------------------------------------------------------------------------------

    async def _serve(self, identity: bytes, client: _Client, asked: Download) -> None:
        request = _request(asked)
        client.placed = asyncio.Event()
        waits, began_at = Waits(), self._clock.now()
        if asked.total_rate:
            self._set_total_rate(asked.total_rate)
        try:
            client.reader = await self._open_content(request, waits)
            self._say(identity, self._progress(client.reader))
            reporter = self._background.spawn(self._report(identity, client.reader), "progress")
            try:
                path = await client.reader.whole()
            finally:
                reporter.cancel()
            self._say(identity, self._finished(client.reader, path))
            waited = " ".join(f"{cause.value}:{spent:.3f}s" for cause, spent in waits.seconds.items())
            _log.info("dfget cost:%.3fs task:%s waited for %s", self._clock.now() - began_at, request.task, waited or "nothing")
            await client.placed.wait()
        except DownloadFailed as error:
            self._say(
                identity,
                Finished(task=request.task, path="", code=error.code, status=error.status, message=str(error)[:1000]),
            )
        finally:
            if client.reader is not None:
                await client.reader.close()
                client.reader = None

    @staticmethod
    def _finished(reader: ContentReader, path: str) -> Finished:
        received = tuple(reader.received.by_origin[origin] for origin in Origin)
        return Finished(task=reader.task, path=path, length=reader.length, digest=reader.digest, received=received)

    async def _report(self, identity: bytes, reader: ContentReader) -> None:
        while True:
            await asyncio.sleep(_PROGRESS_S)
            self._say(identity, self._progress(reader))

    @staticmethod
    def _progress(reader: ContentReader) -> Progress:
        received = tuple(reader.received.by_origin[origin] for origin in Origin)
        return Progress(task=reader.task, supernode=reader.supernode, length=reader.length, received=received)


def _request(asked: Download) -> DownloadRequest:
    return DownloadRequest(
        url=asked.url,
        headers=asked.headers,
        filters=asked.filters,
        digest=asked.digest,
        md5=asked.md5,
        identifier=asked.identifier,
        byte_range=ByteRange(*asked.byte_range) if asked.byte_range is not None else None,
        insecure=asked.insecure,
        certificates=asked.certificates,
        supernodes=asked.supernodes,
        caller=asked.caller,
        rate=asked.rate,
    )


def _locked(path: Path, home: Path) -> TextIO:
    """The home's lock. Raises OSError when another peer has it. A dfget that looks whether it is held does so for a moment
    only: hence several tries."""
    lock = path.open("w")
    for attempt in range(_LOCK_TRIES):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except OSError:
            if attempt + 1 < _LOCK_TRIES:
                time.sleep(_LOCK_PAUSE_S)
    lock.close()
    raise OSError(f"another peer of {home} is running: use it, or choose another home")
