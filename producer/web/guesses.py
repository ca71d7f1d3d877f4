"""Growing delays for those who guess tokens and passwords."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

_FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 5.0
_FORGOTTEN_AFTER_S = 600.0
_MOST_ADDRESSES = 10_000


class Guesses:
    """Wrong tokens by address. Each further one is answered later than the last, up to a limit."""

    def __init__(
        self, longest_s: float = LONGEST_DELAY_S, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._longest_s = longest_s
        self._now = now
        self._wrong: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def add(self, address: str) -> float:
        """Count a wrong token; return the seconds to wait before the answer."""
        count, at = self._wrong.pop(address, (0, 0.0))
        now = self._now()
        count = count + 1 if now - at < _FORGOTTEN_AFTER_S else 1
        self._wrong[address] = count, now
        if len(self._wrong) > _MOST_ADDRESSES:
            self._wrong.popitem(last=False)
        return float(min(self._longest_s, _FIRST_DELAY_S * 2 ** min(count - 1, 10)))

    def forget(self, address: str) -> None:
        """Forget the wrong tokens of an address that sent a right one."""
        self._wrong.pop(address, None)
