"""Which contents a store gives up, and in which order. Pure: what is there in, who goes out.

The least recently used goes first, always. Nobody ever goes who is in use, or who is kept (pinned) until a time that has
not come. Why somebody goes at all:

    room      a new content needs space: so many go that quota and disk have it; none, where that would not help
    expired   nobody has used it for as long as a content may lie unused
    quota     all contents together are larger than they may be (it was lowered)
    full      the disk has less free than `full_free`: everybody, until it has
    young     the disk has less free than `young_free`: a part at a time of those that nobody has used for `unused_s`
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How much a store may have. Bytes and seconds; 0 of a limit: there is none."""

    #: Bytes on disk of all contents together.
    quota: int = 0
    #: What kept contents may take of the quota, percent.
    kept_percent: int = 50
    #: A content that nobody has used for so long goes.
    expire_s: float = 0.0
    #: Free bytes of the disk below which contents go that have lain unused for long.
    young_free: int = 0
    #: Free bytes of the disk below which all go.
    full_free: int = 0
    #: What counts as long, for `young_free`.
    unused_s: float = 7200.0
    #: Tenths of those that have lain unused for long which go at a time.
    clean_tenths: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """One content of a store. Times in one clock's seconds."""

    task: str
    #: Bytes that it takes.
    size: int
    used_at: float
    kept_until: float = 0.0
    #: It is being read, written or served.
    in_use: bool = False
    #: Bytes that the disk has more when it goes; None: as many as it takes. A hard link keeps them taken.
    frees: int | None = None

    @property
    def gives(self) -> int:
        """Bytes that the disk has more when it goes."""
        return self.size if self.frees is None else self.frees


class Why(Enum):
    """Why a content goes."""

    ROOM = "its room is needed"
    EXPIRED = "nobody has used it for long"
    QUOTA = "the quota is exceeded"
    FULL = "the disk is nearly full"
    YOUNG = "the disk fills up, and nobody has used it for long"
    ASKED = "an operator asked for room"


class Stays(Enum):
    """Why a content does not go, although room is asked for."""

    KEPT = "kept"
    IN_USE = "in use"
    #: A user's hard link holds its bytes: without it there would be no more room.
    LINKED = "linked"


@dataclass(frozen=True, slots=True)
class Shortage:
    """There is no room for a new content, whoever goes."""

    #: Bytes that it may take at most, by the quota and by the disk.
    quota_room: int | None
    disk_room: int
    #: Whether it would fit if nobody used anything: waiting may help.
    passes: bool


def may_go(content: Content, now: float) -> bool:
    """Whether it is neither in use nor kept."""
    return not content.in_use and content.kept_until <= now


def by_age(contents: Iterable[Content], now: float) -> list[Content]:
    """Those that may go, in the order in which they do."""
    return sorted((each for each in contents if may_go(each, now)), key=lambda each: (each.used_at, each.task))


def room_for(
    needed: int, contents: Iterable[Content], rules: Rules, now: float, *, free: int, promised: int = 0
) -> list[Content] | Shortage:
    """Who goes so that a new content of `needed` bytes has room; nobody, where it has. Its predecessor is not among them.

    `free`: bytes that the disk has. `promised`: bytes of others that are about to be written.
    """
    there = list(contents)
    used = promised + sum(each.size for each in there)
    order = by_age(there, now)
    over = used + needed - rules.quota if rules.quota else 0
    # The last `full_free` bytes are asked of the others; where these are not enough, they may be used.
    lacking = promised + needed + rules.full_free - free
    gone: list[Content] = []
    for each in order:
        if over > 0 or (lacking > 0 and each.gives):
            gone.append(each)
            over, lacking = over - each.size, lacking - each.gives
    if over <= 0 and lacking <= rules.full_free:
        return gone
    kept = sum(each.size for each in there if each.kept_until > now)
    kept_gives = sum(each.gives for each in there if each.kept_until > now)
    gives = sum(each.gives for each in there)
    passes = (not rules.quota or kept + needed <= rules.quota) and needed <= free + gives - kept_gives
    quota_room = max(0, needed - over) if rules.quota else None
    return Shortage(quota_room, max(0, needed - lacking + rules.full_free), passes)


def tidied(contents: Iterable[Content], rules: Rules, now: float, *, free: int, promised: int = 0) -> list[tuple[Content, Why]]:
    """Who goes from time to time, although nobody needs room."""
    there = list(contents)
    used = promised + sum(each.size for each in there)
    order = by_age(there, now)
    gone: list[tuple[Content, Why]] = []
    left: list[Content] = []
    for each in order:
        if rules.expire_s > 0 and now - each.used_at > rules.expire_s:
            gone.append((each, Why.EXPIRED))
        elif rules.quota and used > rules.quota:
            gone.append((each, Why.QUOTA))
        elif free < rules.full_free and each.gives:
            gone.append((each, Why.FULL))
        else:
            left.append(each)
            continue
        used, free = used - each.size, free + each.gives
    unused = [each for each in left if now - each.used_at >= rules.unused_s and each.gives]
    for each in unused[: max(1, -(-len(unused) * rules.clean_tenths // 10))]:
        if free >= rules.young_free:
            break
        gone.append((each, Why.YOUNG))
        free += each.gives
    return gone


def collected(contents: Iterable[Content], wanted: int, now: float) -> list[Content]:
    """Who goes so that `wanted` bytes more are free, or as many as can be."""
    gone: list[Content] = []
    for each in by_age(contents, now):
        if wanted <= 0:
            break
        if each.gives:
            gone.append(each)
            wanted -= each.gives
    return gone


def staying(contents: Iterable[Content], now: float) -> dict[Stays, tuple[int, int]]:
    """Of what must stay, whoever asks for room: how many, and their bytes, by the first reason that holds."""
    found: dict[Stays, tuple[int, int]] = {}
    for each in contents:
        if each.kept_until > now:
            why = Stays.KEPT
        elif each.in_use:
            why = Stays.IN_USE
        elif not each.gives and each.size:
            why = Stays.LINKED
        else:
            continue
        count, size = found.get(why, (0, 0))
        found[why] = count + 1, size + each.size
    return found


def room_to_keep(task: str, contents: Iterable[Content], rules: Rules, now: float) -> int | None:
    """Bytes that a content may take to be kept beside those that are; None: any number."""
    if not rules.quota:
        return None
    kept = sum(each.size for each in contents if each.kept_until > now and each.task != task)
    return max(0, rules.quota * rules.kept_percent // 100 - kept)
