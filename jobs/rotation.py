"""Which data key seals how much of the ledger, and all of it sealed anew under the first one.

It is done under load, in small steps. A step reads some texts and seals them anew here; a script
puts each in its place if that still has what was read, so nothing that was changed meanwhile is
overwritten: the next pass meets it again. What is killed half-way is begun anew; what was done is
passed over.

Rows come before jobs: a row that becomes a job meanwhile hands on what it has by then.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import redis

from config.settings import Settings
from jobs.identity import approval_binding
from jobs.job import Lane, batch_job_id
from jobs.quarantine import BOUND_TO
from jobs.records import binding
from jobs.rows import block_binding
from jobs.scripts import LedgerPart, parted
from jobs.vault import (
    HALT,
    ForgedError,
    UnknownKeyError,
    Vault,
    job_binding,
    key_id_of,
    sealed_in,
    text_binding,
)

STEP = 100
"""Texts of a step: some milliseconds of Redis', also in a list of a million."""
_PASSES = 20
"""More are needed only where somebody goes on sealing under another key."""
_EXAMPLES = 5
_HEAD = re.compile(r"-?\d+\t([^\t]+)\t")
"""Of a row (jobs/rows.py): what stands for its number."""
_TOKEN = re.compile(r'\{"token":"([^"]+)"')
"""Of an action (jobs/actions.py)."""
_NO_NUMBER = "0"


@dataclass(frozen=True, slots=True)
class Sealed:
    """A text in the ledger with something sealed in it."""

    what: str
    """`job`, `unreadable`, `rows`, `cells`, `quarantine`, `vault`, `note`, `action`, `decision` or
    `halt`, as in reseal.lua."""
    owner: str
    place: str | int
    """A field or an index."""
    text: str
    sealed: str
    """The part of the text that is sealed; "" if it is in the clear."""
    bound_to: str

    @property
    def key_id(self) -> str:
        return key_id_of(self.sealed)


@dataclass(slots=True)
class Rotated:
    """What was sealed anew, and what is still under another key."""

    done: int = 0
    unknown: Counter[str] = field(default_factory=Counter)
    """By the id of a key that is not ours: nothing is wrong with them."""
    forged: list[str] = field(default_factory=list)
    """Some of those that do not open though their key is ours, as "job ev-1"."""
    missed: int = 0
    """Changed between reading and writing, in the last pass."""

    @property
    def is_complete(self) -> bool:
        """Whether nothing that can be opened is under another key."""
        return not (self.missed or self.unknown)


class Rotation(LedgerPart):
    """Counts, and seals anew, all that is sealed in one ledger."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        super().__init__(client, settings)
        self._vault = Vault(client, settings)

    @property
    def first(self) -> str:
        """The id of the key that seals."""
        return self.settings.data_keys[0][0]

    def count(self, progress: Callable[[int], None] = lambda _: None) -> Counter[tuple[str, str]]:
        """Count texts by what they are and by the id of their key; "" for those in the clear."""
        found: Counter[tuple[str, str]] = Counter()
        for step in self._steps():
            found.update((each.what, each.key_id) for each in step)
            progress(found.total())
        return found

    def rotate(self, progress: Callable[[int], None] = lambda _: None) -> Rotated:
        """Seal all anew that is not under the first key; `progress` receives how many."""
        done = 0
        for _ in range(_PASSES):
            found = Rotated()
            for step in self._steps():
                self._seal_anew(step, found)
                progress(done + found.done)
            done += found.done
            if not (found.done or found.missed):
                break
        else:
            found.missed += found.done
        found.done = done
        return found

    def _seal_anew(self, step: Sequence[Sealed], found: Rotated) -> None:
        first, parts = self.first, []
        for each in step:
            if each.key_id in {"", first}:
                continue
            try:
                index, colon, envelope = each.sealed.rpartition(":")
                envelope = self._vault.seal(
                    self._vault.open(envelope, each.bound_to), each.bound_to
                )
                anew = f"{index}{colon}{envelope}"
            except UnknownKeyError as exc:
                found.unknown[exc.key_id] += 1
            except ForgedError:
                if len(found.forged) < _EXAMPLES:
                    found.forged.append(f"{each.what} {each.owner}")
            else:
                text = each.text.replace(each.sealed, anew)
                parts.append((each.what, each.owner, each.place, each.text, text))
        if parts:
            put = self.run_script("reseal", [part for text in parts for part in text])
            found.done += put
            found.missed += len(parts) - put

    def _steps(self) -> Iterator[list[Sealed]]:
        """Yield all, a few at a time."""
        yield [
            Sealed("vault", "", name, text, text, name)
            for name, text in self._hash(self.keys.vault).items()
        ]
        ledger = self._hash(self.keys.ledger)
        if approval := ledger.get("approval"):
            bound_to = approval_binding(ledger.get("id", ""))
            yield [Sealed("ledger", "", "approval", approval, approval, bound_to)]
        for first, texts in self._list(self.keys.quarantine):
            yield [
                Sealed("quarantine", "", n, text, content, BOUND_TO)
                for n, text in enumerate(texts, first)
                if (content := json.loads(text).get("content"))
            ]
        for batch_id in self._ids("rows"):
            yield from self._rows(batch_id)
        for batch_id in self._ids("cells"):
            yield from self._cells(batch_id)
        for what in ("unreadable", "job"):
            for ids in parted(self._ids(what), STEP):
                yield list(self._jobs(what, ids))
        yield from self._actions()
        for tokens in parted(self._ids("decision"), STEP):
            yield [
                Sealed("decision", token, "plan", plan, sealed, text_binding("decision", token))
                for token in tokens
                if (
                    sealed := sealed_in(
                        plan := self._hash(self.keys.decision(token)).get("plan", "")
                    )
                )
            ]
        message = self._hash(self.keys.account).get("message", "")
        if sealed := sealed_in(message):
            yield [Sealed("halt", "", "message", message, sealed, HALT)]

    def _actions(self) -> Iterator[list[Sealed]]:
        for first, texts in self._list(self.keys.actions):
            yield [
                Sealed("action", token[1], n, text, sealed, text_binding("action", token[1]))
                for n, text in enumerate(texts, first)
                if (sealed := sealed_in(text)) and (token := _TOKEN.match(text))
            ]

    def _ids(self, what: str) -> Iterator[str]:
        start = str(getattr(self.keys, what)(""))
        for key in self.client.scan_iter(f"{start}*", count=1000):
            yield str(key).removeprefix(start)

    def _rows(self, batch_id: str) -> Iterator[list[Sealed]]:
        term = self._hash(self.keys.batch(batch_id)).get("expires_at", "")
        for first, heads in self._list(self.keys.rows(batch_id)):
            yield [
                Sealed(
                    "rows",
                    batch_id,
                    n,
                    head,
                    num[1],
                    job_binding(batch_job_id(batch_id, n + 1), Lane.BATCH, term),
                )
                for n, head in enumerate(heads, first)
                if (num := _HEAD.match(head)) and num[1] != _NO_NUMBER
            ]

    def _cells(self, batch_id: str) -> Iterator[list[Sealed]]:
        for first, blocks in self._list(self.keys.cells(batch_id)):
            yield [
                Sealed("cells", batch_id, n, text, text, block_binding(batch_id, n))
                for n, text in enumerate(blocks, first)
                if text
            ]

    def _jobs(self, what: str, ids: Sequence[str]) -> Iterator[Sealed]:
        commands = (("HGETALL", getattr(self.keys, what)(job_id)) for job_id in ids)
        for job_id, reply in zip(ids, self.ask_all(commands, errors_too=True), strict=True):
            if isinstance(reply, Exception):
                continue  # what is no record is reported by whoever needs it
            num = reply.get("num") or _NO_NUMBER
            if num != _NO_NUMBER:
                yield Sealed(what, job_id, "num", num, num, binding(job_id, reply))
            noted = "note" if what == "job" else what
            for name, entry in reply.items():
                if name.startswith("story:") and (sealed := sealed_in(entry)):
                    yield Sealed(noted, job_id, name, entry, sealed, text_binding("note", job_id))

    def _list(self, key: str) -> Iterator[tuple[int, list[str]]]:
        with suppress(redis.ResponseError):  # of a wrong type, which is reported elsewhere
            yield from self.pages_of(key, STEP)

    def _hash(self, key: str) -> dict[str, str]:
        with suppress(redis.ResponseError):
            values: Any = self.client.hgetall(key)
            return dict(values)
        return {}
