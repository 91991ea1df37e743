"""Credit: how many bytes a child lets a parent have in flight to it. Arithmetic that both ends must agree on."""

from typing import Final

#: In flight to a child from one parent, at most. What it begins with and grows to is the child's to choose.
MAX_CREDIT_BYTES: Final = 16 << 20


class Credit:
    """A count of bytes that may still be asked for. Never negative, never above its limit."""

    __slots__ = ("in_flight", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = min(max(1, limit), MAX_CREDIT_BYTES)
        self.in_flight = 0

    def allows(self, size: int) -> bool:
        """Whether `size` more bytes may be asked for. One request is always allowed, however large."""
        return self.in_flight == 0 or self.in_flight + size <= self.limit

    def spend(self, size: int) -> None:
        """`size` bytes have been asked for."""
        self.in_flight += size

    def give_back(self, size: int) -> None:
        """`size` bytes have arrived, or will not come. Raises ValueError for more than is in flight: a bug here."""
        if size > self.in_flight:
            raise ValueError(f"{size} bytes back of {self.in_flight} in flight")
        self.in_flight -= size
