"""What the ledger knows of the numbers in a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import islice, repeat

import redis

from config.settings import Settings
from jobs.batches import CHUNK_ROWS, Batches
from jobs.codes import is_permanent
from jobs.deadletters import WINDOW, DeadLetters
from jobs.job import EVENT
from jobs.keys import Keys
from jobs.numbers import NumberHistory, histories
from jobs.phone import PhoneNumber
from producer.sheet import Row

_LETTERS_READ = 100_000
"""Of the dead letters the newest are looked at: more would take long, and memory."""
NO_HISTORY = NumberHistory()


class Memory:
    """Codes that were sent to numbers or wait to be, and numbers that were refused.

    What waits is read once; in the batch `batch_id` itself it does not count.
    """

    def __init__(self, client: redis.Redis, settings: Settings, batch_id: str = "") -> None:
        self._batches = Batches(client, settings)
        self._batch_id = batch_id
        self._client = client
        self._keys = Keys(settings.sendcode_key_prefix)
        self._letters = DeadLetters(client, settings)
        self._refused: frozenset[int] | None = None

    def histories(self, phones: Sequence[PhoneNumber]) -> list[NumberHistory]:
        found = histories(self._client, self._keys, phones)
        if not self._waiting:
            return found
        return [
            replace(history, waits_in=batch_id) if (batch_id := self.waits_in(phone)) else history
            for history, phone in zip(found, phones, strict=True)
        ]

    def waits_in(self, phone: PhoneNumber) -> str:
        """Give the batch in which a code to the number waits, or `EVENT`; "" if none does."""
        return self._waiting.get(hash(f"{phone.country_code}\t{phone.phone_num}"), "")

    def note_waiting(self, phone: PhoneNumber, batch_id: str) -> None:
        """Remember that a code to the number waits from now on."""
        self._waiting.setdefault(hash(f"{phone.country_code}\t{phone.phone_num}"), batch_id)

    @cached_property
    def _waiting(self) -> dict[int, str]:
        """The batch in which a code waits, by the number's hash (64 bits, as in doubles.py).

        A million that wait take 3 s and 95 MB here, no memory in Redis, and of its time 0.1 s, no
        more than a few milliseconds at once.
        """
        found: dict[int, str] = {}
        for batch_id, number in self._batches.waiting(self._batch_id):
            found.setdefault(hash(number), batch_id)
        return found

    def has_refused_for_good(self, phone: PhoneNumber) -> bool:
        """Whether the number has a dead letter that would only be refused again."""
        if self._refused is None:
            self._refused = frozenset(self._refused_for_good())
        return hash(phone.e164) in self._refused

    def _refused_for_good(self) -> Iterator[int]:
        if not any(is_permanent(code) for code in self._letters.by_code()):
            return
        place = max(0, self._letters.count() - _LETTERS_READ)
        while letters := self._letters.window(place):
            for letter in letters:
                if letter.record is not None and is_permanent(letter.record.code):
                    yield hash(letter.record.phone.e164)
            place += WINDOW


def already_waits(batch_id: str) -> str:
    """Say where a code waits, of a number's `waits_in`: "waits for a code in batch b1 already"."""
    where = "by an event" if batch_id == EVENT else f"in batch {batch_id}"
    return f"waits for a code {where} already"


def with_histories(
    rows: Iterator[Row], memory: Memory | None
) -> Iterator[tuple[Row, NumberHistory]]:
    """Give each row with its number's history, which is empty for a row without a number.

    They are looked up `CHUNK_ROWS` at once; without `memory` all are empty.
    """
    while chunk := list(islice(rows, CHUNK_ROWS)):
        phones = [row.phone for row in chunk if row.phone is not None]
        known = iter(memory.histories(phones)) if memory is not None else repeat(NO_HISTORY)
        for row in chunk:
            yield row, next(known) if row.phone is not None else NO_HISTORY
