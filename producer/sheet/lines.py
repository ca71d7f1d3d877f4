"""Physical lines of a text, numbered, of bounded length, that can be put back and read again."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterator

from producer.sheet.encoding import Encoding
from producer.sheet.source import Source

MAX_LINE_CHARS = 1 << 16
"""One line, and one record over several lines. A spreadsheet's cell holds half of it at most."""
MAX_RECORD_LINES = 200


class RecordTooLongError(Exception):
    """A record passed a bound before it ended."""


class Lines(Iterator[str]):
    """Lines as a file has them, with their ends; LF, CR LF and CR each end one.

    Iterating gives the lines of the record at hand, which grows until `begin_record`; `record` has
    them, so that a record that turns out to be none can be read again in another way.
    """

    def __init__(self, source: Source, encoding: Encoding) -> None:
        self._bytes = source.open()
        self._bytes.seek(encoding.mark_bytes)
        self._text = io.TextIOWrapper(self._bytes, encoding.codec, "strict", newline="")
        self._waiting: deque[str] = deque()
        self._size = source.survey.size
        self.record: list[str] = []
        self.number = 0
        """Physical line that was read last; 1-based."""
        self.ended_within_record = False

    def __next__(self) -> str:
        record = self.record
        again = bool(self._waiting)
        line = self._waiting.popleft() if again else self._text.readline(MAX_LINE_CHARS)
        if not line:
            self.ended_within_record = bool(record)
            raise StopIteration
        self.number += 1
        record.append(line)
        if len(line) >= MAX_LINE_CHARS and line[-1] not in "\r\n":
            if not again:
                self._skip_to_end_of_line()
            raise RecordTooLongError
        if len(record) > 1 and (
            len(record) > MAX_RECORD_LINES or sum(map(len, record)) > MAX_LINE_CHARS
        ):
            raise RecordTooLongError
        return line

    def begin_record(self) -> None:
        self.record.clear()
        self.ended_within_record = False

    def keep_first_line_only(self) -> None:
        """Put back all lines of the record but the first, to be read as records of their own."""
        self._waiting.extendleft(reversed(self.record[1:]))
        self.number -= len(self.record) - 1
        del self.record[1:]

    @property
    def fraction(self) -> float:
        """How much of the file was taken in so far, 0 to 1; in steps of some 64 KiB."""
        return min(1.0, self._bytes.tell() / self._size) if self._size else 1.0

    def _skip_to_end_of_line(self) -> None:
        while piece := self._text.readline(MAX_LINE_CHARS):
            if piece[-1] in "\r\n":
                return
