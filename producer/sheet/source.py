"""A file's bytes, wherever they come from.

All of them are read at least twice, so standard input, pipes and .gz files are copied to a
temporary file first. Memory does not depend on the size of the file. Files that people mistake for
a sheet are recognised by their bytes, whatever their names say.
"""

from __future__ import annotations

import codecs
import gzip
import hashlib
import io
import os
import stat
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import IO, BinaryIO

from producer.sheet.row import SheetError, not_a_sheet, of_file, shown

ZIP_MARK = b"PK\x03\x04"
CHUNK_BYTES = 1 << 20
HEAD_BYTES = 1 << 16
MAX_SPOOLED_BYTES = 4 << 30
"""Limit of standard input and unpacked .gz files: an endless pipe must not fill the disk."""
_MAX_RATIO, _ALWAYS_ALLOWED_BYTES = 100, 64 << 20
"""A packed file may unpack to 100 times its size, and to 64 MiB in any case: lists of customers
become 30 times larger at most, and what is made to fill a disk 1,000 times."""

_GZIP = b"\x1f\x8b"
_END_MARK = b"\x1a"
"""Ctrl-Z, with which some programs still end a text, as under DOS."""
_LAST_BYTES = 1024


class Source:
    """An opened input; each `open` returns an independent reader of it from the start."""

    def __init__(self, name: str, file: IO[bytes], packed_bytes: int) -> None:
        self.name = name
        """The file's name for people."""
        self.packed_bytes = packed_bytes
        """The size of the file as it came."""
        self._file = file
        self._stamp = self._stamp_now()
        self.size = self._stamp[0]
        """In bytes, without marks of its end."""
        self.head = self.open().read(HEAD_BYTES)
        """The first 64 KiB."""
        self.size -= self._end_marks()

    @cached_property
    def nul_count(self) -> int:
        return sum(chunk.count(0) for chunk in self.chunks())

    @cached_property
    def utf8_error(self) -> int | None:
        """Offset of the first byte that is not UTF-8, if any."""
        return self.first_error("utf-8")

    def open(self, end: int | None = None) -> io.BufferedReader:
        """Return a reader of the bytes before `end`; by default of all."""
        end = self.size if end is None else end
        return io.BufferedReader(_Window(self._file.fileno(), end), HEAD_BYTES)

    def chunks(self) -> Iterator[bytes]:
        """Yield all bytes, then an empty chunk, which tells a decoder that there are no more."""
        reader = self.open()
        while chunk := reader.read(CHUNK_BYTES):
            yield chunk
        yield b""

    def first_error(self, codec: str) -> int | None:
        """Return the offset of the first byte that does not fit a codec; in constant memory."""
        decoder = codecs.getincrementaldecoder(codec)("strict")
        offset = 0
        for chunk in self.chunks():
            pending = len(decoder.getstate()[0])
            try:
                decoder.decode(chunk, not chunk)
            except UnicodeDecodeError as exc:
                return offset - pending + exc.start
            offset += len(chunk)
        return None

    def digest_of_bytes(self) -> str:
        """Return SHA-256 in hex; of a .gz file's unpacked bytes."""
        return hashlib.file_digest(self.open(), "sha256").hexdigest()

    def check_unchanged(self) -> None:
        """Raise `file_changed` if the file was written to since it was opened."""
        if self._stamp_now() != self._stamp:
            raise SheetError(
                "file_changed",
                "the file was changed while it was read",
                "wait until it is complete, then start again; nothing is sent twice",
            )

    def close(self) -> None:
        self._file.close()

    def _end_marks(self) -> int:
        """Return how many bytes at the end only mark it; in UTF-16 they may be text."""
        if self.head.startswith(ZIP_MARK) or self.nul_count:
            return 0
        start = max(0, self.size - _LAST_BYTES)
        last = os.pread(self._file.fileno(), self.size - start, start)
        return len(last) - len(last.rstrip(_END_MARK))

    def _stamp_now(self) -> tuple[int, int]:
        found = os.fstat(self._file.fileno())
        return found.st_size, found.st_mtime_ns


class _Window(io.RawIOBase):
    """Reads a shared file up to an end, at a position of its own."""

    def __init__(self, fd: int, end: int) -> None:
        self._fd = fd
        self._end = end
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        most = max(0, min(len(buffer), self._end - self._position))
        found = os.pread(self._fd, most, self._position)
        buffer[: len(found)] = found
        self._position += len(found)
        return len(found)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._end}[whence]
        self._position = max(0, start + offset)
        return self._position


def open_source(
    path: str | Path, stdin: BinaryIO | None = None, upload: IO[bytes] | None = None
) -> Source:
    """Open a path, or standard input for "-"; of an open `upload`, the path is only the name.

    Raises:
        SheetError: `not_found`, `not_readable`, `not_a_file`, `no_input`, `bad_gzip`, `too_big`
            or `empty`.
    """
    if upload is not None:
        name = shown(str(path)) or "the file"
    else:
        name = "standard input" if str(path) == "-" else shown(Path(path).name or str(path))
    with of_file(name), ExitStack() as on_error:
        file = on_error.enter_context(upload if upload is not None else _opened(path, stdin))
        packed_bytes = os.fstat(file.fileno()).st_size
        if os.pread(file.fileno(), len(_GZIP), 0) == _GZIP:
            file = on_error.enter_context(_unpack(file, most_unpacked(packed_bytes)))
        source = Source(name, file, packed_bytes)
        if source.size == 0:
            raise SheetError("empty", "the file is empty", "save it again with its rows")
        on_error.pop_all()
    return source


def _opened(path: str | Path, stdin: BinaryIO | None) -> IO[bytes]:
    if str(path) == "-":
        if stdin is None:
            raise SheetError("no_input", "there is no standard input", "name a file")
        return _spool(stdin)
    try:
        file = Path(path).open("rb")  # noqa: SIM115 (the caller closes it)
    except FileNotFoundError:
        raise SheetError("not_found", "there is no such file", "check the path") from None
    except IsADirectoryError:
        raise SheetError("not_a_file", "this is a folder", "name the file in it") from None
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else "not a path"
        raise SheetError(
            "not_readable", f"the file cannot be opened ({reason})", "check its permissions"
        ) from exc
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    with file:
        return _spool(file)


def most_unpacked(packed_bytes: int, always_allowed: int = _ALWAYS_ALLOWED_BYTES) -> int:
    """Return how many bytes a file of `packed_bytes` may unpack to; `always_allowed` at least."""
    return min(MAX_SPOOLED_BYTES, max(always_allowed, _MAX_RATIO * packed_bytes))


def _unpack(packed: IO[bytes], most: int) -> IO[bytes]:
    """Unpack a file into a temporary one, and close it."""
    packed.seek(0)
    try:
        with packed, gzip.GzipFile(fileobj=packed) as unpacked:
            return _spool(unpacked, most)
    except (OSError, EOFError, zlib.error) as exc:
        raise SheetError(
            "bad_gzip", "the .gz file is damaged or incomplete", "pack or copy it again"
        ) from exc


def _spool(stream: IO[bytes] | gzip.GzipFile, most: int = MAX_SPOOLED_BYTES) -> IO[bytes]:
    """Copy a stream of at most `most` bytes to a temporary file that nobody else can see."""
    with ExitStack() as on_error:
        spool = on_error.enter_context(tempfile.TemporaryFile(prefix="sendcode-"))
        while chunk := stream.read(CHUNK_BYTES):
            spool.write(chunk)
            if spool.tell() > most:
                raise too_big(most)
        spool.flush()
        on_error.pop_all()
    return spool


def too_big(most: int) -> SheetError:
    """Return the error for a file that is, or unpacks to, more than `most` bytes."""
    return SheetError(
        "too_big",
        f"the input is, or becomes when it is read, larger than {most >> 20} MiB",
        "split it into several files; take out columns that are not needed",
    )


# Files that people mistake for a sheet, by their first bytes.
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


def refuse_other_files(source: Source) -> None:
    """Raise `not_a_sheet` for files that people mistake for one."""
    head = source.head
    if _is_lock(source):
        meant = source.name.removeprefix(".").removeprefix("~$").removeprefix("~lock.")
        meant = f"the workbook {meant.rstrip('#')}" if meant != source.name else "the workbook"
        raise not_a_sheet(
            "the lock file that a program keeps beside a workbook while it has it open",
            f"name {meant} itself",
        )
    if head.startswith(_OLE):
        if _contains(source, _ENCRYPTED):
            raise not_a_sheet(
                "a workbook with a password",
                "open it, take the password out (in Excel: File, Info, Protect Workbook), save it",
            )
        raise not_a_sheet("an old .xls workbook")
    for first_bytes, kind in _OTHER_KINDS:
        if head.startswith(first_bytes):
            raise not_a_sheet(kind)


def _is_lock(source: Source) -> bool:
    """Return whether this is Excel's ~$name.xlsx (a user's name, twice) or .~lock.name#."""
    head = source.head
    by_name = source.name.startswith((".~lock.", "~$")) and source.size < 2 * _LOCK_BYTES
    return by_name or (
        source.size == _LOCK_BYTES
        and 0 < head[0] < _OWNER_BYTES
        and head[_OWNER_BYTES : _OWNER_BYTES + 2] == bytes((head[0], 0))
    )


def _contains(source: Source, text: bytes) -> bool:
    before = b""
    for chunk in source.chunks():
        if text in before + chunk:
            return True
        before = chunk[-len(text) :]
    return False
