"""What a file says, apart from how it is written down: the digest that makes a batch's id.

A spreadsheet program that opens a file and saves it writes other bytes: a byte order mark, other
line ends, another separator, other quotation marks, another encoding, a workbook in place of CSV.
The customers are the same, so it must be the same batch. What counts is the names of the columns
and the cells, in the order of the rows, because a row's place is its job's name; and whatever makes
another row of the same cells. So two files of one digest give the same rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

_CELL_END = "\0"  # no cell holds a NUL
_ROW_END = b"\xff"  # and no UTF-8 this byte


class ContentDigest:
    """SHA-256 of a header and of the records below it, which are added one after another."""

    def __init__(self, header: Sequence[str], *, named: bool = False) -> None:
        """Begin with the header.

        Args:
            header: The names of the columns.
            named: Each cell bears its name in the file, so that the order of columns says nothing.
        """
        self._sha = hashlib.sha256()
        self._update = self._sha.update
        self._order = sorted(range(len(header)), key=header.__getitem__) if named else None
        self.add(header)

    def add(self, cells: Sequence[str], told: str = "") -> None:
        """Add a record.

        Empty cells at its end count for nothing: programs add and drop them. Nor does it matter
        which line end a text of several lines has.

        Args:
            cells: Its cells.
            told: What the reader knows of it beside its cells, if that makes another row of it.
        """
        order = self._order
        if order is not None and len(cells) == len(order):
            cells = [cells[index] for index in order]
        text = _CELL_END.join(cells).rstrip(_CELL_END)
        if "\r" in text:
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        if told:
            text += f"{_CELL_END}{_CELL_END}{told}{_CELL_END}"
        self._update(text.encode() + _ROW_END)

    def hexdigest(self) -> str:
        return self._sha.hexdigest()
