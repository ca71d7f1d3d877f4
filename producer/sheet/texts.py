"""A workbook's shared texts, which may be millions: in a temporary file, not in memory."""

from __future__ import annotations

import os
import re
import tempfile
from array import array
from collections.abc import Mapping
from functools import lru_cache
from typing import IO

from producer.sheet.xml_stream import LocalNames, feed_xml

_MAX_TEXTS = 1 << 24
_TEXTS_KEPT = 4096
_WINDOW_BYTES = 1 << 15
_ESCAPE = re.compile("_x([0-9A-Fa-f]{4})_")
_NOT_TEXT = re.compile("[\0\ud800-\udfff]")


class Texts:
    """A workbook's shared texts, in a temporary file; 4 bytes of memory for each."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="sendcode-")  # noqa: SIM115 - see close
        self._ends = array("I", [0])
        self._window, self._window_start = b"", 0
        self.get = lru_cache(_TEXTS_KEPT)(self._read)
        """The text of an index.

        Raises:
            IndexError: There is none.
        """

    def load(self, stream: IO[bytes]) -> None:
        """Read all texts of the part.

        Raises:
            ValueError: There are more than in any spreadsheet.
            OverflowError: They take more than 4 GiB.
        """
        pieces: list[str] = []
        ready: list[bytes] = []
        names = LocalNames()
        kept, phonetic = 0, False  # a phonetic reading (rPh) is no part of the text

        def start(name: str, _: Mapping[str, str]) -> None:
            nonlocal kept, phonetic
            local = names[name]
            if local == "t":
                del pieces[kept:]
            elif local == "si":
                kept = 0
            elif local == "rPh":
                phonetic = True

        def end(name: str) -> None:
            nonlocal kept, phonetic
            local = names[name]
            if local == "t":
                kept = kept if phonetic else len(pieces)
            elif local == "si":
                data = plain_text("".join(pieces[:kept])).encode()
                ready.append(data)
                self._ends.append(self._ends[-1] + len(data))
                pieces.clear()
            elif local == "rPh":
                phonetic = False

        for _ in feed_xml(stream, start, end, pieces):
            self._file.write(b"".join(ready))
            ready.clear()
            if len(self._ends) > _MAX_TEXTS:
                raise ValueError("more texts than any spreadsheet program writes")
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def _read(self, index: int) -> str:
        if index < 0:
            raise IndexError(index)
        start, end = self._ends[index], self._ends[index + 1]
        first = start - self._window_start
        if first < 0 or end > self._window_start + len(self._window):
            # Texts are mostly asked for in the order in which the sheet first used them.
            self._window = os.pread(self._file.fileno(), max(end - start, _WINDOW_BYTES), start)
            self._window_start, first = start, 0
        return self._window[first : first + end - start].decode()


def plain_text(text: str) -> str:
    """A workbook's text without its escapes (_x000D_), NULs and what UTF-8 cannot hold."""
    if "_x" in text:
        text = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), text)
        text = _NOT_TEXT.sub("\N{REPLACEMENT CHARACTER}", text)
    return text
