"""What is remembered of a setup comes back as it was, and a file's fate is told from it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.setup.journal import Entry, Fate, Journal, Seen, State, decode, fate, merged
from gateway.core.setup.plan import Mode, Refused, Runtime, Wish

_TEXT = st.text(max_size=10)
_NUMBER = st.integers(0, 1 << 40)
_SEEN = st.builds(Seen, sha256=_TEXT, mode=_NUMBER, uid=_NUMBER, gid=_NUMBER, mtime_ns=_NUMBER)
_ENTRIES = st.builds(Entry, path=_TEXT, before=st.none() | _SEEN, kept_as=_TEXT, after=st.lists(_SEEN, max_size=3).map(tuple))
_TEXTS = st.lists(_TEXT, max_size=3).map(tuple)
_WISHES = st.builds(
    Wish,
    runtime=st.sampled_from(Runtime),
    mode=st.none() | st.sampled_from(Mode),
    registries=_TEXTS,
    config_file=_TEXT,
    hosts_dir=_TEXT,
    replace_proxy=st.booleans(),
)
_JOURNALS = st.builds(
    Journal,
    wish=_WISHES,
    root=_TEXT,
    urls=_TEXTS,
    state=st.sampled_from(State),
    entries=st.lists(_ENTRIES, max_size=3).map(tuple),
    folders=_TEXTS,
    commands=st.lists(_TEXTS, max_size=2).map(tuple),
    reloads=st.booleans(),
    restarts=_TEXT,
    mode=st.sampled_from(Mode),
    user_home=_TEXT,
    version=st.none() | st.tuples(_NUMBER, _NUMBER),
)
_A = Seen(sha256="a", mode=0o644, uid=0, gid=0, mtime_ns=1)
_B = Seen(sha256="b", mode=0o644, uid=0, gid=0)
_C = Seen(sha256="c", mode=0o644, uid=0, gid=0)
_NEW = Entry(path="/f", before=None, kept_as="", after=(_B,))
_CHANGED = Entry(path="/f", before=_A, kept_as="k", after=(_B, _C))


@given(_JOURNALS)
def test_a_journal_comes_back_as_it_was(journal: Journal) -> None:
    assert decode(journal.encoded(), "j") == journal


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"version": 2}', b"\xff", b'{"version": 1, "wish": 1}'])
def test_what_is_no_journal_is_refused(content: bytes) -> None:
    with pytest.raises(Refused, match=r"/home/journal.json is no journal of this release"):
        decode(content, "/home/journal.json")


@pytest.mark.parametrize(
    ("entry", "now", "found"),
    [
        (_NEW, None, Fate.AS_BEFORE),
        (_NEW, _B, Fate.OURS),
        (_NEW, _A, Fate.EDITED),
        (_CHANGED, _A, Fate.AS_BEFORE),
        # A time is no difference; a mode or an owner is.
        (_CHANGED, Seen(sha256="a", mode=0o644, uid=0, gid=0, mtime_ns=9), Fate.AS_BEFORE),
        (_CHANGED, Seen(sha256="a", mode=0o600, uid=0, gid=0), Fate.EDITED),
        (_CHANGED, Seen(sha256="c", mode=0o644, uid=1, gid=0), Fate.EDITED),
        (_CHANGED, _B, Fate.OURS),
        (_CHANGED, _C, Fate.OURS),
        (_CHANGED, None, Fate.EDITED),
    ],
)
def test_the_fate_of_a_file(entry: Entry, now: Seen | None, found: Fate) -> None:
    assert fate(entry, now) is found


def test_a_later_setup_does_not_forget_what_was_before_the_first() -> None:
    later = Entry(path="/f", before=_C, kept_as="other", after=(_A,))
    assert merged(later, None) is later
    assert merged(later, _CHANGED) == Entry(path="/f", before=_A, kept_as="k", after=(_B, _C, _A))
    for number in range(20):
        many = merged(Entry(path="/f", before=_C, kept_as="", after=(Seen(sha256=str(number), mode=0, uid=0, gid=0),)), _CHANGED)
    assert many.after[-1].sha256 == "19"
