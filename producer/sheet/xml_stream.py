"""XML read piece by piece, in constant memory, from a file that nobody vouches for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import IO
from xml.parsers import expat

_CHUNK_BYTES = 1 << 16
_MAX_NAMES = 4096
_MAX_TAG_BYTES = 1 << 20
_MAX_TEXT_CHARS = 1 << 20
_MAX_DEPTH = 100  # a worksheet's elements are some ten deep

Start = Callable[[str, Mapping[str, str]], None]
End = Callable[[str], None]


class XmlError(Exception):
    """Not well-formed, or with a document type, which no spreadsheet program writes."""


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
    """Parse a stream, giving the number of bytes read so far after each 64 KiB.

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
