"""What setup remembers of a file before and after it wrote, and what may be done with it now. Pure; drivers keep it on disk.

The journal is written before the first change and says all that will be changed, so whatever a killed process has done
of it can be found out file by file: each is as before, as setup wrote it, or somebody else's work.
"""

import json
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from gateway.core.setup.plan import Mode, Refused, Runtime, Wish

_VERSION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A file as it is at some moment."""

    sha256: str
    mode: int
    uid: int
    gid: int
    mtime_ns: int = 0
    """To be restored; it does not tell one content from another."""

    def is_same(self, other: "Seen | None") -> bool:
        """Whether bytes, mode and owner are."""
        if other is None:
            return False
        return (self.sha256, self.mode, self.uid, self.gid) == (other.sha256, other.mode, other.uid, other.gid)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One file that setup writes."""

    path: str
    before: Seen | None
    """None: it was not there."""
    kept_as: str
    """Name of the copy of what was before; empty where nothing was."""
    after: tuple[Seen, ...]
    """All that setup has ever written there since, the newest last."""


class State(Enum):
    """Of a setup."""

    WRITING = "writing"
    """Begun; where no process is at it any more, it was killed."""
    DONE = "done"
    UNDOING = "undoing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """One runtime's setup in one root."""

    wish: Wish
    root: str
    urls: tuple[str, ...]
    """What was written as the gateway's address, the newest last."""
    state: State
    entries: tuple[Entry, ...]
    folders: tuple[str, ...]
    """Made by setup, an outer one before those in it."""
    commands: tuple[tuple[str, ...], ...] = ()
    """Run after all is taken back."""
    reloads: bool = False
    """Whether anything of it was taken over by a reload, and goes by one."""
    restarts: str = ""
    """The unit that must be restarted for it, and to be rid of it."""
    mode: Mode = Mode.MIRROR
    user_home: str = ""
    version: tuple[int, int] | None = None
    """Of the runtime, then."""

    def encoded(self) -> bytes:
        """As it is kept."""
        wish = self.wish
        told = {
            "version": _VERSION,
            "runtime": wish.runtime.value,
            "root": self.root,
            "state": self.state.value,
            "mode": self.mode.value,
            "urls": self.urls,
            "user_home": self.user_home,
            "reloads": self.reloads,
            "restarts": self.restarts,
            "runtime_version": self.version,
            "wish": {
                "mode": wish.mode.value if wish.mode is not None else None,
                "registries": wish.registries,
                "config_file": wish.config_file,
                "hosts_dir": wish.hosts_dir,
                "replace_proxy": wish.replace_proxy,
            },
            "folders": self.folders,
            "commands": self.commands,
            "entries": [
                {
                    "path": each.path,
                    "before": _told(each.before) if each.before is not None else None,
                    "kept_as": each.kept_as,
                    "after": [_told(seen) for seen in each.after],
                }
                for each in self.entries
            ],
        }
        return json.dumps(told, indent=1).encode()


def _told(seen: Seen) -> dict[str, Any]:
    return {"sha256": seen.sha256, "mode": seen.mode, "uid": seen.uid, "gid": seen.gid, "mtime_ns": seen.mtime_ns}


def decode(content: bytes, name: str) -> Journal:
    """Raises Refused, with the journal's `name`, for what this release has not written."""
    try:
        told = json.loads(content)
        if told["version"] != _VERSION:
            raise ValueError("another version")
        wish = told["wish"]
        return Journal(
            wish=Wish(
                runtime=Runtime(told["runtime"]),
                mode=Mode(wish["mode"]) if wish["mode"] is not None else None,
                registries=tuple(wish["registries"]),
                config_file=wish["config_file"],
                hosts_dir=wish["hosts_dir"],
                replace_proxy=wish["replace_proxy"],
            ),
            root=told["root"],
            urls=tuple(told["urls"]),
            state=State(told["state"]),
            mode=Mode(told["mode"]),
            user_home=told["user_home"],
            reloads=bool(told["reloads"]),
            restarts=told["restarts"],
            version=_version(told["runtime_version"]),
            folders=tuple(told["folders"]),
            commands=tuple(tuple(each) for each in told["commands"]),
            entries=tuple(
                Entry(
                    path=each["path"],
                    before=Seen(**each["before"]) if each["before"] is not None else None,
                    kept_as=each["kept_as"],
                    after=tuple(Seen(**seen) for seen in each["after"]),
                )
                for each in told["entries"]
            ),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refused(
            f"{name} is no journal of this release ({error!r}): what was there before is in the folder `before` beside it"
        ) from None


def _version(told: Any) -> tuple[int, int] | None:
    return (int(told[0]), int(told[1])) if told is not None else None


class Fate(Enum):
    """What a file of a journal is now."""

    AS_BEFORE = "as before"
    OURS = "as setup wrote it"
    EDITED = "changed since setup"


def fate(entry: Entry, now: Seen | None) -> Fate:
    """`now`: None where there is no file."""
    if (entry.before is None and now is None) or (entry.before is not None and entry.before.is_same(now)):
        return Fate.AS_BEFORE
    return Fate.OURS if any(seen.is_same(now) for seen in entry.after) else Fate.EDITED


def merged(entry: Entry, old: Entry | None) -> Entry:
    """An entry of a later setup on top of an earlier one's: what was before both is what counts."""
    if old is None:
        return entry
    # Bounded: only the newest few can still be on disk.
    return Entry(path=old.path, before=old.before, kept_as=old.kept_as, after=(*old.after, *entry.after)[-8:])
