"""Hypothesis strategies made from the messages' own field specs: a new message or field is tested without a word here."""

from dataclasses import MISSING, fields
from typing import Any, cast

import msgpack
from hypothesis import settings
from hypothesis import strategies as st

from wire.fields import SPEC, Flag, Many, Maybe, OneOf, Pattern, Raw, Real, Row, Spec, Text, Whole
from wire.framing import Frame, to_frames
from wire.ids import is_sha256_digest, is_task_id
from wire.messages import MESSAGES, Kind, Message

#: A shared machine may be slow at any moment; a hang is the runner's business.
patient = settings(deadline=None)

_HEX = st.text("0123456789abcdef", min_size=64, max_size=64)
_PATTERNS: dict[Any, st.SearchStrategy[str]] = {is_task_id: _HEX, is_sha256_digest: _HEX.map("sha256:{}".format)}


def values(spec: Spec) -> st.SearchStrategy[Any]:
    """Values that a field takes. Long ones are left to tests of their own."""
    match spec:
        case Text():
            return st.text(max_size=min(spec.limit, 40))
        case Pattern():
            return _PATTERNS[spec.accepts]
        case Raw():
            return st.integers(0, min(spec.limit, 96) // spec.unit).flatmap(
                lambda count: st.binary(min_size=count * spec.unit, max_size=count * spec.unit)
            )
        case Whole():
            return st.integers(spec.low, spec.high)
        case Real():
            return st.floats(0, spec.high)
        case Flag():
            return st.booleans()
        case OneOf():
            return st.sampled_from(spec.members)
        case Many():
            return st.lists(values(spec.item), max_size=min(spec.limit, 5)).map(tuple)
        case Row():
            return st.tuples(*(values(place) for place in spec.places))
        case Maybe():
            return st.none() | values(spec.item)
    raise AssertionError(f"no strategy for {spec}")


def messages_of(kind: Kind) -> st.SearchStrategy[Message]:
    """Messages of a kind; fields with a default are sometimes left at it."""
    required: dict[str, st.SearchStrategy[Any]] = {}
    optional: dict[str, st.SearchStrategy[Any]] = {}
    for each in fields(MESSAGES[kind]):  # type: ignore[arg-type]
        (required if each.default is MISSING else optional)[each.name] = values(each.metadata[SPEC])
    return st.fixed_dictionaries(required, optional=optional).map(lambda given: MESSAGES[kind](**given))


#: Every kind, in any state.
messages: st.SearchStrategy[Message] = st.sampled_from(Kind).flatmap(messages_of)


@st.composite
def framed(draw: st.DrawFn) -> tuple[Message, bytes | None, list[Frame]]:
    """A message, its payload, and its frames."""
    message = draw(messages)
    payload = draw(st.binary(max_size=600)) if message.CARRIES_PAYLOAD else None
    return message, payload, to_frames(message, payload)


#: What msgpack can say, and more than any field allows.
packable: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=20)
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=8)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | st.integers(0, 9), inner, max_size=4),
    max_leaves=8,
)


@st.composite
def wrong_bodies(draw: st.DrawFn) -> tuple[Kind, bytes]:
    """A kind, and a map of its field names with anything in them."""
    kind = draw(st.sampled_from(Kind))
    known = {each.name: each.metadata[SPEC] for each in fields(MESSAGES[kind])}  # type: ignore[arg-type]
    body = {name: draw(packable | values(spec)) for name, spec in known.items() if draw(st.booleans())}
    body |= draw(st.dictionaries(st.text(max_size=8), packable, max_size=2))
    return kind, cast("bytes", msgpack.packb(body))
