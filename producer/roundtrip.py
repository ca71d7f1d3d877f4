"""A results file that comes back: corrected rows are sent, the others are kept back.

A person takes the results, corrects what failed and submits the file. Whether it holds only the
failed rows or all of them, a row that was sent, or is on its way in another batch, must not be sent
again. Its column `status` says which those are; a person who clears that cell wants it sent. What
failed may have been requeued since: if a code went to the number after the row's `finished_at`, the
ledger knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import islice

from jobs.outcome import State
from jobs.phone import PhoneNumber
from producer.sheet import Row, Sheet
from producer.sheet.problem import Fault, Problem
from producer.wording import FORGOTTEN

_OUR_MARKS = ("status", "request_id", "finished_at")
"""Columns by which a file is known to be one of results, wherever a person has moved them."""

_CLEAR = "to send it all the same, clear its cell in the column status"
_SENT = Fault("already_sent", "by its column status this row was sent already", _CLEAR)
_UNDER_WAY = Fault(
    "under_way", "by its column status this row is on its way in another batch", _CLEAR
)
_PERHAPS = Fault(
    "perhaps_sent",
    "by its column status this row was perhaps sent",
    f"check with the customer whether a code has come; {_CLEAR}",
)
_SINCE = Fault(
    "sent_since",
    "a code went to this number after the time in its column finished_at",
    _CLEAR,
)
_BY_STATUS: dict[str, Fault] = {
    State.SENT: _SENT,
    State.SENT_INFERRED: _SENT,
    State.QUEUED: _UNDER_WAY,
    State.LEASED: _UNDER_WAY,
    State.SENDING: _UNDER_WAY,
    State.PARKED: _UNDER_WAY,
    State.UNKNOWN: _PERHAPS,
    FORGOTTEN: _PERHAPS,
}
_BY_CODE = {fault.code: fault for fault in (_SENT, _UNDER_WAY, _PERHAPS, _SINCE)}

KEPT_BACK = frozenset(_BY_CODE)
"""Codes of rejected rows that need no correction: they are done, or under way, elsewhere."""


LastSent = Callable[[Sequence[PhoneNumber]], list[int | None]]
"""Tells when a code went to each number last, in Unix milliseconds."""
_CHUNK_ROWS = 500


def is_results_file(header: Sequence[str]) -> bool:
    """Tell whether these columns are those of results that this package wrote."""
    return all(mark in header for mark in _OUR_MARKS)


def rows_to_send(sheet: Sheet, last_sent: LastSent | None = None) -> Iterator[Row]:
    """Give the rows; those that must not be sent again with a problem instead of a number.

    Without `last_sent` only the file itself is asked.

    Raises:
        SheetError: as iterating over the sheet does.
    """
    if not is_results_file(sheet.header):
        yield from sheet
        return
    rows, judge = iter(sheet), _Judge(sheet)
    while chunk := list(islice(rows, _CHUNK_ROWS)):
        phones = [row.phone for row in chunk if row.phone is not None]
        sent = iter(last_sent(phones) if last_sent else [None] * len(phones))
        for row in chunk:
            yield row if row.phone is None else judge.judged(row, next(sent))


class _Judge:
    """Keeps back what must not be sent again."""

    def __init__(self, sheet: Sheet) -> None:
        self._name, self._unit = sheet.name, sheet.unit
        # ours are the last of these names: a customer may have a column "status" too
        self._status = _last(sheet.header, "status")
        self._code = _last(sheet.header, "code")
        self._finished_at = _last(sheet.header, "finished_at")

    def judged(self, row: Row, sent_ms: int | None) -> Row:
        fault = self._fault(row, sent_ms)
        if fault is None:
            return row
        problem = Problem.of(fault, self._name, row.line, self._unit)
        return replace(row, phone=None, problem=problem, warnings=(), repaired=())

    def _fault(self, row: Row, sent_ms: int | None) -> Fault | None:
        status = _cell(row, self._status).lower()
        if status == State.REJECTED:
            # kept back once, a row stays kept back through any number of results files
            return _BY_CODE.get(_cell(row, self._code))
        if status in _BY_STATUS:
            return _BY_STATUS[status]
        finished_ms = _milliseconds(_cell(row, self._finished_at)) if status else None
        is_since = sent_ms is not None and finished_ms is not None and sent_ms > finished_ms
        return _SINCE if is_since else None


def _milliseconds(text: str) -> int | None:
    """Read what `iso` wrote; None for anything else."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return round(moment.timestamp() * 1000) if moment.tzinfo else None


def _last(header: Sequence[str], name: str) -> int | None:
    found = [index for index, each in enumerate(header) if each == name]
    return found[-1] if found else None


def _cell(row: Row, index: int | None) -> str:
    return row.cells[index].strip() if index is not None and index < len(row.cells) else ""
