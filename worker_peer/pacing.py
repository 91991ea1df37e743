"""Work that must not come all at once: a supernode that is back hears from every host, and each has much to say."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

_Item = TypeVar("_Item")
_AT_ONCE: Final = 32
_PAUSE_S: Final = 0.25


async def a_few_at_a_time(items: Iterable[_Item], do: Callable[[_Item], None]) -> None:
    """Do it with each, some tens at once and then a pause."""
    for number, item in enumerate(items):
        if number and number % _AT_ONCE == 0:
            await asyncio.sleep(_PAUSE_S)
        do(item)
