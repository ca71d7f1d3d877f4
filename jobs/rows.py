"""A batch's rows as Redis keeps them: what the feed needs, and all else sealed in blocks.

`rows:ID` has a head for each row, as the scripts read it: `cc TAB num TAB mark`, or, rejected,
`TAB code TAB`. One that a person cancelled before it became a job has a minus in front. `num` is
sealed for the job that the row becomes, which takes it as it is. The mark is `t` for a number that
no bound on spending holds for.

`cells:ID` has the rest of `BLOCK_ROWS` rows at a time, compressed, sealed and bound to its place:
for each row `line TAB cells as JSON`. Without its block a row is sent all the same; it is an empty
text, or behind the list's end, where it is missing.

Before release 0.10 a row was whole in `rows:ID`, as `BatchRow.encode` writes it.
"""

from __future__ import annotations

import logging
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice

import redis

from config.logging import fields
from config.settings import Settings
from jobs.batch import BLOCK_ROWS, BatchRow
from jobs.codes import OwnCode
from jobs.job import NO_NUMBER, Lane, batch_job_id
from jobs.phone import PhoneNumber
from jobs.quotas import Quotas
from jobs.scripts import Argument, LedgerPart, parted
from jobs.vault import ForgedError, SealedError, UnknownKeyError, Vault, job_binding

log = logging.getLogger("sendcode.rows")
CHUNK_ROWS = 8 * BLOCK_ROWS
"""Appended, or read, at once."""
_CHANGED = -3
"""The reply of append_rows.lua where the batch is not as it was when its rows were prepared."""
_TRUSTED = "t"
_WHOLE = 4
"""Parts of a row that has no block."""
_SEALED = re.compile(r"-?(\d+)\t([^\t]+:[^\t]+)\t")
"""The head of a row that can be sent: its country code and number."""


class Rows(LedgerPart):
    """The rows of all batches."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        super().__init__(client, settings)
        self._vault = Vault(client, settings)
        self._quotas, self._trusts = Quotas(settings), bool(settings.trusted)

    def append(
        self, batch_id: str, first: int, rows: Sequence[BatchRow | str | bytes], *, is_last: bool
    ) -> int:
        """Append rows, encoded or not; return what append_rows.lua does.

        Raises:
            SealedError: the batch's last block, which is to be completed, cannot be opened.
        """
        while True:
            ask_term = ("HGET", self.keys.batch(batch_id), "expires_at")
            have, term = self.ask_all([("LLEN", self.keys.rows(batch_id)), ask_term])
            fresh = rows[max(0, have - first) :]
            block, begun = divmod(have, BLOCK_ROWS)
            was, tails = "", [b""] * begun
            if fresh and begun:
                was = str(self.client.lindex(self.keys.cells(batch_id), block) or "")
                found = _open_block(self._vault, batch_id, block, was)[:begun]
                tails[: len(found)] = found
            texts = [row.encode() if isinstance(row, BatchRow) else row for row in fresh]
            heads, new = self._parted(batch_id, have + 1, texts, term)
            tails += new
            blocks = [
                self._seal(batch_id, block + n // BLOCK_ROWS, tails[n : n + BLOCK_ROWS])
                for n in range(0, len(tails) if fresh else 0, BLOCK_ROWS)
            ]
            done = self.run_script(
                "append_rows",
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
        """Return rows from index `first` (0, 1 …) on.

        Raises:
            UnknownKeyError: they are sealed under a key that is not among ours.
        """
        heads, opener = self._lists(batch_id, first, count)
        opener.raises = UnknownKeyError
        return [opener.row(batch_id, n, head) for n, head in enumerate(heads, first + 1)]

    def at(self, places: Sequence[tuple[str, int]]) -> list[BatchRow | None]:
        """Return the rows of batches by their numbers (1, 2 …); None where there is none."""
        found: list[BatchRow | None] = []
        for chunk in parted(places, CHUNK_ROWS):
            blocks = list(dict.fromkeys((batch_id, _block(n)) for batch_id, n in chunk))
            batch_ids = list(dict.fromkeys(batch_id for batch_id, _ in chunk))
            commands: list[tuple[Argument, ...]] = [
                *(("LINDEX", self.keys.rows(each), n - 1) for each, n in chunk),
                *(("LINDEX", self.keys.cells(each), n) for each, n in blocks),
                *(("HGET", self.keys.batch(each), "expires_at") for each in batch_ids),
            ]
            replies = iter(self.ask_all(commands))
            heads = list(islice(replies, len(chunk)))
            sealed = dict(zip(blocks, islice(replies, len(blocks)), strict=True))
            opener = _Opener(self._vault, sealed, dict(zip(batch_ids, replies, strict=True)))
            found += [
                opener.row(*place, head) if head is not None else None
                for place, head in zip(chunk, heads, strict=True)
            ]
        return found

    def term(self, batch_id: str, known: Iterable[str]) -> str:
        """Return the `expires_at` of a batch whose record is lost: the one its rows are sealed for.

        `known` are those of its jobs. It is "" where there was none, and "lost" where it is
        another one.

        Raises:
            UnknownKeyError: they are sealed under a key that is not among ours.
        """
        terms = sorted(known, reverse=True) or [""]
        for first, heads in self.pages_of(self.keys.rows(batch_id), CHUNK_ROWS):
            for number, head in enumerate(heads, first + 1):
                if (found := _SEALED.match(head)) is None:
                    continue
                country_code, num = found.groups()
                for term in (*terms, ""):
                    with suppress(ForgedError):
                        self._vault.open_number(
                            country_code, num, _job_binding(batch_id, number, term)
                        )
                        return term
                return "lost"
        return terms[0]

    def scan(
        self, batch_id: str, first: int, count: int, *, all_cells: bool
    ) -> Iterator[tuple[str, str, bytes]]:
        """Yield country code, number and cells as JSON of rows from index `first` on.

        What stands for a number is its index, or, in an old row, its digits. A rejected row has no
        country code, and others have no cells, unless `all_cells`.
        """
        heads, opener = self._lists(batch_id, first, count)
        for number, text in enumerate(heads, first + 1):
            country_code, num, *rest = (*text.removeprefix("-").split("\t", _WHOLE - 1), "")
            json = b""
            if len(rest) == _WHOLE - 1:
                json = rest[1].encode()
            elif all_cells or not country_code:
                json = opener.cells(batch_id, number).partition(b"\t")[2]
            yield country_code, num.partition(":")[0], json

    def blanked(self, batch_id: str, number: int, phone: PhoneNumber) -> dict[str, Argument]:
        """Return what forget.lua takes to blank a row for a person with this number; {} if none.

        Raises:
            SealedError: its block cannot be opened.
        """
        block, place = _block(number), (number - 1) % BLOCK_ROWS
        heads, opener = self._lists(batch_id, number - 1, 1)
        if not heads:
            return {}
        head, row = heads[0], opener.row(batch_id, number, heads[0])
        blank = replace(row, cells=[""] * len(row.cells), phone=row.phone and NO_NUMBER).encode()
        is_named = int(self._is_named(head, row, phone))
        found: dict[str, Argument] = {"batch": batch_id, "row": number, "is_named": is_named}
        if _is_whole(head):
            return {**found, "head": head, "head_blank": blank}
        (head_blank,), (tail,) = self._parted(batch_id, number, [blank], None)
        found |= {"head": head, "head_blank": head_blank}
        if sealed := opener.sealed.get((batch_id, block)):
            tails = _open_block(self._vault, batch_id, block, sealed)
            tails[place] = tail
            blank = self._seal(batch_id, block, tails)
            found |= {"block": block, "cells": sealed, "cells_blank": blank}
        return found

    def _is_named(self, head: str, row: BatchRow, phone: PhoneNumber) -> bool:
        """Whether a row is for a number, or was rejected and holds it."""
        if row.phone is None:
            return phone.country_code + phone.phone_num in "\t".join(row.cells)
        country_code, num = head.removeprefix("-").split("\t")[:2]
        index = self._vault.index(phone.country_code, phone.phone_num)
        is_same = num.partition(":")[0] in {index, phone.phone_num}
        return country_code == phone.country_code and is_same

    def seal_old(self, batch_id: str, block: int) -> bool:
        """Seal a block's rows that an older release wrote; return whether there may be more.

        What is no row is left as it is.

        Raises:
            UnknownKeyError: its block is sealed under a key that is not among ours.
        """
        first = block * BLOCK_ROWS
        while True:
            heads, opener = self._lists(batch_id, first, BLOCK_ROWS)
            term, sealed = opener.terms[batch_id], opener.sealed.get((batch_id, block)) or ""
            try:
                tails = _open_block(self._vault, batch_id, block, sealed)
            except ForgedError:
                tails = []
            tails += [b""] * (len(heads) - len(tails))
            new = list(heads)
            for place, head in enumerate(heads):
                if _is_whole(head):
                    old = head.removeprefix("-")
                    with suppress(ValueError):
                        number = first + place + 1
                        (sealed_old,), (tails[place],) = self._parted(batch_id, number, [old], term)
                        new[place] = head[: len(head) - len(old)] + sealed_old
            if new == heads or self.run_script(
                "seal_rows",
                [*heads, *new],
                batch=batch_id,
                first=first,
                was=sealed,
                cells=self._seal(batch_id, block, tails),
            ):
                return len(heads) == BLOCK_ROWS

    def _lists(self, batch_id: str, first: int, count: int) -> tuple[list[str], _Opener]:
        last = first + count - 1
        blocks = range(first // BLOCK_ROWS, last // BLOCK_ROWS + 1)
        heads, cells, term = self.ask_all(
            [
                ("LRANGE", self.keys.rows(batch_id), first, last),
                ("LRANGE", self.keys.cells(batch_id), blocks[0], blocks[-1]),
                ("HGET", self.keys.batch(batch_id), "expires_at"),
            ]
        )
        sealed = zip(((batch_id, block) for block in blocks), cells, strict=False)
        return heads, _Opener(self._vault, dict(sealed), {batch_id: term})

    def _parted(
        self, batch_id: str, first: int, texts: Iterable[str | bytes], term: str | None
    ) -> tuple[list[str], list[bytes]]:
        """Part encoded rows, the first of which has number `first`, into heads and tails."""
        heads, tails, places, numbers = [], [], [], []
        for number, text in enumerate(texts, first):
            line = text.encode() if isinstance(text, str) else text
            country_code, second, tail = line.split(b"\t", 2)
            code, digits = country_code.decode(), second.decode()
            tails.append(tail)
            if not code or digits == NO_NUMBER.phone_num:
                heads.append(f"{code}\t{digits}\t")
                continue
            if not (country_code.isdigit() and second.isdigit()):
                raise ValueError("it is no row")
            places.append(len(heads))
            heads.append("")
            numbers.append((code, digits, _job_binding(batch_id, number, term)))
        for place, (code, digits, _), num in zip(
            places, numbers, self._vault.seal_numbers(numbers), strict=True
        ):
            is_trusted = self._trusts and self._quotas.is_trusted(PhoneNumber(code, digits))
            heads[place] = f"{code}\t{num}\t{_TRUSTED if is_trusted else ''}"
        return heads, tails

    def _seal(self, batch_id: str, block: int, tails: Sequence[bytes]) -> str:
        return self._vault.seal(zlib.compress(b"\n".join(tails)), block_binding(batch_id, block))


class _Opener:
    """Opens rows: a block when it is first asked for."""

    def __init__(
        self,
        vault: Vault,
        sealed: Mapping[tuple[str, int], str | None],
        terms: Mapping[str, str | None],
    ) -> None:
        """Take the blocks by batch and number, and the batches' `expires_at`."""
        self._vault = vault
        self.sealed = sealed
        self.terms = terms
        self._opened: dict[tuple[str, int], list[bytes]] = {}
        self._logged: set[tuple[str, str, str]] = set()
        self.raises: type[SealedError] | tuple[()] = ()
        """What is raised where something cannot be opened; all else is logged."""

    def row(self, batch_id: str, number: int, head: str) -> BatchRow:
        """Return a row; what of it cannot be opened is left out."""
        try:
            if _is_whole(head):
                return BatchRow.decode(head)
            country_code, second, _ = head.split("\t")
            empty = "0\t[]" if country_code else '0\t["",[]]'
            if country_code:
                second = self._digits(batch_id, number, country_code.removeprefix("-"), second)
            tail = self.cells(batch_id, number).decode() or empty
            return BatchRow.decode(f"{country_code}\t{second}\t{tail}")
        except ValueError:
            return BatchRow(0, [], None, str(OwnCode.UNREADABLE), "the row cannot be read")

    def cells(self, batch_id: str, number: int) -> bytes:
        """Return `line TAB cells as JSON` of a row; nothing where its block cannot be opened."""
        block, place = _block(number), (number - 1) % BLOCK_ROWS
        tails = self._opened.get((batch_id, block))
        if tails is None:
            sealed = self.sealed.get((batch_id, block))
            try:
                tails = _open_block(self._vault, batch_id, block, sealed)
            except SealedError as exc:
                self._warn("cells of a batch cannot be opened", batch_id, number, exc)
                tails = []
            self._opened[batch_id, block] = tails
        return tails[place] if place < len(tails) else b""

    def _digits(self, batch_id: str, number: int, country_code: str, num: str) -> str:
        if ":" not in num:
            return num
        bound_to = _job_binding(batch_id, number, self.terms.get(batch_id))
        try:
            return self._vault.open_number(country_code, num, bound_to).phone_num
        except self.raises:
            raise
        except SealedError as exc:
            self._warn("a row's number cannot be opened", batch_id, number, exc)
            return NO_NUMBER.phone_num

    def _warn(self, what: str, batch_id: str, number: int, why: SealedError) -> None:
        """Log of a batch's rows the first one alone that cannot be opened for a reason."""
        if (batch_id, what, str(why)) not in self._logged:
            self._logged.add((batch_id, what, str(why)))
            log.warning(what, extra=fields(batch_id=batch_id, row=number, why=str(why)))


def _open_block(vault: Vault, batch_id: str, block: int, sealed: str | None) -> list[bytes]:
    if not sealed:
        return []
    return zlib.decompress(vault.open(sealed, block_binding(batch_id, block))).split(b"\n")


def _is_whole(head: str) -> bool:
    """Return whether this is a whole row, as older releases wrote it."""
    return head.count("\t") == _WHOLE - 1


def _block(number: int) -> int:
    """Return in which block (0, 1 …) a row lies."""
    return (number - 1) // BLOCK_ROWS


def block_binding(batch_id: str, block: int) -> str:
    """Return what a block of cells is bound to."""
    return f"cells {batch_id} {block}"


def _job_binding(batch_id: str, number: int, term: str | None) -> str:
    """Return what a row's number is bound to: the job that it becomes."""
    return job_binding(batch_job_id(batch_id, number), Lane.BATCH, term or "")
