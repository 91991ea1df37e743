"""Serves blocks to children: the ROUTER that answers GET_BLOCKS, and the PUB that tells what is served.

Driver, used by the exchange's thread only. Who is answered in which order is decided in core/serving.py.
"""

from collections.abc import Callable
from typing import Final

import lz4.block
import zmq

from wire.errors import ErrorCode
from wire.framing import to_frames
from wire.messages import MAX_PIECES_PER_MESSAGE, Blocks, GetBlocks, Have, Message, NoBlocks
from worker_peer.core.compressing import Compressing
from worker_peer.core.serving import Presence, Refuse, Send, Serving
from worker_peer.data_socket import TURN, bind, count, prepare, understood, waits
from worker_peer.host.limits import TokenBucket
from worker_peer.host.store import ContentChanged
from worker_peer.shared_contents import SharedFiles

#: Payload bytes handed to ZeroMQ in one turn, at most.
_TURN_BYTES: Final = 16 << 20
#: Payloads up to this size are copied into ZeroMQ. A view costs pyzmq's release, in a thread of its own, 30 to 50 us for each
#: message: as much as copying 512 KiB.
_COPY_BYTES: Final = 256 << 10
#: Whether a payload shrinks is tried with its beginning first.
_SAMPLE_BYTES: Final = 16 << 10
#: Hints are told this often.
_HINT_EVERY_S: Final = 1.0


class BlockServer:
    """The parent's sockets."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        *,
        peer_id: str,
        bind_ip: str,
        port: int,
        upload: TokenBucket,
        files: SharedFiles,
        refused: dict[str, int],
        on_broken: Callable[[str, Exception], None],
    ) -> None:
        """Binds at once. Raises OSError with the address when the port cannot be had."""
        self.sent_bytes = 0
        #: The same, compressed where it was.
        self.sent_on_wire = 0
        #: When each task was last served.
        self.served_at: dict[str, float] = {}
        self.router = context.socket(zmq.ROUTER)
        prepare(self.router)
        self.router.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._publisher = context.socket(zmq.PUB)
        prepare(self._publisher)
        try:
            self.data_port = bind(self.router, bind_ip, port)
            self.hint_port = bind(self._publisher, bind_ip, 0)
        except zmq.ZMQError as error:
            self.close()
            raise OSError(f"cannot serve pieces on {bind_ip}:{port}: {error.strerror}: choose another port") from None
        self._peer_id = peer_id
        self._files = files
        self._refused = refused
        self._on_broken = on_broken
        self._upload = upload
        self._serving = Serving(self._presence)
        self._compressing = Compressing()
        self._waits_until: float | None = None
        #: Pieces that no hint has told yet, by task; and when they are told.
        self._untold: dict[str, list[int]] = {}
        self._tells_at: float | None = None

    def close(self) -> None:
        """Close the sockets."""
        self.router.close(0)
        self._publisher.close(0)

    @property
    def waiting(self) -> int:
        """Requests that are not answered yet. May be asked by any thread."""
        return self._serving.waiting

    def next_deadline(self) -> float | None:
        """When there is something to do although no message comes."""
        times = [time for time in (self._serving.next_deadline(), self._waits_until, self._tells_at) if time is not None]
        return min(times, default=None)

    # -- requests -------------------------------------------------------------------------------------------------------

    def receive(self, now: float) -> None:
        """Take requests that have come."""
        for _ in range(TURN):
            if not waits(self.router):
                return
            child, *frames = self.router.recv_multipart(zmq.NOBLOCK, copy=False)
            received = understood([frame.buffer for frame in frames], self._refused)
            if received is None:
                continue
            if not isinstance(received.message, GetBlocks):
                count(self._refused, "unexpected_kind")
                continue
            refusal = self._serving.asked(child.bytes, received.message, now)
            if refusal is not None:
                self._refuse(refusal)

    def _presence(self, request: GetBlocks) -> Presence:
        shared = self._files.get(request.task)
        return Presence.UNKNOWN_TASK if shared is None else shared.presence(request)

    def expire(self, now: float) -> None:
        """Refuse what has been parked for too long."""
        for refusal in self._serving.expire(now):
            self._refuse(refusal)

    def changed(self, task: str, piece: int) -> None:
        """Blocks of a piece have come, or will not come."""
        for refusal in self._serving.changed(task, piece):
            self._refuse(refusal)

    def task_gone(self, task: str) -> None:
        """Nothing of the task is served any more."""
        self.served_at.pop(task, None)
        for refusal in self._serving.task_gone(task):
            self._refuse(refusal)

    def _refuse(self, refusal: Refuse) -> None:
        self._send(refusal.child, refusal.answer, None)

    # -- answers --------------------------------------------------------------------------------------------------------

    def serve(self, now: float) -> None:
        """Answer requests in their order, as far as the upload limit allows, and not so many that fetching waits long."""
        if self._tells_at is not None and now >= self._tells_at:
            self._tell_hints()
        self._waits_until = None
        handed = 0
        while handed < _TURN_BYTES:
            wait = self._upload.ready_in(now)
            if wait > 0 and len(self._serving):
                self._waits_until = now + wait
                return
            send = self._serving.next()
            if send is None:
                return
            handed += self._answer(send, now)
        self._waits_until = now

    def _answer(self, send: Send, now: float) -> int:
        """Send what a request asks for. Returns its bytes."""
        request = send.request
        shared = self._files.get(request.task)
        if shared is None:
            self._refuse_unknown(send)
            return 0
        offset, size = shared.file.layout.run_span(request.piece, request.first, request.count)
        try:
            payload = shared.file.read(offset, size)
        except (ContentChanged, OSError, ValueError) as error:
            self._on_broken(request.task, error)
            self._refuse_unknown(send)
            return 0
        packed = self._packed(request, payload)
        inflated = size if packed is not None else 0
        payload = payload if packed is None else memoryview(packed)
        self._upload.take(len(payload), now)
        head = Blocks(task=request.task, piece=request.piece, first=request.first, count=request.count, inflated=inflated)
        if self._send(send.child, head, payload):
            self.sent_bytes += size
            self.sent_on_wire += len(payload)
            self.served_at[request.task] = now
        return size

    def _packed(self, request: GetBlocks, payload: memoryview) -> bytes | None:
        """The payload compressed, where the child would have it so and that pays."""
        if not request.lz4 or not payload or not self._compressing.tries(request.task):
            return None
        sample = payload[:_SAMPLE_BYTES]
        packed: bytes = lz4.block.compress(sample, store_size=False)
        if not self._compressing.tried(request.task, len(sample), len(packed)):
            return None
        if len(sample) < len(payload):
            packed = lz4.block.compress(payload, store_size=False)
        return packed if self._compressing.tried(request.task, len(payload), len(packed)) else None

    def _refuse_unknown(self, send: Send) -> None:
        """The task has gone since it was asked for: a child that hears nothing would wait for a stall."""
        answer = NoBlocks(task=send.request.task, piece=send.request.piece, code=ErrorCode.TASK_UNKNOWN)
        self._refuse(Refuse(send.child, answer))

    def _send(self, child: bytes, message: Message, payload: memoryview | None) -> bool:
        try:
            by_view = payload is not None and len(payload) > _COPY_BYTES
            self.router.send_multipart([child, *to_frames(message, payload)], zmq.NOBLOCK, copy=not by_view)
        except zmq.Again:
            count(self._refused, "child_full")  # it asked for more than its credit: it will see a stall
            return False
        except zmq.ZMQError:
            self._serving.gone(child)
            return False
        return True

    # -- hints ----------------------------------------------------------------------------------------------------------

    def publish(self, task: str, pieces: list[int], now: float) -> None:
        """Tell who listens, soon, which pieces are served now. Gathered: each hint wakes every peer that listens."""
        if pieces:
            self._untold.setdefault(task, []).extend(pieces)
            self._tells_at = now + _HINT_EVERY_S if self._tells_at is None else self._tells_at

    def _tell_hints(self) -> None:
        untold, self._untold, self._tells_at = self._untold, {}, None
        for task, pieces in untold.items():
            for at in range(0, len(pieces), MAX_PIECES_PER_MESSAGE):
                hint = Have(task=task, peer=self._peer_id, pieces=tuple(pieces[at : at + MAX_PIECES_PER_MESSAGE]))
                try:
                    self._publisher.send_multipart([task.encode(), *to_frames(hint)], zmq.NOBLOCK)
                except zmq.Again:
                    return
