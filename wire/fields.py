"""The field types of messages: what a value may be, checked when it is sent and when it arrives.

A spec's `check` returns the value as the message holds it, or raises `FieldError` with the reason; it never lets
anything through that is longer, larger or of another type than PROTOCOL.md says.
"""

from collections.abc import Callable
from dataclasses import MISSING, dataclass, field
from enum import IntEnum
from typing import Any, Protocol

#: The key under which a dataclass field holds its spec, and the one for its description.
SPEC = "wire"
ABOUT = "about"


class FieldError(ValueError):
    """A value is not what its field allows."""


class Spec(Protocol):
    """What a field may hold."""

    def check(self, value: Any) -> Any:
        """The value as the message holds it. Raises FieldError."""

    def describe(self) -> str:
        """The type as PROTOCOL.md prints it."""


@dataclass(frozen=True, slots=True)
class Text:
    """UTF-8 text of at most `limit` characters."""

    limit: int

    def check(self, value: Any) -> str:
        if not isinstance(value, str) or len(value) > self.limit:
            raise FieldError(f"not a text of at most {self.limit} characters")
        return value

    def describe(self) -> str:
        return f"text ≤ {self.limit}"


@dataclass(frozen=True, slots=True)
class Pattern:
    """Text that a predicate accepts."""

    accepts: Callable[[str], bool]
    name: str

    def check(self, value: Any) -> str:
        if not isinstance(value, str) or not self.accepts(value):
            raise FieldError(f"not a {self.name}")
        return value

    def describe(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Raw:
    """Bytes: at most `limit`, in whole units of `unit`."""

    limit: int
    unit: int = 1

    def check(self, value: Any) -> bytes:
        if not isinstance(value, bytes) or len(value) > self.limit or len(value) % self.unit:
            raise FieldError(f"not at most {self.limit} bytes in units of {self.unit}")
        return value

    def describe(self) -> str:
        return f"bytes ≤ {self.limit}" + (f", n × {self.unit}" if self.unit > 1 else "")


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number from `low` to `high`, both included."""

    low: int
    high: int

    def check(self, value: Any) -> int:
        if type(value) is not int or not self.low <= value <= self.high:
            raise FieldError(f"not a whole number from {self.low} to {self.high}")
        return value

    def describe(self) -> str:
        return f"int {self.low}..{self.high}"


@dataclass(frozen=True, slots=True)
class Real:
    """A finite number from 0 to `high`."""

    high: float

    def check(self, value: Any) -> float:
        if type(value) not in (int, float) or not 0 <= value <= self.high:
            raise FieldError(f"not a number from 0 to {self.high:g}")
        return float(value)

    def describe(self) -> str:
        return f"number 0..{self.high:g}"


@dataclass(frozen=True, slots=True)
class Flag:
    """True or false."""

    def check(self, value: Any) -> bool:
        if type(value) is not bool:
            raise FieldError("not true or false")
        return value

    def describe(self) -> str:
        return "bool"


@dataclass(frozen=True, slots=True)
class OneOf:
    """A member of an IntEnum, as its number."""

    members: type[IntEnum]

    def check(self, value: Any) -> IntEnum:
        if not isinstance(value, int) or isinstance(value, bool):
            raise FieldError(f"not a {self.members.__name__}")
        try:
            return self.members(value)
        except ValueError:
            raise FieldError(f"{value} is no {self.members.__name__}") from None

    def describe(self) -> str:
        return f"{self.members.__name__}"


@dataclass(frozen=True, slots=True)
class Many:
    """A list of at most `limit` values of one type."""

    item: Spec
    limit: int

    def check(self, value: Any) -> tuple[Any, ...]:
        if not isinstance(value, tuple) or len(value) > self.limit:
            raise FieldError(f"not a list of at most {self.limit}")
        return tuple(self.item.check(each) for each in value)

    def describe(self) -> str:
        return f"list ≤ {self.limit} of ({self.item.describe()})"


@dataclass(frozen=True, slots=True)
class Row:
    """A list of fixed length, each place with its own type."""

    places: tuple[Spec, ...]

    def check(self, value: Any) -> tuple[Any, ...]:
        if not isinstance(value, tuple) or len(value) != len(self.places):
            raise FieldError(f"not a list of {len(self.places)}")
        return tuple(place.check(each) for place, each in zip(self.places, value, strict=True))

    def describe(self) -> str:
        return "[" + ", ".join(place.describe() for place in self.places) + "]"


@dataclass(frozen=True, slots=True)
class Maybe:
    """The value, or nil."""

    item: Spec

    def check(self, value: Any) -> Any:
        return None if value is None else self.item.check(value)

    def describe(self) -> str:
        return f"{self.item.describe()} or nil"


def wired(spec: Spec, about: str, default: Any = MISSING) -> Any:
    """A message's field. Without `default` it must be on the wire; with one, an older end may leave it out."""
    metadata = {SPEC: spec, ABOUT: about}
    return field(metadata=metadata) if default is MISSING else field(metadata=metadata, default=default)
