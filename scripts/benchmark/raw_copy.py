"""The yardstick of `bench pair`: one file over one TCP connection, sendfile to recv_into and pwrite, without any check.

    python -m scripts.benchmark.raw_copy send FILE PORT | receive FILE PORT SIZE
Each end prints the CPU seconds that it took.
"""

import mmap
import os
import resource
import socket
import sys

_SLICE = 1 << 20


def _send(path: str, port: int) -> None:
    server = socket.create_server(("127.0.0.1", port))
    print("ready", flush=True)
    connection, _ = server.accept()
    with open(path, "rb") as file:
        size, at = os.fstat(file.fileno()).st_size, 0
        while at < size:
            at += os.sendfile(connection.fileno(), file.fileno(), at, _SLICE)
    connection.close()


def _receive(path: str, port: int, size: int) -> None:
    connection = socket.create_connection(("127.0.0.1", port))
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    os.posix_fallocate(descriptor, 0, size)
    # Page-aligned: from a bytearray's odd address some CPUs copy four times slower.
    buffer = memoryview(mmap.mmap(-1, _SLICE))
    at = 0
    while at < size:
        count = connection.recv_into(buffer)
        if not count:
            raise SystemExit("the sender ended early")
        os.pwrite(descriptor, buffer[:count], at)
        at += count
    os.close(descriptor)


def main() -> None:
    """See the module."""
    role, path, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if role == "send":
        _send(path, port)
    else:
        _receive(path, port, int(sys.argv[4]))
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(f"cpu {used.ru_utime + used.ru_stime:.4f}", flush=True)


if __name__ == "__main__":
    main()
