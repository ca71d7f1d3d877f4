"""An .xlsx file's parts: which sheets it has, how its cells are formatted, and its texts.

Why not a library: openpyxl and python-calamine hold all texts of a workbook, and the second all
cells, in memory (docs/decisions/0007 has the figures). A person's file must be readable beside
other work, so XML is parsed piece by piece, texts are kept in a temporary file, and rows are
streamed (worksheet.py). openpyxl is the oracle of the tests.
"""

from __future__ import annotations

import os
import posixpath
import re
import tempfile
import zipfile
import zlib
from array import array
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import IO, NamedTuple
from xml.parsers import expat

from producer.sheet.row import SheetError, not_a_sheet, shown
from producer.sheet.source import Source

# Unpacked sizes: a small .zip can hold any number of bytes.
_MAX_PART_BYTES = 1 << 26  # a workbook's list of sheets, its relations, its styles
_MAX_SHEETS = 1000
_MAX_STYLES = 1 << 17  # Excel writes 65,490 at most


# ECMA-376 part 1, 18.8.30: formats that need no definition. 27 to 36 and 50 to 58 are dates in
# East Asian versions.
_BUILT_IN_DATES = frozenset([*range(14, 23), *range(27, 37), 45, 46, 47, *range(50, 59)])
_PLUS = re.compile(r'(?:"(\+[\d ]*)"|\\?(\+))(?=[0# ]|General)', re.I)
_SHEETS = (".csv", ".tsv", ".txt", ".xlsx", ".jsonl")
_LITERAL = re.compile(r'"[^"]*"|\\.|_.|\*.|\[(?!h+\]|m+\]|s+\])[^\]]*\]', re.I)


class SheetEntry(NamedTuple):
    """A worksheet as the workbook lists it."""

    name: str
    part: str
    visible: bool


class Styles(NamedTuple):
    """What number formats mean for a cell's text, by the cell's style."""

    dates: frozenset[str]
    """Styles that show a number as a date or time."""
    spans: frozenset[str]
    """Those of them that show a span of time, such as [h]:mm."""
    zeros: Mapping[str, int]
    """Styles such as "00000000", which show leading zeros up to that many digits."""
    pluses: Mapping[str, str]
    """What styles such as "+"0 and "+852 "0 show before a number."""


def _part_name(name: str) -> str:
    """Return a part's name as names are compared: in any case (ECMA-376 part 2, 6.2.2.3)."""
    return name.replace("\\", "/").lstrip("/").casefold()


class Workbook:
    """An opened .xlsx file. `close` gives back its temporary file."""

    def __init__(self, source: Source) -> None:
        self.name = source.name
        try:
            self._zip = zipfile.ZipFile(source.open())
        except (zipfile.BadZipFile, OSError, ValueError) as exc:
            raise self.damaged() from exc
        self._parts = {_part_name(name): name for name in self._zip.namelist()}
        self.texts: Texts | None = None
        book = self._find_workbook()
        self.counts_from_1904 = False
        self.sheets = self._find_sheets(book)
        self.styles = self._find_styles(book)
        self._texts_part = self._related(book, "/sharedStrings")

    def load_texts(self) -> Texts:
        """Return the workbook's texts, unpacked at the first call."""
        if self.texts is None:
            self.texts = Texts()
            if self._texts_part:
                with self.open_part(self._texts_part) as part, self.reading("its texts"):
                    self.texts.load(part)
        return self.texts

    def close(self) -> None:
        self._zip.close()
        if self.texts is not None:
            self.texts.close()

    def part_size(self, part: str) -> int:
        return self._zip.getinfo(self._parts[part]).file_size

    def open_part(self, part: str) -> IO[bytes]:
        try:
            return self._zip.open(self._parts[part])
        except (KeyError, zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError) as exc:
            raise self.damaged() from exc

    @contextmanager
    def reading(self, what: str) -> Iterator[None]:
        """Translate what a damaged part raises."""
        try:
            yield
        except DAMAGE as exc:
            raise self.damaged(what) from exc

    def damaged(self, what: str = "", line: int = 0) -> SheetError:
        where = f" ({what})" if what else ""
        return SheetError(
            "damaged_workbook",
            self.name,
            f"the workbook is damaged{where}",
            "open it in the spreadsheet program, let it repair the file, and save it as .xlsx",
            line,
            "row",
        )

    def too_wide(self, row: int, most: int) -> SheetError:
        return SheetError(
            "too_many_columns",
            self.name,
            f"a cell stands to the right of column {most}",
            "delete what is far to the right, or copy the columns to a new sheet",
            row,
            "row",
        )

    def _find_workbook(self) -> str:
        if "[content_types].xml" not in self._parts:
            raise self._archive()
        for kind, part in self._relations("").values():
            if kind.endswith("/officeDocument"):
                if part.endswith(".bin"):
                    raise not_a_sheet(self.name, "an .xlsb workbook")
                return part
        raise not_a_sheet(self.name, "another kind of office document")

    def _archive(self) -> SheetError:
        """Return the error of a .zip that is no office document of Microsoft's."""
        if "mimetype" in self._parts or "content.xml" in self._parts:
            return not_a_sheet(self.name, "an OpenDocument file")
        if any(part.endswith(".iwa") or part == "index.zip" for part in self._parts):
            return not_a_sheet(
                self.name, "a Numbers document", "in Numbers, export it as Excel or as CSV"
            )
        inside = [name for name in self._zip.namelist() if name.lower().endswith(_SHEETS)]
        named = f" with {shown(posixpath.basename(inside[0]))} in it" if inside else ""
        return not_a_sheet(
            self.name, f"a .zip archive{named}", "unpack it and name the file that is in it"
        )

    def _relations(self, part: str) -> dict[str, tuple[str, str]]:
        """Return type and target of each relation of a part, by its id."""
        folder, _, file = part.rpartition("/")
        found: dict[str, tuple[str, str]] = {}

        def start(_name: str, attributes: Mapping[str, str]) -> None:
            if "Target" in attributes:
                target = posixpath.normpath(posixpath.join("/" + folder, attributes["Target"]))
                kind = attributes.get("Type", "")
                found[attributes.get("Id", "")] = (kind, _part_name(target))

        self._parse(posixpath.join(folder, "_rels", f"{file}.rels"), start)
        return found

    def _related(self, part: str, kind: str) -> str:
        related = self._relations(part).values()
        return next((t for k, t in related if k.endswith(kind) and t in self._parts), "")

    def _find_sheets(self, book: str) -> list[SheetEntry]:
        relations = self._relations(book)
        sheets: list[SheetEntry] = []
        names, opened = LocalNames(), set[str]()

        def start(name: str, attributes: Mapping[str, str]) -> None:
            opened.add(names[name])
            if "extLst" in opened:  # what newer versions add, under names that are taken
                return
            local = {names[key]: value for key, value in attributes.items()}
            if names[name] == "workbookPr":
                self.counts_from_1904 = local.get("date1904") in {"1", "true"}
            elif names[name] == "sheet" and len(sheets) < _MAX_SHEETS:
                # The relation's id is the attribute r:id; the sheet's own is sheetId.
                kind, part = relations.get(local.get("id", ""), ("", ""))
                if kind.endswith("/worksheet") and part in self._parts:
                    visible = local.get("state", "visible") == "visible"
                    sheets.append(SheetEntry(local.get("name", ""), part, visible))

        self._parse(book, start)
        if "workbook" not in opened:
            raise not_a_sheet(self.name, "another kind of office document")
        return sheets

    def _find_styles(self, book: str) -> Styles:
        part = self._related(book, "/styles")
        codes: dict[str, str] = {}
        of_style: list[str] = []
        names, within = LocalNames(), [""]

        def start(name: str, attributes: Mapping[str, str]) -> None:
            local = names[name]
            if local in {"numFmts", "cellXfs", "cellStyleXfs", "dxfs", "extLst"}:
                within[0] = local
            elif local == "numFmt" and within[0] == "numFmts":  # not that of a conditional format
                codes[attributes.get("numFmtId", "")] = attributes.get("formatCode", "")
            elif local == "xf" and within[0] == "cellXfs" and len(of_style) < _MAX_STYLES:
                of_style.append(attributes.get("numFmtId", "0"))

        if part:
            self._parse(part, start)
        dates, spans, zeros, pluses = set(), set(), {}, {}
        for style, number_format in enumerate(of_style):
            code = codes.get(number_format)
            if code is None:
                is_date = number_format.isdigit() and int(number_format) in _BUILT_IN_DATES
            else:
                plus = _PLUS.match(code)
                if plus is not None:
                    pluses[str(style)] = plus[1] or plus[2]
                    code = code[plus.end() :]
                code = _LITERAL.sub("", code)
                is_date = re.search("[dmyhs]", code, re.I) is not None
                if re.search(r"\[(?:h+|m+|s+)\]", code, re.I):
                    spans.add(str(style))
                if len(code) > 1 and not code.strip("0"):
                    zeros[str(style)] = len(code)
            if is_date:
                dates.add(str(style))
        return Styles(frozenset(dates), frozenset(spans), zeros, pluses)

    def _parse(self, part: str, start: Start) -> None:
        if part not in self._parts or self.part_size(part) > _MAX_PART_BYTES:
            raise self.damaged(part)
        with self.open_part(part) as stream, self.reading(""):
            for _ in feed_xml(stream, start, lambda _: None):
                pass


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
    """Return a text without escapes (_x000D_), NULs and what UTF-8 cannot hold."""
    if "_x" in text:
        text = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), text)
        text = _NOT_TEXT.sub("\N{REPLACEMENT CHARACTER}", text)
    return text


_CHUNK_BYTES = 1 << 16
_MAX_NAMES = 4096
_MAX_TAG_BYTES = 1 << 20
_MAX_TEXT_CHARS = 1 << 20
_MAX_DEPTH = 100  # a worksheet's elements are some ten deep

Start = Callable[[str, Mapping[str, str]], None]
End = Callable[[str], None]


class XmlError(Exception):
    """Not well-formed, or with a document type, which no spreadsheet program writes."""


DAMAGE = (XmlError, zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, OverflowError)
"""What reading a damaged part raises."""


class LocalNames(dict[str, str]):
    """Names without their prefix, as "x:row" -> "row"; programs choose any prefix, or none."""

    def __missing__(self, name: str) -> str:
        local = name.rpartition(":")[2]
        if len(self) < _MAX_NAMES:
            self[name] = local
        return local


def feed_xml(
    stream: IO[bytes], start: Start, end: End, pieces: list[str] | None = None
) -> Iterator[int]:
    """Parse a stream, and yield the number of bytes read so far after each 64 KiB.

    What the handlers gathered meanwhile can be taken out between two steps.

    Args:
        stream: The XML, unpacked as it is read.
        start: Called with name and attributes of an element that begins.
        end: Called with the name of an element that ends.
        pieces: Gets all text, in pieces; the handlers empty it.

    Raises:
        XmlError: It is damaged here, or one text or tag is larger, the elements are deeper or their
            names more than in any workbook: the parser remembers each name and each open element.
    """
    depth = 0

    def begin(name: str, attributes: Mapping[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _MAX_DEPTH:
            raise XmlError("elements within elements without an end")
        start(name, attributes)

    def finish(name: str) -> None:
        nonlocal depth
        depth -= 1
        end(name)

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = begin
    parser.EndElementHandler = finish
    parser.StartDoctypeDeclHandler = _refuse_document_type
    if pieces is not None:
        parser.CharacterDataHandler = pieces.append
    done = 0
    try:
        while chunk := stream.read(_CHUNK_BYTES):
            parser.Parse(chunk)
            done += len(chunk)
            if done - parser.CurrentByteIndex > _MAX_TAG_BYTES:
                raise XmlError("a tag without an end")
            if sum(map(len, pieces or ())) > _MAX_TEXT_CHARS:
                raise XmlError("a text without an end")
            if len(parser.intern) > _MAX_NAMES:
                raise XmlError("names without an end")
            yield done
        parser.Parse(b"", True)
    except expat.ExpatError as exc:
        raise XmlError(str(exc)) from exc
    yield done


def _refuse_document_type(*_: object) -> None:
    raise XmlError("a document type declaration")
