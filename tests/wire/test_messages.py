"""The messages' table: every field is described, and every bound is one that the codec can carry."""

from dataclasses import MISSING, FrozenInstanceError, fields
from typing import Any

import pytest

from tests.wire.golden_messages import GOLDEN
from wire.codec import MAX_LIST, MAX_MAP
from wire.fields import ABOUT, SPEC, Many, Maybe, Row, Spec
from wire.messages import (
    MESSAGES,
    Cancel,
    Kind,
    Message,
    Placed,
)

ALL_FIELDS = [(kind, each) for kind, message in MESSAGES.items() for each in fields(message)]  # type: ignore[arg-type]


def test_every_kind_has_one_message_and_fits_the_heads_byte() -> None:
    assert set(MESSAGES) == set(Kind)
    assert all(message.KIND is kind for kind, message in MESSAGES.items())
    assert len(set(MESSAGES.values())) == len(Kind)
    assert all(1 <= kind <= 255 for kind in Kind)


def test_every_kind_has_a_golden_frame() -> None:
    assert {message.KIND for message, _ in GOLDEN.values()} == set(Kind)


def test_only_blocks_carry_a_payload() -> None:
    assert [kind.name for kind, message in MESSAGES.items() if message.CARRIES_PAYLOAD] == ["BLOCKS"]


@pytest.mark.parametrize("message", MESSAGES.values(), ids=lambda message: message.KIND.name)
def test_a_message_is_frozen_slotted_and_documented(message: type[Message]) -> None:
    assert message.__doc__
    assert "__slots__" in vars(message)
    assert len(fields(message)) < MAX_MAP  # type: ignore[arg-type]
    assert not [each.name for each in fields(message) if not each.kw_only]  # type: ignore[arg-type]


def test_a_message_does_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        Placed(task="0" * 64).linked = True  # type: ignore[misc]
    assert Cancel() == Cancel()


@pytest.mark.parametrize(("kind", "field"), ALL_FIELDS, ids=lambda each: getattr(each, "name", ""))
def test_a_field_is_described_and_its_default_allowed(kind: Kind, field: Any) -> None:
    assert field.metadata[ABOUT]
    assert field.metadata[SPEC].describe()
    if field.default is not MISSING:
        assert field.metadata[SPEC].check(field.default) == field.default


def longest_list(spec: Spec) -> int:
    match spec:
        case Many():
            return max(spec.limit, longest_list(spec.item))
        case Row():
            return max(len(spec.places), *(longest_list(place) for place in spec.places))
        case Maybe():
            return longest_list(spec.item)
        case _:
            return 0


@pytest.mark.parametrize(("kind", "field"), ALL_FIELDS, ids=lambda each: getattr(each, "name", ""))
def test_no_field_allows_a_longer_list_than_the_codec(kind: Kind, field: Any) -> None:
    assert longest_list(field.metadata[SPEC]) <= MAX_LIST
