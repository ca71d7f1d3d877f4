"""What is looked for: canaries, in each form in which one could hide in a file or an answer.

A canary is a phone number, a name or a key that stands nowhere else. Numbers have 13 digits, more
than any country's, so nobody's is in a test and no hash or time looks like one by chance.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from jobs.phone import PhoneNumber

NUMBER, STRANGER, NAME, KEY = "number", "stranger's number", "name", "key"
ALL = frozenset({NUMBER, STRANGER, NAME, KEY})
NAME_MARK = "Xanthippe"
"""How every canary's name begins."""


@dataclass(frozen=True)
class Canary:
    """A customer who is looked for."""

    name: str
    phone: PhoneNumber


def canaries(kinds: Iterable[str], tail: str = "17471") -> list[Canary]:
    """Return a canary for each of the sandbox's magic prefixes (sandbox/numbers.py).

    All numbers end in the five digits of `tail`.
    """
    return [
        Canary(f"{NAME_MARK}{n:04d}", PhoneNumber("852", f"{kind}{n:04d}{tail}"))
        for n, kind in enumerate(kinds)
    ]


def forms(text: str) -> Iterator[tuple[str, bytes]]:
    """Yield how a text looks, by name: as it is, and wrapped in what programs wrap texts in."""
    plain = text.encode()
    yield "plain", plain
    yield "reversed", plain[::-1]
    hexes = dict.fromkeys((plain.hex(), plain.hex().upper()))  # of digits both are the same
    yield from (("hex", each.encode()) for each in hexes)
    # either order of the two bytes has this in the middle
    yield "UTF-16", b"\0".join(bytes([byte]) for byte in plain)
    for offset in range(3):
        # what depends on the neighbours is cut off
        encoded = base64.b64encode(bytes(offset) + plain)
        first = (0, 2, 3)[offset]
        last = (offset + len(plain)) * 8 // 6
        yield f"base64, {offset} before it", encoded[first:last]
    if text.isdigit():
        # Redis keeps a number in a small hash or list as an integer
        yield "integer", int(text).to_bytes(8, "little").rstrip(b"\0")


FEW = 32
"""So many are searched for one by one: sooner than where many have little in common."""


class Needles:
    """Finds them in bytes, thousands at once.

    Those of one kind and form have a beginning in common, so a group of many is one search.
    """

    def __init__(self, texts: Mapping[str, Iterable[str]]) -> None:
        """Take the texts by kind."""
        groups: dict[tuple[str, str, int], set[bytes]] = {}
        for kind, each in texts.items():
            for text in each:
                for form, data in forms(text):
                    groups.setdefault((kind, form, len(data)), set()).add(data)
        self._groups = {
            group: (found if len(found) <= FEW else {_beginning(found)}, found)
            for group, found in groups.items()
        }

    def find(
        self, hay: bytes, kinds: Iterable[str] = (NUMBER, STRANGER, NAME, KEY)
    ) -> Counter[str]:
        """Count what is found, as "number, hex"."""
        wanted = set(kinds)
        found: Counter[str] = Counter()
        for (kind, form, length), (beginnings, needles) in self._groups.items():
            if kind not in wanted:
                continue
            for beginning in beginnings:
                at = hay.find(beginning)
                while at >= 0:
                    if hay[at : at + length] in needles:
                        found[f"{kind}, {form}"] += 1
                    at = hay.find(beginning, at + 1)
        return found


def _beginning(found: set[bytes]) -> bytes:
    """Return what all begin with."""
    first, last = min(found), max(found)
    same = (a == b for a, b in zip(first, last, strict=True))
    return first[: next((n for n, is_same in enumerate(same) if not is_same), len(first))]
