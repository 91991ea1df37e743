"""Do what a plan says, and take it back: each step so that a process killed behind it leaves what --undo understands.

Before the first change the journal is on disk with all that will be changed, and a copy of each file as it was.
"""

import dataclasses
import hashlib
import os
from dataclasses import dataclass

from gateway.core.setup.journal import Entry, Fate, Journal, Seen, State, fate, merged
from gateway.core.setup.plan import Facts, Plan, Refused, Wish, Write
from gateway.setup.files import NEW_FILE, RootFiles
from gateway.setup.record import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a setup happens and where it is remembered."""

    files: RootFiles
    record: Record


def carry_out(plan: Plan, wish: Wish, url: str, facts: Facts, place: Place, old: Journal | None) -> Journal:
    """Write all of the plan's files. Returns the journal, to be finished once the runtime was told.

    Raises Refused before the first of them is written, OSError with the setup half done.
    """
    files, record = place.files, place.record
    entries = {each.path: each for each in old.entries} if old is not None else {}
    likes: dict[str, Seen] = {}
    folders = list(old.folders) if old is not None else []
    for write in plan.writes:
        entry = _entry(write, entries.get(write.path), place)
        entries[write.path] = entry
        likes[write.path] = entry.after[-1]
        folders += [each for each in files.missing_folders(write.path) if each not in folders]
    urls = (*(each for each in (old.urls if old is not None else ()) if each != url), url)
    journal = Journal(
        wish=wish,
        root=str(files.root),
        urls=urls[-8:],
        state=State.WRITING,
        mode=plan.mode,
        user_home=facts.user_home,
        version=facts.version,
        reloads=plan.reloads or (old is not None and old.reloads),
        restarts=plan.restarts or (old.restarts if old is not None else ""),
        entries=tuple(entries.values()),
        folders=tuple(folders),
        commands=tuple(dict.fromkeys((*(old.commands if old is not None else ()), *plan.undo_commands))),
    )
    record.write(journal)
    for write in plan.writes:
        for folder in files.missing_folders(write.path):
            files.make_folder(folder)
        files.replace(write.path, write.content, likes[write.path])
    return journal


def finish(journal: Journal, place: Place) -> None:
    """All that a setup does is done. Raises OSError."""
    place.record.write(dataclasses.replace(journal, state=State.DONE))


def _entry(write: Write, old: Entry | None, place: Place) -> Entry:
    now = place.files.seen(write.path)
    if old is not None and fate(old, now) is Fate.EDITED:
        raise Refused(
            f"{write.path} has been changed since setup wrote it, and must be changed again: take the setup back first "
            f"(dfdaemon setup ... --undo says what stands in the way), then run this again; nothing was changed"
        )
    content = place.files.read(write.path)
    kept_as = ""
    if old is not None:
        kept_as = old.kept_as
    elif content is not None:
        kept_as = place.record.keep(write.path, content, when="before")
        # Somebody may just now be writing it, too.
        if now is None or hashlib.sha256(content).hexdigest() != now.sha256:
            raise Refused(f"{write.path} changes while it is read: run this again; nothing was changed")
    place.record.keep(write.path, write.content, when="after")
    like = Seen(
        sha256=hashlib.sha256(write.content).hexdigest(),
        mode=now.mode if now is not None else NEW_FILE,
        uid=now.uid if now is not None else os.geteuid(),
        gid=now.gid if now is not None else os.getegid(),
    )
    return merged(Entry(path=write.path, before=now, kept_as=kept_as, after=(like,)), old)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A journal's file as it is now."""

    entry: Entry
    fate: Fate
    now: bytes | None
    before: bytes | None


def judge(journal: Journal, place: Place) -> list[Judged]:
    """Every file of a setup. Raises Refused."""
    made = []
    for entry in journal.entries:
        before = place.record.kept(entry.kept_as, when="before") if entry.kept_as else None
        if before is not None and entry.before is not None and hashlib.sha256(before).hexdigest() != entry.before.sha256:
            raise Refused(f"the copy of {entry.path} from before setup is damaged ({place.record.folder}): nothing was changed")
        now = place.files.read(entry.path)
        made.append(Judged(entry=entry, fate=fate(entry, place.files.seen(entry.path)), now=now, before=before))
    return made


def write_between(journal: Journal, each: Judged, content: bytes, place: Place) -> Journal:
    """Put something into a file of ours that stands there only until it is taken back. Raises OSError."""
    last = each.entry.after[-1]
    like = dataclasses.replace(last, sha256=hashlib.sha256(content).hexdigest())
    entry = dataclasses.replace(each.entry, after=(*each.entry.after, like))
    entries = tuple(entry if old.path == entry.path else old for old in journal.entries)
    journal = dataclasses.replace(journal, state=State.UNDOING, entries=entries)
    # Known as ours before it is there.
    place.record.write(journal)
    place.files.replace(entry.path, content, like)
    return journal


def take_back(journal: Journal, judged: list[Judged], place: Place) -> list[str]:
    """Every file that is as setup wrote it becomes what it was. Returns folders of ours that somebody else uses by now.

    Raises OSError; run again, it goes on where it was.
    """
    place.record.write(dataclasses.replace(journal, state=State.UNDOING))
    for each in judged:
        if each.fate is not Fate.EDITED:
            place.files.remove_rest(each.entry.path)
        if each.fate is not Fate.OURS:
            continue
        if each.entry.before is None or each.before is None:
            place.files.remove(each.entry.path)
        else:
            place.files.replace(each.entry.path, each.before, each.entry.before)
    return [folder for folder in reversed(journal.folders) if not place.files.remove_folder(folder)]
