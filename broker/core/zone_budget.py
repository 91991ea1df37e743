"""A budget for what enters a zone: so many bytes per second, over all tasks together.

Spent when a piece is promised into a zone, given back when the promise is broken. A zone's account may be overdrawn by the
pieces of one decision: nothing enters again until that has been earned, so that over time the rate is exact.
"""

from typing import Final

#: What is not spent is kept for so long: decisions come in gusts.
BURST_S: Final = 1.0
#: So many accounts are kept; those that are full again are dropped first.
_ACCOUNTS: Final = 4096


class ZoneBudget:
    """The accounts of all zones by their names. `rate`: bytes per second into each; `now` as the matcher's."""

    def __init__(self, rate: float) -> None:
        if rate <= 0:
            raise ValueError(f"a budget of {rate} bytes/s lets nothing in")
        self.rate = rate
        self._most = rate * BURST_S
        #: Zone -> bytes that may enter, and when that was so.
        self._accounts: dict[str, tuple[float, float]] = {}

    def left(self, zone: str, now: float) -> float:
        """Bytes that may enter the zone now; 0 or less: none."""
        account = self._accounts.get(zone)
        if account is None:
            return self._most
        amount, at = account
        return min(self._most, amount + self.rate * max(0.0, now - at))

    def spend(self, zone: str, amount: float, now: float) -> None:
        """So many bytes are promised into the zone; fewer than 0: a promise is broken."""
        if zone not in self._accounts and len(self._accounts) >= _ACCOUNTS:
            self._tidy(now)
        self._accounts[zone] = (min(self._most, self.left(zone, now) - amount), now)

    def _tidy(self, now: float) -> None:
        kept = {zone: account for zone, account in self._accounts.items() if self.left(zone, now) < self._most}
        while len(kept) >= _ACCOUNTS:
            del kept[next(iter(kept))]
        self._accounts = kept

    def __len__(self) -> int:
        return len(self._accounts)
