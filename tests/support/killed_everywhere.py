"""Runs `dfdaemon setup` again and again, killed (SIGKILL) one call of the file system later each time, and then undone.

    python -m tests.support.killed_everywhere WORK RUNTIME setup|undo

WORK/pristine is the root folder to begin with, copied for each run. Prints a JSON list, one entry for each kill: what of
the tree was not as before after the undo (empty: all was), and which files were torn while it was half done.
"""

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, Final

# All that main would import: once here, not in each child.
import gateway.setup.command
from gateway.cli import main
from tests.support.tree import tree

#: What changes something; a kill behind one is a kill in front of the next.
_CALLS: Final = ("replace", "mkdir", "rmdir", "unlink", "chmod", "fchmod", "rename", "open")
_KILLED: Final = -1


assert gateway.setup.command


def _in_child(work: Callable[[], int]) -> int:
    """Its exit code, or _KILLED."""
    pid = os.fork()
    if pid == 0:
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 1)
        os.dup2(null, 2)
        os._exit(work())
    _, status = os.waitpid(pid, 0)
    return _KILLED if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def _killed_at(number: int, words: list[str], work: Path) -> int:
    left = number

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            nonlocal left
            # Modules and certificates are none of it.
            left -= isinstance(arguments[0], int) or str(arguments[0]).startswith(str(work))
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **more)

        return call

    for name in _CALLS:
        setattr(os, name, counted(getattr(os, name)))
    return main(words)


def run(work: Path, runtime: str, killed: str) -> list[dict[str, Any]]:
    """Until a run comes to its end."""
    root, home = work / "root", work / "home"
    words = ["setup", runtime, "--root", str(root), "--workHome", str(home), "--port=1", "--yes"]
    undo = [*words, "--undo"]

    def begin() -> dict[str, tuple[object, ...]]:
        for folder in (root, home):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(work / "pristine", root)
        return tree(root)

    before = begin()
    assert _in_child(lambda: main(words)) == 4
    done = tree(root)
    found = []
    for number in count(1):
        begin()
        if killed == "undo":
            assert _in_child(lambda: main(words)) == 4
        ended = _in_child(lambda: _killed_at(number, undo if killed == "undo" else words, work))  # noqa: B023
        between = tree(root)
        torn = [path for path, each in between.items() if not _is_whole(each, before.get(path), done.get(path), path)]
        undone = _in_child(lambda: main(undo))
        after = tree(root)
        wrong = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
        begun = between.keys() != before.keys() and between.keys() != done.keys()
        found.append({"at": number, "ended": ended, "undone": undone, "wrong": wrong, "torn": torn, "begun": begun})
        if ended != _KILLED:
            return found
    raise AssertionError("never ends")


def _is_whole(now: tuple[object, ...], before: tuple[object, ...] | None, done: tuple[object, ...] | None, path: str) -> bool:
    """Whether a file is as before or as setup writes it, its time aside. What is beside it under a spare name is nobody's."""
    is_spare = path.endswith(".dfdaemon-setup")
    return is_spare or any(each is not None and now[:5] == each[:5] for each in (before, done))


if __name__ == "__main__":
    print(json.dumps(run(Path(sys.argv[1]), sys.argv[2], sys.argv[3])))
