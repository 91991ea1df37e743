"""dfget's side of the control socket: find the host's running peer, start one if there is none, ask it for a content.

Blocking: dfget has nothing else to do. The answers come back as messages, one at a time.
"""

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import zmq

from wire.errors import RemoteError
from wire.framing import MAX_FRAME_BYTES, from_frames, to_frames
from wire.messages import Alive, Cancel, Download, Finished, Hello, Message, Placed, Progress, Refused, Role, Welcome
from wire.version import PROTOCOL
from worker_peer.control_path import control_path

_GREETING_S: Final = 1.0
_START_S: Final = 20.0
_ALIVE_S: Final = 1.0
#: A running peer reports several times a second; after so long without a word it is held for dead.
_SILENT_S: Final = 30.0


class NoHostPeer(Exception):
    """The host's peer cannot be reached or started. The text says why and what to do."""


class HostPeer:
    """A greeted connection to the host's peer."""

    def __init__(self, home: Path) -> None:
        """Raises NoHostPeer when no peer of this home answers."""
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 500)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
        path = control_path(home)
        self._lock_path = path.with_suffix(".lock")
        try:
            if not path.exists() or not _is_held(self._lock_path):
                raise NoHostPeer(f"no peer runs in {home}")
            self._socket.connect(f"ipc://{path}")
            self._greet(home)
        except BaseException:
            self.close()
            raise

    def _greet(self, home: Path) -> None:
        self._send(Hello(protocol=PROTOCOL, peer=f"dfget-{os.getpid()}", role=Role.PEER))
        answer = self._receive(_GREETING_S)
        if isinstance(answer, Refused):
            raise NoHostPeer(f"the peer that runs in {home} refuses: {answer.message}")
        if not isinstance(answer, Welcome):
            raise NoHostPeer(f"the peer of {home} does not answer")

    def close(self) -> None:
        """Hang up."""
        self._socket.close()
        self._context.term()

    def download(self, request: Download, deadline: float | None) -> Iterator[Progress | Finished]:
        """What becomes of a download; ends with Finished. Raises NoHostPeer when the peer dies, TimeoutError."""
        self._send(request)
        heard_at = said_at = time.monotonic()
        while True:
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                self._send(Cancel())
                raise TimeoutError
            if now - heard_at > _SILENT_S:
                raise NoHostPeer("the host's peer has died")
            if now - said_at >= _ALIVE_S:
                self._send(Alive())
                said_at = now
            message = self._receive(0.25)
            if message is None:
                if not _is_held(self._lock_path):
                    raise NoHostPeer("the host's peer has died")
                continue
            heard_at = now
            match message:
                case Progress():
                    yield message
                case Finished():
                    yield message
                    return
                case Refused():
                    raise NoHostPeer(f"the host's peer refuses: {message.message}")

    def placed(self, task: str, *, linked: bool) -> None:
        """The output has been made: the peer need not keep the content for us."""
        self._send(Placed(task=task, linked=linked))

    def cancel(self) -> None:
        """Stop the download."""
        self._send(Cancel())

    def _send(self, message: Message) -> None:
        self._socket.send_multipart(to_frames(message))

    def _receive(self, seconds: float) -> Message | None:
        if not self._socket.poll(int(seconds * 1000)):
            return None
        try:
            return from_frames(self._socket.recv_multipart()).message
        except RemoteError as error:
            raise NoHostPeer(f"what runs there is no peer of ours: {error}") from None


def connect_or_start(home: Path, server_arguments: list[str]) -> HostPeer:
    """The host's peer; started, detached, with `dfget server` and these arguments, when none runs. Raises NoHostPeer."""
    try:
        return HostPeer(home)
    except NoHostPeer:
        pass
    try:
        (home / "meta").mkdir(parents=True, exist_ok=True)
        lock = (home / "meta" / "start.lock").open("w")
    except OSError as error:
        raise NoHostPeer(f"{home} cannot be used: {error.strerror}: choose another --home") from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two dfgets of one home start one server
        try:
            return HostPeer(home)
        except NoHostPeer:
            _start(home, server_arguments)
        return HostPeer(home)


def _start(home: Path, arguments: list[str]) -> None:
    """Start `dfget server` and wait for its line. Raises NoHostPeer with what it said."""
    (home / "logs").mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "worker_peer.cli", "server", "--home", str(home), *arguments]
    with (home / "logs" / "dfserver.out").open("wb") as errors:
        server = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, start_new_session=True, close_fds=True
        )
    assert server.stdout is not None
    os.set_blocking(server.stdout.fileno(), False)
    deadline = time.monotonic() + _START_S
    poller = zmq.Poller()
    poller.register(server.stdout.fileno(), zmq.POLLIN)
    said = b""
    while b"\n" not in said and server.poll() is None and time.monotonic() < deadline:
        if poller.poll(200):
            said += server.stdout.read(256) or b""
    server.stdout.close()
    if b"server port is" not in said:
        server.kill()
        server.wait()
        told = (home / "logs" / "dfserver.out").read_text(errors="replace").strip().splitlines()
        raise NoHostPeer(f"`dfget server` did not start: {told[-1] if told else 'it said nothing'}")


def _is_held(lock_path: Path) -> bool:
    """Whether a peer holds its home's lock. The socket itself would wait for ever for one that was killed."""
    try:
        with lock_path.open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
