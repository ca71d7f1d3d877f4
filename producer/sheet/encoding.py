"""Which encoding a file's text has: proved where bytes can prove it, and never guessed silently.

A byte order mark and valid UTF-8 over the whole file are proofs. What remains are the old code
pages of spreadsheet programs: GB18030 (Chinese) and Windows-1252 (Western European, Latin-1
included), distinguished by how the high bytes are grouped. A file that clearly fits neither is
refused with a remedy, because names would come out as nonsense in the results. The whole file is
then checked against the choice, so that a byte that does not fit is found, with its offset, before
a row is read. Libraries such as charset-normalizer guess the likeliest one from a sample.
"""

from __future__ import annotations

import codecs
import io
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import partial

from producer.sheet.row import Note, SheetError
from producer.sheet.source import CHUNK_BYTES, Source

_MARKS = (  # UTF-32 first: its mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks, each with the codec that skips it and reads what follows in its byte order."""
_OF_HOST_NAMES = ("idna", "punycode")
"""Python's encodings that are no encodings of files."""
_SAVE_AGAIN = 'save it as "CSV UTF-8" or .xlsx, or name its encoding, such as {}'
_CHINESE, _TAIWANESE = "gb18030", "big5"

_PLAIN = "0123456789,;\t\r\n"
_PLAIN_SHARE = 0.25

_HIGH_RUN = re.compile(rb"[\x80-\xff]+")
_SAMPLED_RUNS = 50_000
_CLEAR_MAJORITY = 0.9
_LOWERCASE = frozenset(range(ord("a"), ord("z") + 1))
_LETTERS = _LOWERCASE | frozenset(range(ord("A"), ord("Z") + 1))

# GB 2312: rows 01 to 09 hold symbols, 16 to 55 the 3755 common characters, 56 to 87 the rare ones.
_CHINESE_PAIRS = re.compile(rb"(?:[\xa1-\xa9\xb0-\xf7][\xa1-\xfe])+")
_COMMON_LEADS = frozenset([*range(0xA1, 0xAA), *range(0xB0, 0xD8)])
# Codec, first and last lead byte.
_COMMON_RANGES = (("gb2312", b"\xb0", b"\xd7"), ("big5", b"\xa4", b"\xc6"))
_COMMON_SHARE = 0.6  # of names in Chinese; of Russian text in its old code page it is far less


def find_encoding(source: Source, asked: str | None = None) -> tuple[str, Note | None]:
    """Return the codec of the file's text, after the whole file was checked against it.

    With it comes what the person should know about it; None if it was proved or `asked` for.

    Raises:
        SheetError: `unknown_encoding` if `asked` is none; `encoding_unclear`; `bad_bytes` with the
            offset and the line of the first byte that does not fit.
    """
    codec, note = _detect(source) if asked is None else (_codec_named(source, asked), None)
    is_utf8 = codec in {"utf-8", "utf-8-sig"}
    offset = source.utf8_error if is_utf8 else source.first_error(codec)
    if offset is not None:
        raise _bad_byte(source, codec, offset)
    return codec, note


def _detect(source: Source) -> tuple[str, Note | None]:
    for mark, codec in _MARKS:
        if source.head.startswith(mark):
            return codec, None
    wide = _wide_without_mark(source)
    if wide is not None:
        name = wide.upper()
        return wide, Note(f"read as {name}, by its zero bytes", "wide", (("encoding", name),))
    if source.utf8_error is None:
        return "utf-8", None
    codec = _code_page(source)
    name, other = {
        "gb18030": ("GB18030 (Chinese)", _TAIWANESE),
        "cp1252": ("Windows-1252 (Western European)", _CHINESE),
    }[codec]
    text = f"it is not UTF-8; read as {name}: if names look wrong, {_SAVE_AGAIN.format(other)}"
    values = (("encoding", name), ("other", other))
    return codec, Note(text, "code_page", values, "encoding")


def _codec_named(source: Source, asked: str) -> str:
    codec = ""
    with suppress(LookupError, ValueError):
        "".encode(asked)  # "hex" is a codec, too, but not of text
        codec = codecs.lookup(asked).name
    if codec in {"", *_OF_HOST_NAMES}:
        raise SheetError(
            "unknown_encoding",
            f"there is no encoding named {asked[:20]!r}",
            "name one such as utf-8, gb18030, big5, shift_jis or cp1252",
            choices=("encoding",),
        )
    for mark, marked in _MARKS:
        if source.head.startswith(mark) and codec.startswith(marked.removesuffix("-sig")):
            return marked
    if codec in {"utf-16", "utf-32"}:  # without its mark; little-endian is what programs write
        found = _wide_without_mark(source) or ""
        return found if found.startswith(codec) else f"{codec}-le"
    return codec


def _wide_without_mark(source: Source) -> str | None:
    """Return which UTF-16 a text without a mark is in, or None.

    In it each digit, comma and line break has a zero byte beside it.
    """
    head = source.head
    pairs = len(head) // 2
    if not pairs or not source.nul_count:
        return None
    even, odd = head[0::2].count(0) / pairs, head[1::2].count(0) / pairs
    often, hardly_ever = 0.3, 0.02
    if odd > often and even < hardly_ever:
        return "utf-16-le"
    if even > often and odd < hardly_ever:
        return "utf-16-be"
    if source.utf8_error is not None:  # there is more than ASCII, and it may be most of the text
        counts = {codec: _plain_count(codec, head) for codec in ("utf-16-le", "utf-16-be")}
        return max(counts, key=counts.__getitem__) if any(counts.values()) else None
    return None


def _plain_count(codec: str, head: bytes) -> int:
    """Return how many digits, separators and line breaks a text has in a codec; 0 if it is not.

    A byte of one of them may be half of a Chinese character, but most of them are not.
    """
    try:
        text = codecs.getincrementaldecoder(codec)("strict").decode(head)
    except UnicodeDecodeError:
        return 0
    if "\0" in text or not ("\n" in text or "\r" in text):
        return 0
    count = sum(map(text.count, _PLAIN))
    return count if count >= sum(map(head.count, _PLAIN.encode())) * _PLAIN_SHARE else 0


def _code_page(source: Source) -> str:
    """Return GB18030 where high bytes come in pairs, Windows-1252 where alone within words."""
    total = utf8 = chinese = western = pairs = common = 0
    for run, before, after in _high_runs(source):
        beside = (before in _LETTERS) + (after in _LETTERS)
        if len(run) == 1 and not beside:
            continue  # a symbol such as "€" is in both
        within_a_word = beside == 2 or before in _LOWERCASE or after in _LOWERCASE  # noqa: PLR2004
        total += 1
        utf8 += "\N{REPLACEMENT CHARACTER}" not in run.decode(errors="replace")
        if len(run) == 1 or (len(run) == 2 and within_a_word):  # noqa: PLR2004 - as in "ação"
            western += 1
        elif _CHINESE_PAIRS.fullmatch(run):
            chinese += 1
            pairs += len(run) // 2
            common += sum(lead in _COMMON_LEADS for lead in run[::2])
    offset = source.utf8_error or 0
    if utf8 > total / 2:
        raise _bad_byte(source, "utf-8", offset)
    if utf8 <= total / 4:
        if western >= total * _CLEAR_MAJORITY:
            return "cp1252"
        if chinese >= total * _CLEAR_MAJORITY and common >= pairs * _COMMON_SHARE:
            return "gb18030"
        if _is_common_chinese(source, "gb18030") and not _is_common_chinese(source, "big5hkscs"):
            return "gb18030"
    raise SheetError(
        "encoding_unclear",
        f"the text is not UTF-8 (first at byte {offset}), nor clearly of one other encoding",
        _SAVE_AGAIN.format(_CHINESE),
        _line_of(source, "latin-1", offset),
        choices=("encoding",),
    )


def _is_common_chinese(source: Source, codec: str) -> bool:
    """Return whether a text is mostly common Chinese in this codec, simplified or traditional.

    Runs of high bytes do not distinguish these: in GB18030 a traditional character may end in an
    ASCII byte, in Big5 any may. But read by the wrong one, a text becomes rare characters, if any.
    """
    letters: Counter[str] = Counter()
    decoder = codecs.getincrementaldecoder(codec)("strict")
    try:
        for chunk in source.chunks():
            found = decoder.decode(chunk, not chunk)
            letters.update(letter for letter in found if letter > "\x7f" and letter.isalpha())
            if letters.total() > _SAMPLED_RUNS:
                break
    except UnicodeDecodeError:
        return False
    common = sum(count for letter, count in letters.items() if _is_common(letter))
    return common > letters.total() * _CLEAR_MAJORITY


def _is_common(letter: str) -> bool:
    """Return whether GB 2312 (simplified) or Big5 (traditional) counts a letter as common."""
    return any(
        first <= letter.encode(codec, "ignore")[:1] <= last for codec, first, last in _COMMON_RANGES
    )


def _high_runs(source: Source) -> Iterator[tuple[bytes, int, int]]:
    """Yield a bounded number of runs of high bytes, with the bytes before and after each."""
    count = 0
    for chunk in source.chunks():
        for found in _HIGH_RUN.finditer(chunk):
            start, end = found.span()
            if end == len(chunk) < source.size and start:
                continue  # cut in two by the chunk's end
            before = chunk[start - 1] if start else 0
            yield found.group(), before, chunk[end] if end < len(chunk) else 0
            count += 1
            if count == _SAMPLED_RUNS:
                return


def _bad_byte(source: Source, codec: str, offset: int) -> SheetError:
    name = codec.upper().removesuffix("-SIG")
    return SheetError(
        "bad_bytes",
        f"the byte at offset {offset} is not {name}, though the text before it is",
        f"the file is damaged or of mixed origin: {_SAVE_AGAIN.format(_CHINESE)}",
        _line_of(source, codec, offset),
        choices=("encoding",),
    )


def _line_of(source: Source, codec: str, offset: int) -> int:
    """Return the physical line (1-based) of a byte; takes up to a whole pass over the file."""
    text = io.TextIOWrapper(source.open(offset), codec, "ignore")
    pieces = iter(partial(text.readline, CHUNK_BYTES), "")
    return 1 + sum(piece.endswith("\n") for piece in pieces)
