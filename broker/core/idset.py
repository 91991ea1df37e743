"""IdSet: a set with a random member in constant time. No knowledge of what is in it."""

from typing import Generic, Protocol, TypeVar

Item = TypeVar("Item")


class Rng(Protocol):
    """What the core needs of `random.Random`. It is passed in: the core itself is deterministic."""

    def random(self) -> float:
        """A number from 0 up to, not including, 1."""


class IdSet(Generic[Item]):
    """A set of hashable things with constant-time add, discard and random choice.

    `items` lists the members in an order that means nothing; it may be read, and indexed by whoever samples in a hot
    path, but only the methods may change it.
    """

    __slots__ = ("items", "places")

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.places: dict[Item, int] = {}

    def add(self, item: Item) -> None:
        """Put an item in, if it is not."""
        if item not in self.places:
            self.places[item] = len(self.items)
            self.items.append(item)

    def discard(self, item: Item) -> None:
        """Take an item out, if it is in. The last one takes its place."""
        place = self.places.pop(item, None)
        if place is None:
            return
        last = self.items.pop()
        if last is not item:
            self.items[place] = last
            self.places[last] = place

    def put(self, item: Item, member: bool) -> None:
        """Make the item a member, or not one."""
        if member:
            if item not in self.places:
                self.places[item] = len(self.items)
                self.items.append(item)
        elif item in self.places:
            self.discard(item)

    def sample(self, count: int, rng: Rng) -> list[Item]:
        """`count` members drawn with replacement; all of them, once each, where there are no more than that."""
        items = self.items
        size = len(items)
        if size <= count:
            return items.copy()
        random = rng.random
        return [items[int(random() * size)] for _ in range(count)]

    def window(self, start: int, count: int) -> list[Item]:
        """`count` members from place `start` on, around the end: whoever moves `start` on meets every one in turn."""
        size = len(self.items)
        if size <= count:
            return self.items.copy()
        start %= size
        taken = self.items[start : start + count]
        return taken + self.items[: count - len(taken)]

    def __contains__(self, item: Item) -> bool:
        return item in self.places

    def __len__(self) -> int:
        return len(self.items)

    def validate(self) -> None:
        """Raise AssertionError where list and places contradict each other."""
        assert len(self.items) == len(self.places)
        assert all(self.places.get(item) == place for place, item in enumerate(self.items))
