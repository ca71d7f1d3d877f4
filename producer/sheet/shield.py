"""Cells of a CSV file that a spreadsheet would take for a formula, or would damage as a number.

Two dangers when a person opens a results file by a double click. A cell such as =HYPERLINK(…) runs
as a formula, with a stranger's text in it. And a number loses what is not arithmetic: 0701 becomes
701, +85251234567 loses its plus, 18888888888 shows as 1.89E+10 and is saved so, id 1E5 as 100000.

Two shields, each undone by the reader of this package, so that a results file reads as what it was:

- `'=SUM(A1)`: an apostrophe before anything that may start a formula. The spreadsheet shows it, a
  person understands it, no program runs it. It is the usual advice (OWASP, "CSV Injection").
- `="0701"`: a formula that is nothing but a text, for digits only. It is the one form that Excel,
  WPS and Google Sheets show as 0701 exactly: an apostrophe or a tab would become part of the value,
  and looking the number up in the customer's own list would fail without a word. No injection is
  possible: nothing but digits and "+", "-", "(", ")", ".", "E" and blanks is ever put between the
  quotation marks.

Where Excel parts cells at another separator than the file does, it sees a formula within a cell:
`x;=cmd` in a file with commas. So the apostrophe also goes before what stands behind a separator.

A plain negative number (-12.5) is left alone: it is a number in every program.
"""

from __future__ import annotations

import re

_STARTERS = "=+\\-@\uff1d\uff0b\uff0d\uff20"  # the last four: their full-width forms
_RISKY = re.compile(f"'*(?:[\t\r\n]|\\s*[{_STARTERS}])")
_SHIELDED = re.compile(f"'+(?:[\t\r\n]|\\s*[{_STARTERS}])")
_NEGATIVE = re.compile(r"-\d{1,10}(?:[.,]\d{1,10})?")
_DAMAGED_NUMBER = re.compile(
    r"0\d+"  # a zero in front
    r"|\d{11,}"  # shown as 1.89E+10, and beyond 15 digits cut
    r"|\+\d[\d ().\-]*"  # a plus in front
    r"|\d+(?:\.\d+)?[eE][+\-]?\d+"  # an exponent that may be none
)
_WITHIN = re.compile(f"([,;\t|\r\n][\\s\"]*)('*[{_STARTERS}])")
_SHIELDED_WITHIN = re.compile(f"([,;\t|\r\n][\\s\"]*)'('*[{_STARTERS}])")
_TEXT_FORMULA = re.compile(r'="([^"]*)"')


def shielded(cell: str) -> str:
    """A cell as it may stand in a CSV file that a person opens."""
    if _DAMAGED_NUMBER.fullmatch(cell):
        return f'="{cell}"'
    if _NEGATIVE.fullmatch(cell):
        return cell
    shown = _WITHIN.sub(r"\1'\2", cell)
    return "'" + shown if _RISKY.match(cell) else shown


def unshielded(cell: str) -> str:
    """The cell that `shielded` was given; also what people shielded in the same ways."""
    formula = _TEXT_FORMULA.fullmatch(cell)
    if formula is not None:
        return formula[1]
    bare = _SHIELDED_WITHIN.sub(r"\1\2", cell) if "'" in cell else cell
    return bare[1:] if _SHIELDED.match(bare) else bare
