"""A results file that comes back: corrected rows are sent, the others are kept back.

A person takes the results, corrects what failed and submits the file. Whether it holds only the
failed rows or all of them, a row that was sent, or is on its way in another batch, must not be sent
again. Its column `status` says which those are; a person who clears that cell wants it sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from jobs.outcome import State
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
_BY_CODE = {fault.code: fault for fault in (_SENT, _UNDER_WAY, _PERHAPS)}

KEPT_BACK = frozenset(_BY_CODE)
"""Codes of rejected rows that need no correction: they are done, or under way, elsewhere."""


def is_results_file(header: Sequence[str]) -> bool:
    """Tell whether these columns are those of results that this package wrote."""
    return all(mark in header for mark in _OUR_MARKS)


def rows_to_send(sheet: Sheet) -> Iterator[Row]:
    """Give the rows; those that must not be sent again with a problem instead of a number.

    Raises:
        SheetError: as iterating over the sheet does.
    """
    if not is_results_file(sheet.header):
        yield from sheet
        return
    # ours are the last of these names: a customer may have a column "status" too
    status, code = _last(sheet.header, "status"), _last(sheet.header, "code")
    for row in sheet:
        fault = _fault(_cell(row, status), _cell(row, code)) if row.phone is not None else None
        if fault is None or row.phone is None:
            yield row
        else:
            problem = Problem.of(fault, sheet.name, row.line, sheet.unit)
            yield replace(row, phone=None, problem=problem, warnings=(), repaired=())


def _fault(status: str, code: str) -> Fault | None:
    # kept back once, a row stays kept back through any number of results files
    return _BY_CODE.get(code) if status == State.REJECTED else _BY_STATUS.get(status.lower())


def _last(header: Sequence[str], name: str) -> int | None:
    found = [index for index, each in enumerate(header) if each == name]
    return found[-1] if found else None


def _cell(row: Row, index: int | None) -> str:
    return row.cells[index].strip() if index is not None and index < len(row.cells) else ""
