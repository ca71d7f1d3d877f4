"""What a file is by its content, whatever its name says."""

from __future__ import annotations

import io
import re

from producer.sheet.encoding import Encoding
from producer.sheet.problem import not_a_sheet
from producer.sheet.source import Source

ZIP_MARK = b"PK\x03\x04"

# Files of programs that people mistake for a sheet, by their first bytes.
_OTHER_KINDS = (
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
_OLE = b"\xd0\xcf\x11\xe0"
_ENCRYPTED = "EncryptedPackage".encode("utf-16-le")  # [MS-OFFCRYPTO] 2.3.4.4, names of OLE
_LOCK_BYTES, _OWNER_BYTES = 165, 55  # of Excel's: the user's name with its length before, twice
_OPENING_CHARS = 1 << 12
_VCARD = re.compile(r"\s*BEGIN:VCARD\b", re.I)
_MARKUP = re.compile(r"\s*<(?:!doctype|!--|\?xml|html|head|body|table)", re.I)
_JSON_DOCUMENT = re.compile(r"\s*\[\s*[{\[]|\s*\{\s*\n")
_JSON_LINE = re.compile(r'\s*\{[ \t]*["}]')


def refuse_other_files(source: Source) -> None:
    """Refuse files of programs that are none for sheets, by their first bytes.

    Raises:
        SheetError: `not_a_sheet`.
    """
    head = source.survey.head
    if _is_lock(source):
        meant = source.name.removeprefix(".").removeprefix("~$").removeprefix("~lock.")
        meant = f"the workbook {meant.rstrip('#')}" if meant != source.name else "the workbook"
        raise not_a_sheet(
            source.name,
            "the mark that a program leaves beside a workbook while it has it open",
            f"name {meant} itself",
        )
    if head.startswith(_OLE):
        if _holds(source, _ENCRYPTED):
            raise not_a_sheet(
                source.name,
                "a workbook with a password",
                "open it, take the password out (in Excel: File, Info, Protect Workbook), save it",
            )
        raise not_a_sheet(source.name, "an old .xls workbook")
    for first_bytes, kind in _OTHER_KINDS:
        if head.startswith(first_bytes):
            raise not_a_sheet(source.name, kind)


def _is_lock(source: Source) -> bool:
    """Whether it is Excel's ~$name.xlsx (a user's name, twice) or LibreOffice's .~lock.name#."""
    head = source.survey.head
    by_name = source.name.startswith((".~lock.", "~$")) and source.survey.size < 2 * _LOCK_BYTES
    return by_name or (
        source.survey.size == _LOCK_BYTES
        and 0 < head[0] < _OWNER_BYTES
        and head[_OWNER_BYTES : _OWNER_BYTES + 2] == bytes((head[0], 0))
    )


def _holds(source: Source, text: bytes) -> bool:
    """Whether the text stands anywhere in the file."""
    before = b""
    for chunk in source.chunks():
        if text in before + chunk:
            return True
        before = chunk[-len(text) :]
    return False


def is_json_lines(source: Source, encoding: Encoding) -> bool:
    """Whether a text is JSON Lines; else it is delimited text.

    Raises:
        SheetError: `not_a_sheet`: it is XML, a web page or one JSON document.
    """
    reader = source.open()
    reader.seek(encoding.mark_bytes)
    opening = io.TextIOWrapper(reader, encoding.codec, "replace").read(_OPENING_CHARS)
    if _MARKUP.match(opening):
        raise not_a_sheet(source.name, "a web page or XML")
    if _VCARD.match(opening):
        raise not_a_sheet(
            source.name, "an address book (vCard)", "export the contacts as CSV instead"
        )
    if _JSON_DOCUMENT.match(opening):
        raise not_a_sheet(
            source.name,
            "one JSON document",
            "write one object a line (JSON Lines), without brackets around them",
        )
    return _JSON_LINE.match(opening) is not None
