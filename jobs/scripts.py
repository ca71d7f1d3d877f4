"""Loads the Lua scripts: each is what it needs of keys and shared functions, and its own text.

A script declares its arguments once, `local A = arguments('batch', 'first:number', 'rows:rest')`:
Python packs by these names and Lua unpacks by them, and neither counts positions. The first key of
every call is that of the ledger's identity, so that proxies, ACLs and a cluster can route by it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cache, cached_property
from importlib.resources import files
from itertools import islice
from typing import Any, TypeVar, cast

import redis
from redis.exceptions import NoScriptError

from config.redis import NotReplicatedError
from config.settings import PROBE_SLACK_S, Settings
from jobs.batch import BLOCK_ROWS, RATE_FADES_S, BatchState
from jobs.codes import OwnCode
from jobs.job import State
from jobs.keys import Keys
from jobs.quotas import Quotas

READS, WRITES = 2, 2
"""The newest data that the scripts can read, and the data that they write (jobs/upgrade.py)."""
SEALED = 2
"""From this version on all numbers are sealed."""
LAPSE_S = 10
"""What a failover may make the ledger forget; more is an older copy."""
ALIVE_S = 10
"""A worker, which gives a sign of life every second, is taken for gone after that."""
SPARE_THREADS = 8
"""Threads, of all workers together, that batch jobs leave to events."""
DELIVERY_S = 20
"""How long a delivery may take before its outcome is published again."""
MOST_DELIVERIES, MOST_PER_ENDPOINT = 16, 4
"""Outcomes on their way at once, in all and to one endpoint."""
LEVEL_GROWTH = 0.0023
"""The share of the limit by which a level is passed after t seconds, over t³: half of it in 6 s."""
_SHARED = (
    "base",
    "story",
    "account",
    "numbers",
    "identity",
    "arrivals",
    "quotas",
    "webhooks",
    "batches",
    "jobs",
)
"""In the order in which they build upon each other."""
_DECLARED = re.compile(r"^local A = arguments\(([^)]*)\)", re.MULTILINE)
_NAME = re.compile(r"'([a-z_]+)(\??):?([a-z]*)'")
_COMMENT = re.compile(r"^ *--.*\n", re.MULTILINE)
_STATEMENT = re.compile(r"^(?=local |K\.|function K\.)", re.MULTILINE)
_DEFINED = re.compile(r"(?:local )?(?:function )?((?:K\.)?\w+(?:, \w+)*)")
_WORD = re.compile(r"(?:K\.)?\w+")

_CONSTANTS = {
    "SEALED": SEALED,
    "LAPSE_MS": LAPSE_S * 1000,
    "ALIVE_MS": ALIVE_S * 1000,
    "BLOCK_ROWS": BLOCK_ROWS,
    "RATE_FADES_MS": round(RATE_FADES_S * 1000),
    "LEVEL_GROWTH": LEVEL_GROWTH,
    "SPARE_THREADS": SPARE_THREADS,
    "DELIVERY_MS": DELIVERY_S * 1000,
    "MOST_DELIVERIES": MOST_DELIVERIES,
    "MOST_PER_ENDPOINT": MOST_PER_ENDPOINT,
}
"""What Python and the scripts must agree on, by its name in Lua."""
_ENUMS: dict[str, Iterable[BatchState | OwnCode]] = {
    "BATCH": BatchState,
    "CODE": (OwnCode.UNPROVED, OwnCode.SENT_MEANWHILE, OwnCode.UNREADABLE),
}
"""Enums by name: `BATCH.RUNNING` is "running"."""
_JOBS = [state for state in State if state is not State.REJECTED]  # a rejected row has no record
_SETS: dict[str, Sequence[State | BatchState]] = {
    "FINAL": [state for state in _JOBS if state.is_final],
    "OPEN": [state for state in _JOBS if not state.is_final],
    "IN_FLIGHT": [state for state in _JOBS if state.is_in_flight],
    "IS_SENT": [state for state in _JOBS if state.is_sent],
    "FOR_A_PERSON": [state for state in _JOBS if state.is_for_a_person],
    "BATCH_OVER": [state for state in BatchState if state.is_over],
}
"""Sets by name: `FINAL[state]` is true of these."""

_REPLICATED = {"submit", "submit_test", "append_rows", "begin"}
"""What is accepted must not be lost, and what is journaled must not be sent again."""
_WAIT_MS = 500
"""For replicas to confirm; they take a millisecond or so. Callers wait for twice as long."""

_KEYS_AT_ONCE = 2_000
"""Scanned in one step."""

Argument = str | bytes | int | float
T = TypeVar("T")


class Script:
    """A script bound to one Redis client and one key prefix."""

    def __init__(
        self,
        client: redis.Redis,
        keys: Keys,
        name: str,
        folder: str = "jobs/lua",
        writes: int = WRITES,
        terms: str = "",
        replicas: int = 0,
    ) -> None:
        """Bind `name`.lua of a folder; nothing is sent before its first call.

        `terms`: what `terms_of` the settings returns, for the ledger's own scripts. A call returns
        once `replicas` replicas have its changes.
        """
        text = _texts(folder)[name]
        self._name = name
        self._names, self._optional, self._rest = _declared(text)
        self._anchor = keys.ledger
        self._replicas = replicas
        self._client = client
        self._text, self.sha = _whole(keys.prefix, writes, terms, text)
        """By which the server knows it."""

    def __call__(self, rest: Iterable[Argument] = (), /, **arguments: Argument) -> Any:
        """Run it, with `rest` for its list. A client may apply it twice: each is made for that.

        Raises:
            NotReplicatedError: it is done, but too few replicas have it.
            TypeError: these are not the arguments that it declares.
        """
        if arguments.keys() | self._optional != set(self._names) or (rest and not self._rest):
            raise TypeError(f"{self._name}.lua takes {self._names}, not {list(arguments)}")
        call = ("EVALSHA", self.sha, 1, self._anchor)
        packed = [arguments.get(name, "") for name in self._names]
        try:
            return self._run(*call, *packed, *rest)
        except NoScriptError:
            self._client.script_load(self._text)
            return self._run(*call, *packed, *rest)

    def _run(self, *command: Argument) -> Any:
        if not self._replicas:
            return self._client.execute_command(*command)
        with self._client.pipeline(transaction=False) as pipe:
            pipe.execute_command(*command)
            pipe.execute_command("WAIT", self._replicas, _WAIT_MS)
            reply, confirmed = pipe.execute(raise_on_error=False)
        for each in (reply, confirmed):
            if isinstance(each, redis.RedisError):
                raise each
        if confirmed < self._replicas:
            raise NotReplicatedError(f"{confirmed} of {self._replicas} replicas", reply)
        return reply


class LedgerPart:
    """What works with one ledger: with its client and settings, by its keys and scripts."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self.client = client
        self.settings = settings
        self.keys = Keys(settings.sendcode_key_prefix)
        self._scripts: dict[str, Script] = {}

    def run_script(self, name: str, rest: Iterable[Argument] = (), /, **args: Argument) -> Any:
        """Run one of the ledger's scripts."""
        if name not in self._scripts:
            replicas = self.settings.sendcode_wait_replicas if name in _REPLICATED else 0
            self._scripts[name] = Script(
                self.client, self.keys, name, terms=self._terms, replicas=replicas
            )
        return self._scripts[name](rest, **args)

    @cached_property
    def _terms(self) -> str:
        return terms_of(self.settings)

    def ask_all(
        self, commands: Iterable[tuple[Argument, ...]], *, errors_too: bool = False
    ) -> list[Any]:
        """Send commands in one round trip; return their replies, with errors if `errors_too`."""
        pipe = self.client.pipeline(transaction=False)
        for command in commands:
            pipe.execute_command(*command)
        return pipe.execute(raise_on_error=not errors_too)

    def pages_of(self, key: str, size: int, first: int = 0) -> Iterator[tuple[int, list[str]]]:
        """Yield a list's entries from index `first` on, `size` at a time, each with its index."""
        while texts := cast("list[str]", self.client.lrange(key, first, first + size - 1)):
            yield first, texts
            first += len(texts)

    def pages_of_jobs(self, pattern: str = "*") -> Iterator[list[str]]:
        """Yield the ids of all jobs, as many at a time as Redis finds in 1 ms; some twice."""
        start, cursor = len(self.keys.job("")), 0
        while True:
            page: Any = self.client.scan(cursor, self.keys.job(pattern), count=_KEYS_AT_ONCE)
            cursor, keys = page
            yield [key[start:] for key in keys]
            if not cursor:
                return


def terms_of(settings: Settings) -> str:
    """Return the head of the ledger's scripts that says what the settings ask for, in Lua."""
    lease_ms = round(settings.sendcode_lease * 1000)
    interval_ms = round(settings.sendcode_phone_interval * 1000)
    probe_s = 2 * settings.sendcode_http_timeout + PROBE_SLACK_S
    terms = {
        "LEASE_MS": lease_ms,
        "GRACE_MS": lease_ms // 2,  # a message younger than that is not missed
        "INTERVAL_MS": interval_ms,
        "PROVABLE_MS": interval_ms - round(probe_s * 1000),  # less the longest way of a probe
        "RETENTION_MS": settings.retention_ms,
        "CANARY_MS": round(settings.sendcode_canary_interval * 1000),
        "POLICY": f"'{settings.sendcode_ambiguous}'",
        "MAX_ATTEMPTS": settings.sendcode_max_attempts,
        "OWN_BOUNDS": f"'{Quotas(settings).of_batches()}'",
    }
    return "".join(f"local {name} = {value}\n" for name, value in terms.items())


def parted(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield items some at a time, as `itertools.batched` of Python 3.12."""
    rest = iter(items)
    while part := list(islice(rest, size)):
        yield part


def listed(names: Collection[str]) -> str:
    """Return names as the scripts look for one in a text: between commas; "" for none."""
    return f",{','.join(names)}," if names else ""


def pairs(flat: Sequence[str]) -> dict[str, str]:
    """Read a hash in a script's reply, where names and values take turns."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def time_us(reply: Any) -> int:
    """Turn Redis' reply to TIME into Unix microseconds."""
    seconds, micros = reply
    return int(seconds) * 1_000_000 + int(micros)


def time_ms(reply: Any) -> int:
    """Turn Redis' reply to TIME into Unix milliseconds."""
    return time_us(reply) // 1000


@cache
def _whole(prefix: str, writes: int, terms: str, text: str) -> tuple[str, str]:
    """Return a script with what it needs of what all may use, and its SHA-1.

    Redis runs it anew in each call: all that may be used would take longer than most scripts do.
    """
    words = {"K", *_WORD.findall(text)}
    kept = []
    for statement, names, used in reversed(_shared(prefix, writes, terms)):
        if not words.isdisjoint(names):
            kept.append(statement)
            words |= used
    whole = "".join(reversed(kept)) + text
    return whole, hashlib.sha1(whole.encode(), usedforsecurity=False).hexdigest()


@cache
def _shared(prefix: str, writes: int, terms: str) -> list[tuple[str, set[str], set[str]]]:
    """Return the statements that all scripts may use, with the names they define and use."""
    versions = f"local READS, WRITES = {max(READS, writes)}, {writes}\n"
    shared = "".join(map(_texts("jobs/lua/shared").__getitem__, _SHARED))
    head = versions + Keys(prefix).lua() + _constants() + terms
    whole = _COMMENT.sub("", head + shared)
    found = []
    for statement in _STATEMENT.split(whole)[1:]:
        defined = _DEFINED.match(statement)
        names = set(defined[1].split(", ")) if defined else set()
        found.append((statement, names, set(_WORD.findall(statement))))
    return found


def _constants() -> str:
    tables = {name: [f"{each.name} = '{each}'" for each in enum] for name, enum in _ENUMS.items()}
    tables |= {name: [f"{each} = 1" for each in members] for name, members in _SETS.items()}
    lines = [f"local {name} = {value}" for name, value in _CONSTANTS.items()]
    lines += [f"local {name} = {{{', '.join(members)}}}" for name, members in tables.items()]
    return "\n".join(lines) + "\n"


@cache
def _declared(text: str) -> tuple[tuple[str, ...], frozenset[str], bool]:
    """Return a script's names in order, those that may be left out, and whether a list follows."""
    found = _DECLARED.search(text)
    parts = _NAME.findall(found[1]) if found else []
    names = tuple(name for name, _, kind in parts if kind != "rest")
    optional = frozenset(name for name, mark, _ in parts if mark)
    return names, optional, len(names) < len(parts)


@cache
def _texts(folder: str) -> dict[str, str]:
    """Return a folder's scripts by name, read at once: if they are replaced, none mixes with us."""
    package, *parts = folder.split("/")
    found = files(package).joinpath(*parts).iterdir()
    scripts = [each for each in found if each.name.endswith(".lua")]
    return {each.name.removesuffix(".lua"): each.read_text(encoding="utf-8") for each in scripts}
