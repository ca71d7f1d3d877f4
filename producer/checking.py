"""Processes uploaded files: finds out what is in one, and turns a confirmed one into a batch.

All of this can be started again safely, by this process or another one: reading changes nothing,
and a submission resumes where it was cut off, as its batch's id comes from the check.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

import redis

from config.logging import fields
from config.redis import error_code
from config.settings import Settings
from jobs.batch import Batch
from jobs.batches import BatchCancelledError, Batches, BatchGoneError
from jobs.identity import Identity, LedgerRefusedError, state_file
from jobs.job import split_job_id
from producer.checks import Check, Checks
from producer.customers import Shown
from producer.importing import (
    ImportRefusedError,
    Preflight,
    Refusal,
    Submission,
    Terms,
    preflight,
)
from producer.invalid_rows import invalid_columns
from producer.review import Review, naming_of
from producer.second_codes import cell_of, last_named
from producer.sheet import FAULTS, Row, Sheet, SheetError
from producer.sheet.spellings import calling_code_of_country

log = logging.getLogger("sendcode.web")

AT_ONCE = 3
"""Files that one process reads at once."""
ROWS_SHOWN = 5
_SAMPLED_ROWS = 50
_SWEEP_EVERY_S = 60.0
_UNDO_LEFT_S = 60
"""How long the file of a batch is kept after the time to undo it has passed."""


class _StopError(Exception):
    """The work is no longer needed, or not by this process."""


class Checker:
    """Processes the checks of one folder, in threads of its own."""

    def __init__(self, checks: Checks, client: redis.Redis, settings: Settings) -> None:
        self._checks, self._client, self._settings = checks, client, settings
        self._batches = Batches(client, settings)
        self._threads = ThreadPoolExecutor(AT_ONCE, "check")
        self._stopping = threading.Event()
        self._in_work: dict[str, bool] = {}
        """The checks that a thread works on, and whether one was asked for again meanwhile."""
        self._lock = threading.Lock()
        self._sweeper = threading.Thread(target=self._sweep_forever, name="checks", daemon=True)

    def start(self) -> None:
        """Sweep from now on, in a thread of its own."""
        self._sweeper.start()

    def close(self) -> None:
        """Stop; the next process starts unfinished work again."""
        self._stopping.set()
        if self._sweeper.is_alive():
            self._sweeper.join()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def process(self, check: Check) -> None:
        """Start work on a check that needs it, unless a thread is working on it already."""
        if self._is_done(check):
            return
        with self._lock:
            if self._stopping.is_set():
                return
            is_in_work = check.check_id in self._in_work
            self._in_work[check.check_id] = is_in_work
            if not is_in_work:
                self._threads.submit(self._work, check.check_id)

    def sweep(self) -> None:
        """Remove expired checks, and resume those that were confirmed before a process ended."""
        self._checks.sweep(self._settings.sendcode_undo + _UNDO_LEFT_S)
        for check in self._checks.all():
            if check.confirmed:
                self.process(check)

    def _sweep_forever(self) -> None:
        while True:
            try:
                self.sweep()
            except Exception as exc:  # noqa: BLE001 (its text may hold a number)
                log.warning(
                    "uploaded files could not be swept", extra=fields(error=type(exc).__name__)
                )
            if self._stopping.wait(_SWEEP_EVERY_S):
                return

    def _is_done(self, check: Check) -> bool:
        if check.confirmed:
            return check.submitted
        return self._checks.found(check) is not None

    def _work(self, check_id: str) -> None:
        try:
            with self._checks.work(check_id) as is_mine:
                while is_mine and not self._stopping.is_set():
                    check = self._checks.get(check_id)
                    if check is None or self._is_done(check):
                        return
                    with suppress(_StopError):
                        if check.confirmed:
                            self._submit(check)
                        else:
                            self._read(check)
        except (redis.RedisError, LedgerRefusedError) as exc:
            code = error_code(exc) if isinstance(exc, redis.RedisError) else "LedgerRefused"
            log.warning("a file waits for Redis", extra=fields(code=code))
        except FileNotFoundError:  # it was forgotten meanwhile
            pass
        except Exception as exc:  # noqa: BLE001 (its text may hold a number)
            log.error("a file could not be processed", extra=fields(error=type(exc).__name__))  # noqa: TRY400
        finally:
            with self._lock:
                is_asked_again = self._in_work.pop(check_id)
            # it may have changed just after the thread last read it
            if is_asked_again and (check := self._checks.get(check_id)) is not None:
                self.process(check)

    def _reporter(self, check: Check, sheet: Sheet, what: str) -> Callable[[int], None]:
        """Return a callback that saves the progress, and ends work that is no longer needed."""

        def report(rows: int) -> None:
            now = self._checks.get(check.check_id)
            is_same = now is not None and (now.revision, now.confirmed, now.undone) == (
                check.revision,
                check.confirmed,
                check.undone,
            )
            if self._stopping.is_set() or not is_same:
                raise _StopError
            self._checks.keep_progress(check, rows, sheet.fraction_read, what)

        return report

    def _read(self, check: Check) -> None:
        try:
            with self._checks.open_sheet(check) as sheet:
                found = self._examine(check, sheet)
        except SheetError as exc:
            found = {"error": _error(exc)}
        except (_StopError, FileNotFoundError, redis.RedisError, LedgerRefusedError):
            raise
        except Exception as exc:  # noqa: BLE001 (its text may hold a number)
            log.error("a file could not be read", extra=fields(error=type(exc).__name__))  # noqa: TRY400
            found = {"error": _error(_UNEXPECTED)}  # or it would be read for ever
        self._checks.keep_found(check, found)

    def _examine(self, check: Check, sheet: Sheet) -> dict[str, Any]:
        Identity(self._client, self._settings, state_file(self._settings)).check()
        sample = list(islice(sheet, _SAMPLED_ROWS))
        corrected = self._corrected(sheet, sample)
        if corrected is not None and not check.revision:
            self._read_as_before(check, corrected, sheet)
        review = Review(sheet, check.leaving)
        report = self._reporter(check, sheet, "read")
        run_preflight = partial(
            preflight,
            sheet,
            self._client,
            self._settings,
            on_noted=review.add,
            progress=report,
        )
        found = run_preflight(batch_id=check.batch_id, terms=check.terms())
        begun = _cut_off(found)
        if begun is not None:  # it keeps its own terms, and its rows as they are
            found = run_preflight(batch_id=begun.batch_id, terms=Terms())
            review = Review(sheet, check.leaving)
        else:
            review.add_doubles(found.doubles, report)
        naming = naming_of(sheet)
        # all corrections of a batch count for the first one
        first = corrected and (self._batches.get(corrected.corrects) or corrected)
        return {
            "error": None,
            "notes": [
                {"text": note.text, "code": note.code, "values": dict(note.values)}
                for note in sheet.notes
            ],
            "header": list(sheet.header),
            "number": sheet.columns.number,
            "country": sheet.columns.country,
            "naming": naming,
            "unit": sheet.unit,
            "delimiter": sheet.delimiter,
            "worksheet": sheet.worksheet,
            "worksheets": sheet.worksheets,
            "first_rows": _first_rows(sheet, sample[:ROWS_SHOWN]),
            "suggested_country": _suggested_country(sheet, sample, found),
            "invalid_columns": list(invalid_columns(sheet)),
            **review.as_dict(naming),
            "doubtful": found.tally.doubtful,
            "held_by": _held_by(found),
            "continues": {"batch_id": begun.batch_id, "rows": begun.total} if begun else None,
            "corrects": {"batch_id": first.batch_id, "name": first.name} if first else None,
            "report": found.as_dict(),
        }

    def _corrected(self, sheet: Sheet, sample: list[Row]) -> Batch | None:
        """Return the batch whose rows the first ones of a file are, by their column job_id."""
        place = last_named(sheet.header, "job_id")
        owners = {split_job_id(cell_of(row, place))[0] for row in sample}
        if len(owners) != 1 or not (owner := owners.pop()):
            return None
        return self._batches.get(owner)

    def _read_as_before(self, check: Check, corrected: Batch, sheet: Sheet) -> None:
        """Have a file of corrections read with the columns that a person chose for its batch.

        Raises:
            _StopError: it must be read again, with those.
        """
        names = {name.strip() for name in sheet.header}
        number, country = (name if name in names else None for name in corrected.columns)
        with self._checks.change(check.check_id) as now:
            choices = now.check.choices
            as_before = replace(
                choices,
                phone_column=choices.phone_column or number or None,
                country_column=choices.country_column or country or None,
            )
            if now.check.revision or as_before == choices:
                return
            now.read_again(choices=as_before)
        raise _StopError

    def _submit(self, check: Check) -> None:
        checks = self._checks
        undo_ms = round(self._settings.sendcode_undo * 1000)
        refused = ""
        try:
            with (
                checks.open_sheet(check) as sheet,
                Submission(
                    self._client, self._settings, sheet, check.terms(), check.batch_id
                ) as submission,
            ):
                submission.read(self._reporter(check, sheet, "read"))
                if check.continues and submission.batch is None:
                    refused = str(Refusal.OTHER_CONTENT)  # it is gone
                elif not submission.is_complete:
                    with checks.change(check.check_id) as now:
                        # an undo locks the check, too: it comes before this, or finds a batch
                        if not now.check.confirmed or now.check.undone != check.undone:
                            raise _StopError
                        submission.open(undo_ms)
                    submission.write(self._reporter(check, sheet, "submitted"))
        except ImportRefusedError as exc:
            refused = str(exc.why)
        except SheetError as exc:
            refused = exc.code
        except (BatchCancelledError, BatchGoneError):
            pass  # its page says so
        with checks.change(check.check_id) as now:
            if now.check.undone != check.undone:
                return
            if refused:
                now.read_again(confirmed=False, refused=refused, continues="")
            else:
                now.set(submitted=True)


_UNEXPECTED = SheetError(
    "unexpected",
    "reading it failed, by an error of ours; the log has it",
    "save it in another way, such as .xlsx, or upload another copy",
    choices=("encoding",),
)


def _error(exc: SheetError) -> dict[str, Any]:
    return {
        "code": exc.code,
        "message": exc.message,
        "remedy": exc.remedy,
        "line": exc.line,
        "unit": exc.unit,
        "choices": list(exc.choices),
        "names": {choice: list(names) for choice, names in exc.names.items()},
    }


def _first_rows(sheet: Sheet, rows: list[Row]) -> list[dict[str, Any]]:
    shown = Shown(sheet.header, sheet.header[sheet.columns.number].strip())
    return [
        {
            "line": row.line,
            "cells": shown.cells(row.cells[: len(sheet.header)], row.phone),
            "phone": row.phone.masked if row.phone else None,
        }
        for row in rows
    ]


def _suggested_country(sheet: Sheet, sample: list[Row], found: Preflight) -> str | None:
    """Return the column that seems to hold the countries of numbers without a country code."""
    lacking = FAULTS["no_country_code"] in found.tally.rejected
    if sheet.columns.country is not None or not lacking:
        return None
    for index, name in enumerate(sheet.header):
        cells = [row.cells[index] for row in sample if index < len(row.cells)]
        filled = [cell for cell in cells if cell.strip()]
        known = [cell for cell in filled if calling_code_of_country(cell) is not None]
        if filled and len(known) * 5 >= len(filled) * 4 and name.strip():
            return name
    return None


def _cut_off(found: Preflight) -> Batch | None:
    """Return the batch of the same content whose import was cut off, if there is one."""
    refused = found.refused
    if refused is None or refused.why != Refusal.CONTENT_HELD:
        return None
    return refused.batch if refused.batch is not None and not refused.batch.imported else None


def _held_by(found: Preflight) -> dict[str, str] | None:
    """Return the batch that already has this content, or conflicts with it."""
    refused = found.refused
    if refused is None or refused.batch is None:
        return None
    batch = refused.batch
    return {"why": str(refused.why), "batch_id": batch.batch_id, "phase": batch.phase}
