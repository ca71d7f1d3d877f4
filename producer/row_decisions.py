"""What a person decides about single rows at the check of a file: corrected, left out, taken in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from jobs.phone import BARRED_COUNTRY_CODES, plan_of, without_international_prefix
from producer.sheet import Leaving
from producer.sheet.leaving import NOTHING
from producer.sheet.spellings import calling_code_of_country

MOST_DECIDED = 5_000
"""Rows that are corrected, or left out, one by one: more are better done in the file itself."""

Cells = dict[int, dict[int, str]]
"""By line and column: the text in the place of a cell."""


def country_code_of(text: str) -> str | None:
    """Return the calling code that a person typed, as 852, +852 or Hong Kong; else None."""
    code = without_international_prefix("".join(text.split()))
    if plan_of(code) is None:
        return calling_code_of_country(text)
    return None if code in BARRED_COUNTRY_CODES else code


class NotOfferedError(Exception):
    """It is about a cell or row that is not one of those shown, or about too many."""


@dataclass(frozen=True, slots=True)
class RowDecisions:
    """What a person decided about rows, which are named by their lines."""

    cells: Mapping[int, Mapping[int, str]] | None = field(default_factory=dict)
    """Texts in the place of cells, by column; None: back to the file's own."""
    country_code: str = ""
    """Of all rows that are shown as having none, but for those that have a text in `cells`."""
    leave: frozenset[int] = frozenset()
    take_in: frozenset[int] = frozenset()
    """Rows that were left out and are to be sent after all."""
    leave_doubts: frozenset[str] = frozenset()
    """Messages of doubts: all rows with one of them are left out."""
    leave_repeated: bool = False
    """Of the rows with one number, all but the first are left out."""
    take_all_in: bool = False

    def corrections(self, before: Cells, found: Mapping[str, Any]) -> Cells:
        """Return all corrections from now on; `found` is what the reading found.

        Raises:
            NotOfferedError: a cell that cannot be corrected here, or too many.
        """
        if self.cells is None:
            return {}
        lines = {row["line"] for row in found["review"] if row["is_editable"]}
        corrections = {line: dict(texts) for line, texts in before.items()}
        for line, texts in self.cells.items():
            if line not in lines or not texts.keys() <= {found["number"], found["country"]}:
                raise NotOfferedError
            corrections.setdefault(line, {}).update(texts)
        for line, texts in self._with_country_code(found):
            if line not in self.cells:
                corrections.setdefault(line, {}).update(texts)
        if len(corrections) > MOST_DECIDED:
            raise NotOfferedError
        return corrections

    def _with_country_code(self, found: Mapping[str, Any]) -> Iterator[tuple[int, dict[int, str]]]:
        """Yield the lines of rows without a country code, with the cell that gives it to each."""
        number, country = found["number"], found["country"]
        for row in found["review"] if self.country_code else ():
            group = found["groups"][row["group"]]
            if (group["kind"], group["code"]) != ("wrong", "no_country_code"):
                continue
            if country is not None:
                yield row["line"], {country: self.country_code}
            else:
                yield row["line"], {number: f"+{self.country_code} {row['cells'][number]}"}

    def leaving(self, before: Leaving, found: Mapping[str, Any]) -> Leaving:
        """Return which rows are left out from now on.

        Raises:
            NotOfferedError: a row that cannot be left out here, or too many.
        """
        if self.take_all_in:
            return NOTHING
        offered = {row["line"] for row in found["review"]}
        doubts = {kind["message"] for kind in found["report"]["doubts"]}
        if not (self.leave | self.take_in) <= offered or not self.leave_doubts <= doubts:
            raise NotOfferedError
        lines = (before.lines | self.leave) - self.take_in
        if len(lines) > MOST_DECIDED:
            raise NotOfferedError
        repeated = before.repeated or self.leave_repeated
        return Leaving(lines, before.doubts | self.leave_doubts, repeated)
