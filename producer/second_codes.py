"""Rows of a file that must not get a second code, by what the ledger and the file itself say.

Above all, this concerns a file of results that comes back: a person takes the results, corrects
what failed and submits the file. Whether it holds only the failed rows or all of them, a row that
was sent, or is on its way in another batch, must not be sent again. Its column `status` says which
those are; a person who clears that cell wants it sent. What failed may have been requeued since, or
corrected in this file and submitted before: if a code went to the number after the row's
`finished_at`, or waits elsewhere, the ledger knows. It also knows whether the row still has the
number that was refused for good: then the number has a dead letter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from itertools import repeat

import redis

from config.settings import Settings
from jobs.batches import Batches
from jobs.codes import OwnCode, is_permanent
from jobs.deadletters import WINDOW, DeadLetters
from jobs.job import EVENT, State, split_job_id
from jobs.ledger import NumberHistory, histories
from jobs.phone import Fault, PhoneNumber
from jobs.rows import CHUNK_ROWS
from jobs.scripts import LedgerPart, parted
from jobs.vault import Vault
from producer.sheet import FAULTS, Row, Sheet, SheetError
from producer.stories import FORGOTTEN

_LETTERS_READ = 100_000
"""Only the newest dead letters are read: more would take long, and memory."""
NO_HISTORY = NumberHistory()


class Memory(LedgerPart):
    """Codes that were sent to numbers or wait to be, and numbers that were refused.

    What waits is read once; in the batch `batch_id` itself it does not count.
    """

    def __init__(self, client: redis.Redis, settings: Settings, batch_id: str = "") -> None:
        super().__init__(client, settings)
        self._batches = Batches(client, settings)
        self._batch_id = batch_id
        self._vault = Vault(client, settings)
        self._letters = DeadLetters(client, settings)

    def histories(self, phones: Sequence[PhoneNumber]) -> list[NumberHistory]:
        found = histories(self.client, self.settings, phones)
        if not self._waiting:
            return found
        return [
            replace(history, waits_in=batch_id) if (batch_id := self.waits_in(phone)) else history
            for history, phone in zip(found, phones, strict=True)
        ]

    def waits_in(self, phone: PhoneNumber) -> str:
        """Return the batch in which a code to the number waits, or `EVENT`; "" if none does."""
        return self._waiting.get(self._hash(phone), "")

    def note_waiting(self, phone: PhoneNumber, batch_id: str) -> None:
        """Remember that a code to the number waits from now on."""
        self._waiting.setdefault(self._hash(phone), batch_id)

    def _hash(self, phone: PhoneNumber) -> int:
        return hash(self._vault.index(phone.country_code, phone.phone_num))

    @cached_property
    def _waiting(self) -> dict[int, str]:
        """The batch in which a code waits, by the hash of its number's index (as in tally.py).

        A million waiting codes take 3 s and 95 MB here, and 0.1 s of Redis' time, a few
        milliseconds at once.
        """
        found: dict[int, str] = {}
        for batch_id, number in self._batches.waiting(self._batch_id):
            found.setdefault(hash(number), batch_id)
        return found

    def has_refused_for_good(self, phone: PhoneNumber) -> bool:
        """Return whether the number has a dead letter that would only be refused again."""
        return hash(phone.e164) in self._refused

    def is_corrected(self, job_id: str) -> bool:
        """Return whether another corrected file took over the customer of a job, and did not fail.

        The job failed, or its row was rejected. What stands for the customer may be waiting, sent
        or perhaps sent.
        """
        by = self._letters.corrected_by(job_id) if job_id else ""
        # what the batch itself noted before it was cut off is no reason to leave its rows out
        if not by or split_job_id(by)[0] == self._batch_id:
            return False
        (letter,) = self._letters.read([by])
        return letter.record is None or letter.record.state is not State.DEAD

    @cached_property
    def _refused(self) -> set[int]:
        """Hashes of the numbers with a dead letter that would only be refused again."""
        found: set[int] = set()
        if not any(is_permanent(code) for code in self._letters.by_code()):
            return found
        place = max(0, self._letters.count() - _LETTERS_READ)
        while letters := self._letters.window(place):
            for letter in letters:
                if letter.record is not None and is_permanent(letter.record.code):
                    found.add(hash(letter.record.phone.e164))
            place += WINDOW
        return found


def already_waits(batch_id: str) -> str:
    """Return in words where a number's code waits: "waits for a code in batch b1 already".

    The batch is "" where it is not known.
    """
    if not batch_id:
        return "waits for a code already"
    where = "by an event" if batch_id == EVENT else f"in batch {batch_id}"
    return f"waits for a code {where} already"


_STATUS = "status"
_OUR_MARKS = frozenset({"request_id", "finished_at"})
"""Columns that, like `status`, a file of results has and hardly any other."""

_BY_STATUS: dict[str, Fault] = {
    **{state: FAULTS["already_sent"] for state in State if state.is_sent},
    **{state: FAULTS["under_way"] for state in State if not state.is_final},
    State.UNKNOWN: FAULTS["perhaps_sent"],
    FORGOTTEN: FAULTS["perhaps_sent"],
}
_STATES = frozenset({*State, FORGOTTEN})
_BY_CODE = {
    code: FAULTS[code]
    for code in (
        *("already_sent", "under_way", "perhaps_sent", "sent_since", "sent_before"),
        *("left_out", "corrected_since"),
    )
}
_BY_CODE[OwnCode.SENT_MEANWHILE] = FAULTS["sent_since"]
_WAITS = "waits_elsewhere"

KEPT_BACK = frozenset({*_BY_CODE, _WAITS})
"""Codes of rejected rows that need no correction: they are done, or under way, elsewhere, or a
person left them out."""


def rows_to_send(
    sheet: Sheet, memory: Memory | None = None, *, skip_sent_after: int | None = None
) -> Iterator[tuple[Row, NumberHistory]]:
    """Yield the rows, each with its number's history.

    Those that must not be sent again have a problem instead of a number, and no history. With
    `skip_sent_after` these are also all rows after that one (0: all) whose number got a code
    before, or waits for one, by whatever. Without `memory` only the file itself is read, and all
    histories are empty.

    Raises:
        SheetError: `no_status_column`, or as iterating over the sheet does.
    """
    judge = _Judge(sheet, memory) if is_results_file(sheet) else None
    for chunk in parted(iter(sheet), CHUNK_ROWS):
        phones = [row.phone for row in chunk if row.phone is not None]
        known = iter(memory.histories(phones)) if memory is not None else repeat(NO_HISTORY)
        for row in chunk:
            if row.phone is None:
                yield row, NO_HISTORY
                continue
            history = next(known)
            fault = judge.fault(row, row.phone, history) if judge is not None else None
            if fault is None and skip_sent_after is not None and row.number > skip_sent_after:
                fault = _left_out(history)
            yield (row, history) if fault is None else (row.kept_back(fault), NO_HISTORY)


def _left_out(history: NumberHistory) -> Fault | None:
    """Return why a row is left out of a file whose second codes are not wanted, if it is."""
    if history.codes:
        return FAULTS["sent_before"]
    if not history.waits_in:
        return None
    return _waits(
        history.waits_in, "to send it another one, submit the file without leaving out such rows"
    )


def _waits(batch_id: str, remedy: str) -> Fault:
    return Fault(_WAITS, f"its number {already_waits(batch_id)}", remedy)


def is_results_file(sheet: Sheet) -> bool:
    """Return whether a file holds results that this package wrote, whatever a person did to them.

    It does if it has a column `status` and another of ours, or a column `status` that mostly holds
    names of our states: a person may have deleted the others, or written into some of its cells.

    Raises:
        SheetError: `no_status_column`: it does, but nobody can tell any more which were sent.
    """
    names = {name.strip().casefold() for name in sheet.header}
    if _STATUS not in names:
        if names >= _OUR_MARKS:
            raise SheetError(
                "no_status_column",
                "this is a file of results without its column status, so it does not say which "
                "rows were sent already",
                "put the column back; or delete request_id and finished_at too, if every row is "
                "to be sent",
                file=sheet.name,
            )
        return False
    return bool(names & _OUR_MARKS) or _holds_our_states(sheet)


def _holds_our_states(sheet: Sheet) -> bool:
    """Return whether most filled cells of the column `status` are ours: one pass over the file."""
    status = last_named(sheet.header, _STATUS)
    ours = others = 0
    for row in sheet:
        value = cell_of(row, status).casefold()
        if value in _STATES:
            ours += 1
        elif value:
            others += 1
    return ours > others


class _Judge:
    """Finds the rows of a results file that must not be sent again."""

    def __init__(self, sheet: Sheet, memory: Memory | None) -> None:
        self._memory = memory
        # ours are the last of these names: a customer may have a column "status" too
        self._status = last_named(sheet.header, _STATUS)
        self._code = last_named(sheet.header, "code")
        self._job_id = last_named(sheet.header, "job_id")
        self._finished_at = last_named(sheet.header, "finished_at")

    def fault(self, row: Row, phone: PhoneNumber, history: NumberHistory) -> Fault | None:
        status, code = cell_of(row, self._status).casefold(), cell_of(row, self._code)
        if status in {State.REJECTED, State.CANCELLED} and code in _BY_CODE:
            # kept back once, a row stays kept back through any number of results files
            return _BY_CODE[code]
        if status in _BY_STATUS:
            return _BY_STATUS[status]
        finished_ms = _milliseconds(cell_of(row, self._finished_at)) if status else None
        sent_ms = history.sent_ms
        if sent_ms is not None and finished_ms is not None and sent_ms > finished_ms:
            return FAULTS["sent_since"]
        if status and history.waits_in:
            return _waits(history.waits_in, FAULTS["already_sent"].remedy)
        memory = self._memory if status in {State.DEAD, State.REJECTED} else None
        if memory is not None and memory.is_corrected(cell_of(row, self._job_id)):
            return FAULTS["corrected_since"]
        if status == State.REJECTED:
            was_refused = code == "refused_for_good"
        else:
            was_refused = not code or is_permanent(code)
        is_again = memory is not None and was_refused and memory.has_refused_for_good(phone)
        return FAULTS["refused_for_good"] if is_again else None


def _milliseconds(text: str) -> int | None:
    """Return the time that `iso` wrote as `text`; None for any other text."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return round(moment.timestamp() * 1000) if moment.tzinfo else None


def last_named(header: Sequence[str], name: str) -> int | None:
    """Return the last column of that name, whatever its case and the spaces around it."""
    exact = [index for index, each in enumerate(header) if each == name]
    found = exact or [i for i, each in enumerate(header) if each.strip().casefold() == name]
    return found[-1] if found else None


def cell_of(row: Row, index: int | None) -> str:
    """Return a cell without the spaces around it; "" if the row is short or the column missing."""
    return row.cells[index].strip() if index is not None and index < len(row.cells) else ""
