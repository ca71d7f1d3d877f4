"""What a file is by its content, whatever its name says."""

from __future__ import annotations

import io
import re

from producer.sheet.encoding import Encoding
from producer.sheet.problem import SheetError
from producer.sheet.source import Source

ZIP_MARK = b"PK\x03\x04"

# Files of programs that people mistake for a sheet, by their first bytes.
_OTHER_KINDS = (
    (b"\xd0\xcf\x11\xe0", "an old .xls workbook, or one with a password"),
    (b"%PDF", "a PDF"),
    (b"PK\x05\x06", "an empty .zip archive"),
    (b"Rar!", "a .rar archive"),
    (b"7z\xbc\xaf", "a .7z archive"),
    (b"BZh", "a .bz2 archive"),
    (b"\xfd7zXZ", "an .xz archive"),
    (b"\x28\xb5\x2f\xfd", "a .zst archive"),
    (b"SQLite format 3", "a database"),
    (b"{\\rtf", "an .rtf document"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
)
_OPENING_CHARS = 1 << 12
_MARKUP = re.compile(r"\s*<(?:!doctype|!--|\?xml|html|head|body|table)", re.I)
_JSON_DOCUMENT = re.compile(r"\s*\[\s*[{\[]|\s*\{\s*\n")
_JSON_LINE = re.compile(r'\s*\{[ \t]*["}]')


def refuse_other_files(source: Source) -> None:
    """Refuse files of programs that are none for sheets, by their first bytes.

    Raises:
        SheetError: `not_a_sheet`.
    """
    for first_bytes, kind in _OTHER_KINDS:
        if source.survey.head.startswith(first_bytes):
            raise _not_a_sheet(source, kind)


def is_json_lines(source: Source, encoding: Encoding) -> bool:
    """Whether a text is JSON Lines; else it is delimited text.

    Raises:
        SheetError: `not_a_sheet`: it is XML, a web page or one JSON document.
    """
    reader = source.open()
    reader.seek(encoding.mark_bytes)
    opening = io.TextIOWrapper(reader, encoding.codec, "replace").read(_OPENING_CHARS)
    if _MARKUP.match(opening):
        raise _not_a_sheet(source, "a web page or XML")
    if _JSON_DOCUMENT.match(opening):
        raise SheetError(
            "not_a_sheet",
            source.name,
            "this is one JSON document",
            "write one object a line (JSON Lines), without brackets around them",
        )
    return _JSON_LINE.match(opening) is not None


def _not_a_sheet(source: Source, kind: str) -> SheetError:
    return SheetError(
        "not_a_sheet", source.name, f"this is {kind}", "save it as .xlsx or as CSV UTF-8"
    )
