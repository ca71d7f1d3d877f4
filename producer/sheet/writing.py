"""Writing CSV that Excel opens rightly by a double click, and that this package reads again.

UTF-8 with a byte order mark (without it Excel takes the text for an old code page), CR LF, and
commas, or semicolons where the customer's file has them: where Excel exported them, it expects them
again. Tabs and vertical bars it does not part into columns in a .csv. Cells are shielded as
shield.py says.
"""

from __future__ import annotations

import csv
import io
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TextIO

from producer.sheet.problem import SheetError, shown
from producer.sheet.shield import shielded

ENCODING = "utf-8-sig"

SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t"}
"""What a person may choose, by name."""


def separator_for(own: str, asked: str | None = None) -> str:
    """Give the separator that was asked for by name, or the one that fits the customer's own.

    Raises:
        ValueError: there is none of that name; the message lists what there is.
    """
    if asked is None:
        return own if own == ";" else ","
    if asked not in SEPARATORS:
        raise ValueError(f"must be one of {', '.join(SEPARATORS)}")
    return SEPARATORS[asked]


class SheetWriter:
    """Writes the customer's columns in their order, then columns of ours.

    Columns of the same names that stand at the header's end, as in a results file that was
    corrected and submitted again, are replaced, not repeated.
    """

    def __init__(
        self, stream: TextIO, header: Sequence[str], ours: Sequence[str], delimiter: str = ","
    ) -> None:
        """Write the header.

        Args:
            stream: Opened with newline="", as by `written_file`.
            header: The customer's columns.
            ours: The columns to add.
            delimiter: Between cells, from `separator_for`.
        """
        self._writer = csv.writer(stream, delimiter=delimiter, lineterminator="\r\n")
        self._read = len(header)
        repeated = bool(ours) and tuple(header[-len(ours) :]) == tuple(ours)
        self._kept = self._read - len(ours) if repeated else self._read
        self._ours = len(ours)
        self._put([*header[: self._kept], *ours])

    def write(self, cells: Sequence[str], ours: Sequence[str]) -> None:
        """Write a row.

        Args:
            cells: As read, from `Row.cells`. Cells beyond the header's follow after our columns.
            ours: A cell for each of our columns.

        Raises:
            ValueError: `ours` does not fit the columns that were announced.
        """
        if len(ours) != self._ours:
            raise ValueError(f"{len(ours)} cells for {self._ours} columns")
        own = [*cells[: self._kept], *[""] * (self._kept - len(cells))]
        self._put([*own, *ours, *cells[self._read :]])

    def _put(self, cells: Sequence[str]) -> None:
        self._writer.writerow([shielded(cell) for cell in cells])


@contextmanager
def written_file(
    path: str | Path, stdout: BinaryIO | None = None, *, overwrite: bool = False
) -> Iterator[TextIO]:
    """Open a file for a `SheetWriter`; it appears, whole, when the block ends without an error.

    Only its owner can read it, as it holds full numbers. "-" is standard output. A file that is
    there may be the customer's own, or hold hours of corrections.

    Raises:
        SheetError: `not_writable`; `exists`, unless it is to be overwritten.
    """
    if str(path) == "-":
        if stdout is None:
            raise SheetError("not_writable", "-", "there is no standard output", "name a file")
        text = io.TextIOWrapper(stdout, ENCODING, newline="", write_through=False)
        try:
            yield text
        finally:
            text.flush()
            text.detach()
        return
    target = Path(path)
    if os.path.exists(target) and not target.is_file():  # a device or a pipe: it stays
        try:
            with target.open("w", encoding=ENCODING, newline="") as text_file:
                yield text_file
        except OSError as exc:
            raise _not_writable(target, exc) from exc
        return
    if not overwrite and os.path.lexists(target):
        raise SheetError(
            "exists",
            shown(target.name),
            "the file exists already",
            "name another one, or add --overwrite",
        )
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except (OSError, ValueError) as exc:
        raise _not_writable(target, exc) from exc
    try:
        with os.fdopen(handle, "w", encoding=ENCODING, newline="") as text_file:
            yield text_file
            text_file.flush()
            os.fsync(text_file.fileno())
        Path(name).replace(target)
    except BaseException as exc:
        with suppress(OSError):
            Path(name).unlink()
        if isinstance(exc, OSError):
            raise _not_writable(target, exc) from exc
        raise


def _not_writable(target: Path, error: Exception) -> SheetError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else "not a path"
    return SheetError(
        "not_writable",
        shown(target.name),
        f"the file cannot be written ({reason})",
        "check folder, permissions and free space",
    )
