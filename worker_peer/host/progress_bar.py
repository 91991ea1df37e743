"""How far a download is, as one line on a terminal's stderr. Silent elsewhere: stdout is for 1.x's lines."""

import os
import sys
import time
from types import TracebackType
from typing import Final

from worker_peer.host.values import format_rate

_REDRAW_S: Final = 0.1
_MIB: Final = 1 << 20


class ProgressBar:
    """A context: the line is removed at its end."""

    def __init__(self, *, always: bool) -> None:
        self._draws = always or sys.stderr.isatty()
        self._drawn_at = 0.0
        self._began_at = time.monotonic()
        self._is_drawn = False

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.clear()

    def show(self, done: int, length: int | None) -> None:
        """`done` bytes of `length` (None: not known yet) are here."""
        now = time.monotonic()
        if not self._draws or now - self._drawn_at < _REDRAW_S:
            return
        self._drawn_at = now
        rate = done / max(now - self._began_at, 0.001)
        speed = f"{rate / _MIB:.1f} MiB/s"
        if length:
            line = f"{_bar(done / length, _width() - 50)} {100 * done // length:3d}% of {_size(length)}  {speed}"
            line += f"  {(length - done) / rate:.0f} s left" if rate and done < length else ""
        else:
            line = f"{_size(done)}  {speed}  waiting for the source"
        sys.stderr.write("\r\x1b[K" + line[: _width() - 1])
        sys.stderr.flush()
        self._is_drawn = True

    def clear(self) -> None:
        """Remove the line, so that others can be printed."""
        if self._is_drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._is_drawn = False


def _width() -> int:
    try:
        return max(60, os.get_terminal_size(sys.stderr.fileno()).columns)
    except OSError:
        return 80


def _bar(share: float, width: int) -> str:
    full = int(min(1.0, share) * width)
    return "[" + "#" * full + "." * (width - full) + "]"


def _size(count: int) -> str:
    return f"{count / _MIB:.1f} MiB" if count >= _MIB else format_rate(count)
