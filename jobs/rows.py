"""A batch's rows as Redis keeps them: what the feed needs, and all else sealed in blocks.

`rows:ID` has a head for each row, as the scripts read it: `cc TAB num TAB mark`, or, rejected,
`TAB code TAB`. One that a person cancelled before it became a job has a minus in front. The mark is
`t` for a number that no bound on spending holds for.

`cells:ID` has the rest of `BLOCK_ROWS` rows at a time, compressed, sealed and bound to its place:
for each row `line TAB cells as JSON`. Without its block a row is sent all the same; it is an empty
text, or behind the list's end, where it is missing.

Before release 0.10 a row was whole in `rows:ID`, as `BatchRow.encode` writes it.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import redis

from config.settings import Settings
from jobs.batch import BLOCK_ROWS, BatchRow
from jobs.job import NO_NUMBER
from jobs.keys import Keys
from jobs.phone import PhoneNumber
from jobs.quotas import Quotas
from jobs.scripts import scripts
from jobs.vault import SealedError, Vault

log = logging.getLogger("sendcode.rows")
CHUNK_ROWS = 8 * BLOCK_ROWS
"""Appended, or read, at once."""
_CHANGED = -3
"""The reply of append_rows.lua where the batch is not as it was when its rows were prepared."""
_TRUSTED = "t"
_WHOLE = 4
"""Parts of a row that has no block."""


@dataclass(frozen=True, slots=True)
class Blank:
    """What forget.lua takes to blank a row: texts as they are in Redis, and as they become."""

    head: str
    head_blank: str
    block: int
    cells: str
    """Of its block; "" if it has none."""
    cells_blank: str
    is_named: bool
    """The row is for the number; or it was rejected, and holds it."""

    def arguments(self) -> dict[str, str | int]:
        """Return what the script takes."""
        return {**asdict(self), "is_named": int(self.is_named)}


class Rows:
    """The rows of all batches."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self._client = client
        self._keys = Keys(settings.sendcode_key_prefix)
        self._vault = Vault(client, settings)
        self._quotas = Quotas(settings)
        self._append = scripts(client, settings)("append_rows")

    def append(
        self, batch_id: str, first: int, rows: Sequence[BatchRow | str | bytes], *, is_last: bool
    ) -> int:
        """Append rows, encoded or not; return what append_rows.lua does.

        Raises:
            SealedError: the batch's last block, which is to be completed, cannot be opened.
        """
        while True:
            have = int(self._client.llen(self._keys.rows(batch_id)))
            fresh = rows[max(0, have - first) :]
            block, begun = divmod(have, BLOCK_ROWS)
            was, tails = "", [b""] * begun
            if fresh and begun:
                was = str(self._client.lindex(self._keys.cells(batch_id), block) or "")
                found = self._open(batch_id, block, was)[:begun]
                tails[: len(found)] = found
            heads = []
            for row in fresh:
                text = row.encode() if isinstance(row, BatchRow) else row
                head, tail = self._parted(text.encode() if isinstance(text, str) else text)
                heads.append(head)
                tails.append(tail)
            blocks = [
                self._seal(batch_id, block + n // BLOCK_ROWS, tails[n : n + BLOCK_ROWS])
                for n in range(0, len(tails) if fresh else 0, BLOCK_ROWS)
            ]
            done = self._append(
                [*blocks, *heads],
                batch=batch_id,
                first=max(have, first),
                was=was,
                blocks=len(blocks),
                is_last=int(is_last),
            )
            if done != _CHANGED:
                return int(done)

    def read(self, batch_id: str, first: int, count: int = CHUNK_ROWS) -> list[BatchRow]:
        """Return rows from index `first` (0, 1 …) on."""
        heads, cells = self._lists(batch_id, first, count)
        return [_row(batch_id, n, head, cells) for n, head in enumerate(heads, first + 1)]

    def at(self, places: Sequence[tuple[str, int]]) -> list[BatchRow | None]:
        """Return the rows of batches by their numbers (1, 2 …); None where there is none."""
        found: list[BatchRow | None] = []
        for start in range(0, len(places), CHUNK_ROWS):
            chunk = places[start : start + CHUNK_ROWS]
            blocks = list(dict.fromkeys((batch_id, _block(n)) for batch_id, n in chunk))
            pipe = self._client.pipeline(transaction=False)
            for batch_id, number in chunk:
                pipe.lindex(self._keys.rows(batch_id), number - 1)
            for batch_id, block in blocks:
                pipe.lindex(self._keys.cells(batch_id), block)
            replies = pipe.execute()
            heads, sealed = replies[: len(chunk)], replies[len(chunk) :]
            cells = _Cells(self._open, dict(zip(blocks, sealed, strict=True)))
            found += [
                _row(*place, head, cells) if head is not None else None
                for place, head in zip(chunk, heads, strict=True)
            ]
        return found

    def look(
        self, batch_id: str, first: int, count: int, *, all_cells: bool
    ) -> Iterator[tuple[str, str, bytes]]:
        """Yield country code, number and cells as JSON of rows from index `first` on.

        A rejected row has no country code, and others have no cells, unless `all_cells`.
        """
        heads, cells = self._lists(batch_id, first, count)
        for number, text in enumerate(heads, first + 1):
            country_code, num, *rest = (*text.removeprefix("-").split("\t", _WHOLE - 1), "")
            json = b""
            if len(rest) == _WHOLE - 1:
                json = rest[1].encode()
            elif all_cells or not country_code:
                json = cells.of(batch_id, number).partition(b"\t")[2]
            yield country_code, num, json

    def blanked(self, batch_id: str, number: int, phone: PhoneNumber) -> Blank | None:
        """Return what it takes to blank a row for a person with this number, if there is one.

        Raises:
            SealedError: its block cannot be opened.
        """
        block, place = _block(number), (number - 1) % BLOCK_ROWS
        pipe = self._client.pipeline(transaction=False)
        pipe.lindex(self._keys.rows(batch_id), number - 1)
        pipe.lindex(self._keys.cells(batch_id), block)
        head, sealed = pipe.execute()
        if head is None:
            return None
        row = _row(batch_id, number, head, _Cells(self._open, {(batch_id, block): sealed}))
        digits = phone.country_code + phone.phone_num
        is_named = row.phone == phone if row.phone else digits in "\t".join(row.cells)
        blank = replace(row, cells=[""] * len(row.cells), phone=row.phone and NO_NUMBER)
        text = blank.encode()
        if head.count("\t") == _WHOLE - 1:
            return Blank(head, text, block, "", "", is_named)
        head_blank, tail = self._parted(text.encode())
        if not sealed:
            return Blank(head, head_blank, block, "", "", is_named)
        tails = self._open(batch_id, block, sealed)
        tails[place] = tail
        cells = self._seal(batch_id, block, tails)
        return Blank(head, head_blank, block, sealed, cells, is_named)

    def _lists(self, batch_id: str, first: int, count: int) -> tuple[list[str], _Cells]:
        last = first + count - 1
        pipe = self._client.pipeline(transaction=False)
        pipe.lrange(self._keys.rows(batch_id), first, last)
        blocks = range(first // BLOCK_ROWS, last // BLOCK_ROWS + 1)
        pipe.lrange(self._keys.cells(batch_id), blocks[0], blocks[-1])
        heads, sealed = pipe.execute()
        places = ((batch_id, block) for block in blocks)
        return heads, _Cells(self._open, dict(zip(places, sealed, strict=False)))

    def _parted(self, text: bytes) -> tuple[str, bytes]:
        """Part an encoded row into head and tail."""
        country_code, second, tail = text.split(b"\t", 2)
        if not country_code:
            return f"\t{second.decode()}\t", tail
        phone = PhoneNumber(country_code.decode(), second.decode())
        mark = _TRUSTED if self._quotas.is_trusted(phone) else ""
        return f"{phone.country_code}\t{phone.phone_num}\t{mark}", tail

    def _seal(self, batch_id: str, block: int, tails: Sequence[bytes]) -> str:
        return self._vault.seal(zlib.compress(b"\n".join(tails)), _binding(batch_id, block))

    def _open(self, batch_id: str, block: int, sealed: str | None) -> list[bytes]:
        if not sealed:
            return []
        return zlib.decompress(self._vault.open(sealed, _binding(batch_id, block))).split(b"\n")


class _Cells:
    """The cells of some rows: a block is opened when it is first asked for."""

    def __init__(
        self,
        open_block: Callable[[str, int, str | None], list[bytes]],
        sealed: Mapping[tuple[str, int], str | None],
    ) -> None:
        self._open_block = open_block
        self._sealed = sealed
        self._opened: dict[tuple[str, int], list[bytes]] = {}

    def of(self, batch_id: str, number: int) -> bytes:
        """Return `line TAB cells as JSON` of a row; nothing where its block cannot be opened."""
        block, place = _block(number), (number - 1) % BLOCK_ROWS
        tails = self._opened.get((batch_id, block))
        if tails is None:
            try:
                tails = self._open_block(batch_id, block, self._sealed.get((batch_id, block)))
            except SealedError as exc:
                log.warning(
                    "cells of a batch cannot be opened",
                    extra={"batch_id": batch_id, "block": block, "error": str(exc)},
                )
                tails = []
            self._opened[batch_id, block] = tails
        return tails[place] if place < len(tails) else b""


def _row(batch_id: str, number: int, head: str, cells: _Cells) -> BatchRow:
    if head.count("\t") == _WHOLE - 1:
        return BatchRow.decode(head)
    country_code, second, _ = head.split("\t")
    tail = cells.of(batch_id, number).decode() or ("0\t[]" if country_code else '0\t["",[]]')
    return BatchRow.decode(f"{country_code}\t{second}\t{tail}")


def _block(number: int) -> int:
    """Return in which block (0, 1 …) a row lies."""
    return (number - 1) // BLOCK_ROWS


def _binding(batch_id: str, block: int) -> str:
    return f"cells {batch_id} {block}"
