"""A TCP relay before a server: it holds back what a blob's GET is answered with, and slows it down, as a test wants."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(kw_only=True)
class SlowFront:
    """Listens on `port` of loopback. Change the delays at any time: they hold for the requests that follow."""

    port: int = 0
    #: Before a GET of a blob is passed on.
    delay_s: float = 0.0
    #: Bytes per second of what comes back; 0: as it comes.
    rate: int = 0
    #: First lines of all requests that came at the beginning of a segment.
    lines: list[str] = field(default_factory=list)


@contextmanager
def slow_front(upstream: int) -> Iterator[SlowFront]:
    """Relay to a port of loopback until the block ends."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=100)
    front = SlowFront(port=listener.getsockname()[1])

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", upstream))
            for target, words in ((_up, (front, client, server)), (_down, (front, server, client))):
                threading.Thread(target=target, args=words, daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield front
    finally:
        # Closing alone does not wake who accepts.
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def _up(front: SlowFront, client: socket.socket, server: socket.socket) -> None:
    try:
        while data := client.recv(65536):
            line = data.split(b"\r\n", 1)[0].decode("latin-1")
            front.lines.append(line)
            if line.startswith("GET ") and "/blobs/" in line:
                time.sleep(front.delay_s)
            server.sendall(data)
        server.shutdown(socket.SHUT_WR)
    except OSError:
        server.close()


def _down(front: SlowFront, server: socket.socket, client: socket.socket) -> None:
    try:
        while data := server.recv(16384 if front.rate else 262144):
            client.sendall(data)
            if front.rate:
                time.sleep(len(data) / front.rate)
    except OSError:
        pass
    finally:
        server.close()
        client.close()
