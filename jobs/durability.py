"""What is asked of the Redis server that holds the ledger, and whether it is so.

A server that forgets, evicts or is too old breaks the promise that nothing is lost or sent twice.
`look` reads the server's own words, `judge` compares them with what is needed; the doctor and
every worker's start tell what it finds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import redis

OLDEST = (6, 2)
"""6.2 has LMOVE, by which the batches take turns."""
WORKER_CONNECTIONS = 28
"""At most; 9 when it has nothing to do. 16 are the ledger's client's, 4 are for results, the others
Celery's. docs/faults.md has those of other programs."""
_UNSEEN = "cannot be seen: the server does not tell this user"


class Level(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    WARN = "warn"
    """It works, with a risk that somebody should know of."""
    FAIL = "fail"
    """A promise is broken by it sooner or later."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `name` is for programs; `remedy` is empty if all is well."""

    name: str
    level: Level
    text: str
    remedy: str = ""

    def as_dict(self) -> dict[str, str | None]:
        return {
            "name": self.name,
            "level": str(self.level),
            "text": self.text,
            "remedy": self.remedy or None,
        }


@dataclass(frozen=True, slots=True)
class ServerWords:
    """INFO and CONFIG GET of a server; None where it refuses them (hosted servers often do)."""

    info: Mapping[str, Any] | None
    config: Mapping[str, str] | None


def look(client: redis.Redis) -> ServerWords:
    """Ask the server about itself.

    Raises:
        redis.RedisError: it is out of reach; a refusal to answer is no error.
    """
    info: Any = _unless_refused(client.info)
    config: Any = _unless_refused(
        lambda: client.config_get(
            "appendonly",
            "appendfsync",
            "maxmemory-policy",
            "save",
            "stop-writes-on-bgsave-error",
            "maxclients",
        )
    )
    return ServerWords(info, config or None)


def judge(words: ServerWords) -> list[Finding]:
    """Compare with what is needed: one finding for each thing asked for, good ones too."""
    info, config = words.info or {}, words.config or {}
    return [
        _version(info),
        *_kind(info),
        *_append_only_file(info, config),
        _eviction(info, config),
        *_snapshots(info, config),
        *_connections(info, config),
        *_troubles(info),
    ]


def _version(info: Mapping[str, Any]) -> Finding:
    name = "redis_version"
    product = "Valkey" if "valkey_version" in info else "Redis"
    # Valkey also says which Redis it behaves like
    told = str(info.get("redis_version", ""))
    version = tuple(int(part) for part in re.findall(r"\d+", told)[:2])
    shown = f"{product} {info.get('valkey_version', told)}"
    oldest = ".".join(map(str, OLDEST))
    if not version:
        return Finding(name, Level.WARN, f"version {_UNSEEN}", f"it must be {oldest} or newer")
    if version < OLDEST:
        return Finding(name, Level.FAIL, f"{shown} lacks LMOVE", f"use {oldest} or newer")
    return Finding(name, Level.OK, shown)


def _kind(info: Mapping[str, Any]) -> list[Finding]:
    name = "primary"
    if str(info.get("cluster_enabled", "0")) == "1":
        text = "it is a Redis Cluster; the ledger's scripts need all keys on one server"
        remedy = "use a single primary, with replicas and Sentinel where wanted"
        return [Finding(name, Level.FAIL, text, remedy)]
    if info.get("role", "master") != "master":
        remedy = "set SENDCODE_REDIS_URL to the primary, or to its Sentinels (sentinel://)"
        return [Finding(name, Level.FAIL, "it is a read-only replica", remedy)]
    return [Finding(name, Level.OK, "a single primary")] if info else []


def _append_only_file(info: Mapping[str, Any], config: Mapping[str, str]) -> list[Finding]:
    name = "append_only_file"
    enabled = info.get("aof_enabled", {"yes": 1, "no": 0}.get(config.get("appendonly", "")))
    if enabled is None:
        remedy = "make sure that every write is on disk when it is answered"
        return [Finding(name, Level.WARN, f"durability {_UNSEEN}", remedy)]
    if not int(enabled):
        text = "no append-only file: after a crash jobs are lost, or sent twice"
        return [Finding(name, Level.FAIL, text, "set appendonly yes, appendfsync always")]
    return [Finding(name, Level.OK, "append-only file on"), _fsync(config)]


def _fsync(config: Mapping[str, str]) -> Finding:
    name = "appendfsync"
    remedy = "set appendfsync always"
    match config.get(name):
        case "always":
            return Finding(name, Level.OK, "every write is on disk before it is answered")
        case "everysec":
            text = "appendfsync everysec: a crash of the machine forgets up to two seconds"
            return Finding(name, Level.WARN, text, remedy)
        case None:
            return Finding(name, Level.WARN, f"appendfsync {_UNSEEN}", f"{remedy}, if you can")
        case other:
            text = f"appendfsync {other}: a crash of the machine forgets what it has not written"
            return Finding(name, Level.FAIL, text, remedy)


def _eviction(info: Mapping[str, Any], config: Mapping[str, str]) -> Finding:
    name = "maxmemory_policy"
    policy = info.get("maxmemory_policy") or config.get("maxmemory-policy")
    if policy is None:
        return Finding(name, Level.WARN, f"eviction {_UNSEEN}", "it must be noeviction")
    if policy != "noeviction":
        # without a limit nothing is evicted today; it is one setting away
        level = Level.FAIL if int(info.get("maxmemory", 1)) else Level.WARN
        text = f"maxmemory-policy {policy}: a full server throws jobs away"
        return Finding(name, level, text, "set maxmemory-policy noeviction")
    return Finding(name, Level.OK, "nothing is ever evicted")


def _snapshots(info: Mapping[str, Any], config: Mapping[str, str]) -> Iterator[Finding]:
    """Look at what the append-only file makes needless, and what stops all writing by default."""
    stops = bool(config.get("save")) and config.get("stop-writes-on-bgsave-error") != "no"
    remedy = 'set save "": the append-only file is what keeps the jobs'
    if stops:
        text = f"snapshots are on (save {config['save']}), and a failed one ends all writing"
        yield Finding("snapshots", Level.WARN, text, remedy)
    elif "save" in config:
        yield Finding("snapshots", Level.OK, "no failed snapshot ends the writing")
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        level, then = (Level.FAIL, ", so no write is accepted") if stops else (Level.WARN, "")
        remedy = f"look at the server's log and its disk{f', and {remedy}' if stops else ''}"
        yield Finding("disk", level, f"the last snapshot failed{then}", remedy)


def _connections(info: Mapping[str, Any], config: Mapping[str, str]) -> Iterator[Finding]:
    """Compare what is free with what one worker more would take."""
    limit = int(info.get("maxclients") or config.get("maxclients") or 0)
    if not limit or "connected_clients" not in info:
        return
    free = limit - int(info["connected_clients"])
    text = f"{free:,} of its {limit:,} connections are free"
    if free >= WORKER_CONNECTIONS:
        yield Finding("connections", Level.OK, text)
    else:
        text += f"; a worker takes up to {WORKER_CONNECTIONS}"
        yield Finding("connections", Level.WARN, text, "raise maxclients")


def _troubles(info: Mapping[str, Any]) -> list[Finding]:
    found = []
    if info.get("aof_last_write_status", "ok") != "ok":
        text = "the last write of the append-only file failed"
        found.append(Finding("disk", Level.FAIL, text, "look at the server's log and its disk"))
    limit, used = int(info.get("maxmemory", 0)), int(info.get("used_memory", 0))
    remedy = "raise maxmemory, or make room"
    if limit and used >= limit and info.get("maxmemory_policy") == "noeviction":
        text = f"{used / limit:.0%} of its memory limit is used, so it accepts no jobs"
        found.append(Finding("memory", Level.FAIL, text, remedy))
    elif limit and used > 0.9 * limit:
        text = f"{used / limit:.0%} of its memory limit is used; full, it accepts no jobs"
        found.append(Finding("memory", Level.WARN, text, remedy))
    return found


def _unless_refused(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except redis.ResponseError:
        # also where the command is renamed or removed; NOPERM is one of its kind
        return None
