"""An .xlsx workbook: one worksheet's rows as records, as a person sees them.

From the outside in: `Worksheet` chooses the sheet and streams its rows, which `_RowParser` gathers;
`_Workbook` knows the file's parts and formats; `_Texts` keeps its texts in a temporary file;
`_feed_xml` parses any part piece by piece, so that memory is bounded.

Why not a library: openpyxl and python-calamine hold all texts of a workbook, and the second all
cells, in memory (docs/decisions/0007 has the figures). openpyxl is the oracle of the tests.
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
from datetime import datetime, timedelta
from functools import lru_cache
from typing import IO, NamedTuple
from xml.parsers import expat

from producer.sheet.row import Note, Record, SheetError, not_a_sheet, shown
from producer.sheet.source import Source, most_unpacked, too_big

_MOST_COLUMNS = 1000  # a value further right would make each row as wide in memory
_SHEETS_SHOWN = 10
_MOST_ROWS = 1_048_576  # of Excel
_REFERENCE = re.compile(r"([A-Z]{1,3})([0-9]{1,7})")
_LETTERS_BEFORE_A = ord("A") - 1
_TRUE = {"1": "TRUE", "0": "FALSE"}


class Worksheet:
    """The rows of one worksheet that are not blank, from the start at each iteration."""

    def __init__(self, source: Source, asked: str | None = None) -> None:
        """Open the workbook and choose the sheet: the one asked for, or the first that has rows.

        Raises:
            SheetError: `damaged_workbook`, `not_a_sheet`, `no_such_sheet` or `empty`.
        """
        self._book = _Workbook(source)
        self._done = 0
        try:
            self.entry = self._choose(asked)
            """The sheet that is read."""
        except BaseException:
            self._book.close()
            raise
        self._size = self._book.part_size(self.entry.part)

    @property
    def notes(self) -> list[Note]:
        """What a person should know about the choice of the sheet."""
        if not self._others:
            return []
        read = shown(self.entry.name)
        text = f'sheet "{read}" is read; not {self._others}: name the one you mean'
        return [Note(text, "sheet", (("read", read), ("others", self._others)), "sheet")]

    @property
    def names(self) -> list[str]:
        """The names of all sheets, in the workbook's order."""
        return [sheet.name for sheet in self._book.sheets]

    @property
    def _others(self) -> str:
        """The names of the sheets that are not read; "" if there are none."""
        others = [sheet.name for sheet in self._book.sheets if sheet != self.entry]
        more = f" and {len(others) - _SHEETS_SHOWN} more" if len(others) > _SHEETS_SHOWN else ""
        return ", ".join(f'"{shown(other)}"' for other in others[:_SHEETS_SHOWN]) + more

    def with_sheet_hint(self, error: SheetError) -> SheetError:
        """Return the error, with the hint that another sheet may be meant if there is one."""
        if not self._others:
            return error
        return SheetError(
            error.code,
            f'in sheet "{shown(self.entry.name)}", {error.message}',
            f"{error.remedy}; or name another sheet: {self._others}",
            error.line,
            (*error.choices, "sheet"),
            {**error.names, "sheet": self.names},
        )

    @property
    def fraction(self) -> float:
        return min(1.0, self._done / self._size) if self._size else 1.0

    def close(self) -> None:
        self._book.close()

    def __iter__(self) -> Iterator[Record]:
        """Yield all rows that are not blank.

        Raises:
            SheetError: `damaged_workbook`, with the row that was read last.
        """
        return self._rows(self.entry)

    def _rows(self, entry: _SheetEntry) -> Iterator[Record]:
        parser = _RowParser(self._book)
        with self._book.open_part(entry.part) as part:
            try:
                for self._done in _feed_xml(part, parser.start, parser.end, parser.pieces):
                    yield from parser.rows
                    parser.rows.clear()
                parser.end_row()
                yield from parser.rows
            except (*_DAMAGE, LookupError) as exc:
                raise _damaged("in or after this row", parser.row or 1) from exc

    def _choose(self, asked: str | None) -> _SheetEntry:
        sheets = self._book.sheets
        if asked is not None:
            for sheet in sheets:
                if sheet.name.casefold() == asked.casefold():
                    return sheet
            names = ", ".join(f'"{shown(sheet.name)}"' for sheet in sheets)
            raise SheetError(
                "no_such_sheet",
                "the workbook has no sheet of that name",
                f"name one of {names}",
                choices=("sheet",),
                names={"sheet": self.names},
            )
        for sheet in sheets:
            if sheet.visible and next(self._rows(sheet), None) is not None:
                return sheet
        raise SheetError("empty", "the workbook has no visible sheet with rows", "fill one in")


class _RowParser:
    """Gathers a sheet's rows from its XML."""

    def __init__(self, book: _Workbook) -> None:
        self._book = book
        self._texts = book.load_texts().get
        self._styles = book.styles
        self._epoch = datetime(1904, 1, 1) if book.counts_from_1904 else datetime(1899, 12, 30)
        self._names = _LocalNames()
        self._columns: dict[str, int] = {}
        self.rows: list[Record] = []
        self.pieces: list[str] = []
        self._kept = 0
        self._ignored = 0
        """Open elements whose text is not the cell's: a phonetic reading, a second value."""
        self.row = 0
        self._continues = False
        self._hidden = False
        self._cells: list[str] = []
        self._numeric = 0
        self._column = -1
        self._type: str | None = None
        self._style: str | None = None
        self._is_formula = False
        self._uncalculated = 0

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        local = self._names[name]
        if local == "c":
            self.pieces.clear()
            self._kept = 0
            self._is_formula = False
            self._type = attributes.get("t")
            self._style = attributes.get("s")
            reference = attributes.get("r")
            column = self._column + 1 if reference is None else self._column_of(reference)
            if self._continues:
                self._continues = False
                if column < len(self._cells):  # a second row of the same number after all
                    self.end_row()
            self._column = column
        elif local == "v":
            if self._type != "inlineStr":  # such a cell's value is its <is>, wherever that is
                self._kept = 0
            del self.pieces[self._kept :]
        elif local == "t":
            del self.pieces[self._kept :]
        elif local == "row":
            self._begin_row(attributes)
        elif local == "f":
            self._is_formula = True
        elif local == "rPh":
            self._ignored += 1
        elif local == "is":
            if self._type == "inlineStr":
                self._kept = 0
            elif self._kept:
                self._ignored += 1

    def end(self, name: str) -> None:
        local = self._names[name]
        if local == "v":
            if not self._kept:
                self._kept = len(self.pieces)
        elif local == "c":
            if self._kept:
                pieces = self.pieces
                self._end_cell(pieces[0] if self._kept == 1 else "".join(pieces[: self._kept]))
            elif self._is_formula and self._type != "str":  # that one's value may be an empty text
                self._put("")
                self._uncalculated |= 1 << self._column
        elif local == "t":
            self._kept = self._kept if self._ignored else len(self.pieces)
        elif local == "rPh" or (local == "is" and self._ignored):
            self._ignored -= 1

    def _begin_row(self, attributes: Mapping[str, str]) -> None:
        """Begin a row, or continue it: some programs write an element for each cell."""
        row = int(attributes.get("r", self.row + 1))
        if not 0 < row <= _MOST_ROWS:
            raise ValueError("no sheet has such a row")
        self._continues = row == self.row
        if not self._continues:
            self.end_row()
            self.row = row
            self._hidden = False
        self._hidden = self._hidden or attributes.get("hidden") in {"1", "true"}

    def end_row(self) -> None:
        """Add the current row to `rows`, if it is not blank."""
        cells = self._cells
        if cells and ("".join(cells).strip() or self._uncalculated):
            self.rows.append(
                Record(self.row, cells, self._numeric, None, self._hidden, self._uncalculated)
            )
        self._cells = []
        self._numeric = 0
        self._uncalculated = 0
        self._column = -1

    def _column_of(self, reference: str) -> int:
        letters = reference.rstrip("0123456789")
        column = self._columns.get(letters)
        if column is None:
            if _REFERENCE.fullmatch(reference.upper()) is None:
                raise ValueError("a cell without a place")
            column = 0
            for letter in letters.upper():
                column = column * 26 + ord(letter) - _LETTERS_BEFORE_A
            column -= 1
            self._columns[letters] = column
        return column

    def _end_cell(self, value: str) -> None:
        kind = self._type
        if kind == "s":
            text = self._texts(int(value))
        elif kind is None or kind == "n":
            text = self._number(value)
        elif kind == "b":
            text = _TRUE.get(value, value)
        elif kind == "d":
            text = value.replace("T00:00:00", "").replace("T", " ")
        else:  # "str" of a formula, "inlineStr", and "e" such as #N/A
            text = _plain_text(value)
        self._put(text)

    def _put(self, text: str) -> None:
        cells = self._cells
        if self._column >= _MOST_COLUMNS:
            raise SheetError(
                "too_many_columns",
                f"a cell stands to the right of column {_MOST_COLUMNS}",
                "delete what is far to the right, or copy the columns to a new sheet",
                self.row,
            )
        if self._column < len(cells):
            raise ValueError("cells out of order")
        while len(cells) < self._column:
            cells.append("")
        cells.append(text)

    def _number(self, value: str) -> str:
        """Return a number as the cell shows it, in full: without ".0" or an exponent."""
        style = self._style
        if style is not None and style in self._styles.dates:
            return self._date(value)
        self._numeric |= 1 << self._column
        if not (value.isdigit() and value.isascii()):
            number = float(value)
            value = str(int(number)) if number.is_integer() else f"{number:.15g}"
        elif len(value) > 1 and value[0] == "0":
            value = value.lstrip("0") or "0"
        if style is not None and style in self._styles.zeros:
            zeros = self._styles.zeros[style]
            if value.isdigit() and len(value) <= zeros:
                self._numeric &= ~(1 << self._column)
                value = value.zfill(zeros)
        if style is not None and style in self._styles.pluses and value.isdigit():
            return self._styles.pluses[style] + value
        return value

    def _date(self, value: str) -> str:
        days = float(value)
        try:
            seconds = round((days % 1) * 86_400)
            if self._style in self._styles.spans:
                minutes, second = divmod(int(days) * 86_400 + seconds, 60)
                return f"{minutes // 60}:{minutes % 60:02}:{second:02}"
            moment = self._epoch + timedelta(days=int(days), seconds=seconds)
        except OverflowError:
            return value
        if days < 1:
            return f"{moment:%H:%M:%S}"
        return f"{moment:%Y-%m-%d}" if seconds == 0 else f"{moment:%Y-%m-%d %H:%M:%S}"


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


class _SheetEntry(NamedTuple):
    """A worksheet as the workbook lists it."""

    name: str
    part: str
    visible: bool


class _Styles(NamedTuple):
    """What number formats mean for a cell's text, by the cell's style."""

    dates: frozenset[str]
    """Styles that show a number as a date or time."""
    spans: frozenset[str]
    """Those of them that show a span of time, such as [h]:mm."""
    zeros: Mapping[str, int]
    """Styles such as "00000000", which show leading zeros up to that many digits."""
    pluses: Mapping[str, str]
    """What styles such as "+"0 and "+852 "0 show before a number."""


def _damaged(what: str = "", line: int = 0) -> SheetError:
    where = f" ({what})" if what else ""
    return SheetError(
        "damaged_workbook",
        f"the workbook is damaged{where}",
        "open it in the spreadsheet program, let it repair the file, and save it as .xlsx",
        line,
    )


def _part_name(name: str) -> str:
    """Return a part's name as names are compared: in any case (ECMA-376 part 2, 6.2.2.3)."""
    return name.replace("\\", "/").lstrip("/").casefold()


class _Workbook:
    """An opened .xlsx file: its sheets, formats and texts."""

    def __init__(self, source: Source) -> None:
        self._most_unpacked = most_unpacked(source.packed_bytes)
        try:
            self._zip = zipfile.ZipFile(source.open())
        except (zipfile.BadZipFile, OSError, ValueError) as exc:
            raise _damaged() from exc
        self._parts = {_part_name(name): name for name in self._zip.namelist()}
        self._texts: _Texts | None = None
        book = self._find_workbook()
        self.counts_from_1904 = False
        self.sheets = self._find_sheets(book)
        self.styles = self._find_styles(book)
        self._texts_part = self._related(book, "/sharedStrings")

    def load_texts(self) -> _Texts:
        """Return the workbook's texts, unpacked at the first call."""
        if self._texts is None:
            self._texts = _Texts()
            if self._texts_part:
                with self.open_part(self._texts_part, "its texts") as part:
                    self._texts.load(part)
        return self._texts

    def close(self) -> None:
        self._zip.close()
        if self._texts is not None:
            self._texts.close()

    def part_size(self, part: str) -> int:
        return self._zip.getinfo(self._parts[part]).file_size

    @contextmanager
    def open_part(self, part: str, what: str = "") -> Iterator[IO[bytes]]:
        """Open a part that is there; translate what a damaged one raises while it is read."""
        if self.part_size(part) > self._most_unpacked:
            raise too_big(self._most_unpacked)
        try:
            with self._zip.open(self._parts[part]) as stream:
                yield stream
        except (*_DAMAGE, RuntimeError) as exc:  # RuntimeError: encrypted, or packed in another way
            raise _damaged(what) from exc

    def _find_workbook(self) -> str:
        if "[content_types].xml" not in self._parts:
            raise self._not_excel()
        for kind, part in self._relations("").values():
            if kind.endswith("/officeDocument"):
                if part.endswith(".bin"):
                    raise not_a_sheet("an .xlsb workbook")
                return part
        raise not_a_sheet("another kind of office document")

    def _not_excel(self) -> SheetError:
        """Return the error for a .zip that is not a Microsoft Office document."""
        if "mimetype" in self._parts or "content.xml" in self._parts:
            return not_a_sheet("an OpenDocument file")
        if any(part.endswith(".iwa") or part == "index.zip" for part in self._parts):
            return not_a_sheet("a Numbers document", "in Numbers, export it as Excel or as CSV")
        inside = [name for name in self._zip.namelist() if name.lower().endswith(_SHEETS)]
        named = f" with {shown(posixpath.basename(inside[0]))} in it" if inside else ""
        return not_a_sheet(f"a .zip archive{named}", "unpack it and name the file that is in it")

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

    def _find_sheets(self, book: str) -> list[_SheetEntry]:
        relations = self._relations(book)
        sheets: list[_SheetEntry] = []
        names, opened = _LocalNames(), set[str]()

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
                    sheets.append(_SheetEntry(local.get("name", ""), part, visible))

        self._parse(book, start)
        if "workbook" not in opened:
            raise not_a_sheet("another kind of office document")
        return sheets

    def _find_styles(self, book: str) -> _Styles:
        part = self._related(book, "/styles")
        codes: dict[str, str] = {}
        of_style: list[str] = []
        names, within = _LocalNames(), [""]

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
        return _Styles(frozenset(dates), frozenset(spans), zeros, pluses)

    def _parse(self, part: str, start: _Start) -> None:
        if part not in self._parts or self.part_size(part) > _MAX_PART_BYTES:
            raise _damaged(part)
        with self.open_part(part) as stream:
            for _ in _feed_xml(stream, start, lambda _: None):
                pass


_MAX_TEXTS = 1 << 24
_TEXTS_KEPT = 4096
_WINDOW_BYTES = 1 << 15
_ESCAPE = re.compile("_x([0-9A-Fa-f]{4})_")
_NOT_TEXT = re.compile("[\0\ud800-\udfff]")


class _Texts:
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
        names = _LocalNames()
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
                data = _plain_text("".join(pieces[:kept])).encode()
                ready.append(data)
                self._ends.append(self._ends[-1] + len(data))
                pieces.clear()
            elif local == "rPh":
                phonetic = False

        for _ in _feed_xml(stream, start, end, pieces):
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


def _plain_text(text: str) -> str:
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

_Start = Callable[[str, Mapping[str, str]], None]
_End = Callable[[str], None]


class _XmlError(Exception):
    """Not well-formed, or not what any spreadsheet program writes."""


_DAMAGE = (_XmlError, zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, OverflowError)
"""What reading a damaged part raises."""


class _LocalNames(dict[str, str]):
    """Names without their prefix, as "x:row" -> "row"; programs choose any prefix, or none."""

    def __missing__(self, name: str) -> str:
        local = name.rpartition(":")[2]
        if len(self) < _MAX_NAMES:
            self[name] = local
        return local


def _feed_xml(
    stream: IO[bytes], start: _Start, end: _End, pieces: list[str] | None = None
) -> Iterator[int]:
    """Parse a stream, and yield the number of bytes read so far after each 64 KiB.

    Args:
        stream: The XML, unpacked as it is read.
        start: Called with name and attributes of an element that begins.
        end: Called with the name of an element that ends.
        pieces: Receives all text, in pieces; the handlers empty it.

    Raises:
        _XmlError: It is damaged, or has larger texts or tags, deeper elements or more names than
            any workbook: the parser remembers each name and each open element.
    """
    depth = 0

    def begin(name: str, attributes: Mapping[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _MAX_DEPTH:
            raise _XmlError("elements within elements without an end")
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
                raise _XmlError("a tag without an end")
            if sum(map(len, pieces or ())) > _MAX_TEXT_CHARS:
                raise _XmlError("a text without an end")
            if len(parser.intern) > _MAX_NAMES:
                raise _XmlError("names without an end")
            yield done
        parser.Parse(b"", True)
    except expat.ExpatError as exc:
        raise _XmlError(str(exc)) from exc
    yield done


def _refuse_document_type(*_: object) -> None:
    raise _XmlError("a document type declaration")
