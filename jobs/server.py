"""What the Redis server that holds the ledger must be and must allow, and whether it does.

A server that forgets, evicts or is too old breaks the promise that nothing is lost or sent twice.
`read_server` asks the server about itself, `judge` compares the answers with what is needed.

`check_rights` finds out what Redis does not let this user do, command by command, inside a
transaction that is given up: the server checks each command when it queues it, and does nothing.
`rehearse` does for real what leaves nothing behind. Doctor and workers report what these find.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import redis
from redis.sentinel import SentinelConnectionPool

from config import QUEUES, celery_prefix
from config.redis import lets_anybody_in
from config.settings import Settings
from config.unavailable import is_no_permission
from jobs.keys import Keys
from jobs.scripts import time_us

OLDEST = (6, 2)
"""6.2 has LMOVE, by which the batches take turns."""
FULL_SOON = 0.8
"""The share of a server's memory limit from which it is warned about."""
WORKER_CONNECTIONS = 28
"""At most; 10 when it has nothing to do. 16 are the ledger's client's, 4 for results, the others
Celery's. docs/faults.md has those of other programs."""
SIGNATURES_REFUSED_S = 300.0
"""The API refuses a signature whose time is off by more (vendor docs 1085/51426)."""
_CONFIG = (
    *("appendonly", "appendfsync", "maxmemory-policy", "save"),
    *("stop-writes-on-bgsave-error", "maxclients"),
    *("min-replicas-to-write", "min-replicas-max-lag"),
)
_LONGEST_LAG_S = 3
"""Of a replica, until a primary should refuse to write: replicas answer once a second."""
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
    """One thing that was checked. `name` is for programs; `remedy` is empty if all is well."""

    name: str
    level: Level
    text: str
    remedy: str = ""

    def as_dict(self) -> dict[str, str | None]:
        return {**asdict(self), "remedy": self.remedy or None}


@dataclass(frozen=True, slots=True)
class ServerWords:
    """INFO and CONFIG GET of a server; None where it refuses them (hosted servers often do)."""

    info: Mapping[str, Any] | None
    config: Mapping[str, str] | None
    has_sentinels: bool = False
    """Whether the settings name Sentinels."""


def read_server(client: redis.Redis) -> ServerWords:
    """Ask the server about itself.

    Raises:
        redis.RedisError: it is out of reach; a refusal to answer is no error.
    """
    info: Any = _unless_refused(client.info)
    config: Any = _unless_refused(lambda: _config(client))
    behind = isinstance(client.connection_pool, SentinelConnectionPool)
    return ServerWords(info, config or None, behind)


def _config(client: redis.Redis) -> Any:
    """Return the settings of the server; ask only if this user may, as it logs whom it refuses."""
    may: Any = client.register_script(
        "return not redis.acl_check_cmd or redis.acl_check_cmd('CONFIG', 'GET', 'save')"
    )
    return client.config_get(*_CONFIG) if may() else None


def clock_offset_s(client: redis.Redis) -> float:
    """Return by how many seconds Redis' clock is ahead of this machine's."""
    before_s = time.time()
    redis_s = time_us(client.time()) / 1e6
    return redis_s - (before_s + time.time()) / 2


def judge(words: ServerWords) -> list[Finding]:
    """Compare with what is needed: one finding for each thing asked for, good ones too."""
    info, config = words.info or {}, words.config or {}
    return [
        _version(info),
        *_kind(info),
        *_replicas(info, config, words.has_sentinels),
        *_append_only_file(info, config),
        _eviction(info, config),
        *_snapshots(info, config),
        *_connections(info, config),
        *_troubles(info),
    ]


def judge_access(settings: Settings) -> Iterator[Finding]:
    """Judge who else can get at the server, and at what goes to it.

    On loopback there is no network to listen on, but every user of this machine may connect: the
    default and a developer's server are like that, hence a warning.
    """
    is_here = settings.redis.is_here
    if lets_anybody_in(settings):
        who = "every user of this machine" if is_here else "everybody who can reach it"
        text = f"it asks for no login: {who} can read all numbers, and have codes sent"
        remedy = "set requirepass, or better its users: deploy/redis/users.acl"
        yield Finding("login", Level.WARN if is_here else Level.FAIL, text, remedy)
    else:
        yield Finding("login", Level.OK, "nobody gets in without a login")
    if is_here:
        return
    if settings.redis.tls is not None:
        yield Finding("encryption", Level.OK, "what goes to it is encrypted (TLS)")
    elif settings.sendcode_redis_plain:
        text = "what goes to it is not encrypted, which SENDCODE_REDIS_PLAIN allows"
        yield Finding("encryption", Level.OK, text)
    else:
        text = "password and numbers go to another host without TLS"
        remedy = (
            "use rediss:// (sentinels://), or set SENDCODE_REDIS_PLAIN=true if the network between "
            "is its own"
        )
        yield Finding("encryption", Level.FAIL, text, remedy)


def _version(info: Mapping[str, Any]) -> Finding:
    name = "redis_version"
    product = "Valkey" if "valkey_version" in info else "Redis"
    # Valkey also names the version of Redis that it behaves like
    text = str(info.get("redis_version", ""))
    version = tuple(int(part) for part in re.findall(r"\d+", text)[:2])
    shown = f"{product} {info.get('valkey_version', text)}"
    oldest = ".".join(map(str, OLDEST))
    if not version:
        return Finding(name, Level.WARN, f"version {_UNSEEN}", f"it must be {oldest} or newer")
    if version < OLDEST:
        return Finding(name, Level.FAIL, f"{shown} lacks LMOVE", f"use {oldest} or newer")
    return Finding(name, Level.OK, shown)


def _kind(info: Mapping[str, Any]) -> list[Finding]:
    name = "primary"
    if info.get("role", "master") != "master":
        remedy = "set SENDCODE_REDIS_URL to the primary, or to its Sentinels (sentinel://)"
        return [Finding(name, Level.FAIL, "it is a read-only replica", remedy)]
    if str(info.get("cluster_enabled", "0")) == "1":
        text = "it is a node of a cluster: if another one takes its place, sending stops"
        remedy = "then name that one in SENDCODE_REDIS_URL; Sentinels (sentinel://) are followed"
        return [Finding(name, Level.WARN, text, remedy)]
    return [Finding(name, Level.OK, "a single primary")] if info else []


def _replicas(
    info: Mapping[str, Any], config: Mapping[str, str], has_sentinels: bool
) -> Iterator[Finding]:
    """Judge what a primary may accept that no replica has: a failover forgets it."""
    name = "replicas"
    replicas = int(info.get("connected_slaves", 0))
    least = config.get("min-replicas-to-write")
    good = good_replicas(info)
    if least is not None and good < int(least):
        text = f"replicas that keep up: {good}, and min-replicas-to-write {least}: "
        text += "it accepts no jobs"
        yield Finding(name, Level.FAIL, text, "see to its replicas")
    elif info and not replicas and has_sentinels:
        text = "no replica: if it dies, nothing can take its place"
        yield Finding(name, Level.WARN, text, "start a replica")
    if not replicas:
        return
    remedy = f"set min-replicas-to-write 1 and min-replicas-max-lag {_LONGEST_LAG_S} on each server"
    forgotten = "and what it accepts then is lost, or sent twice"
    if least is None:
        yield Finding(name, Level.WARN, f"min-replicas-to-write {_UNSEEN}", f"{remedy}, if you can")
    elif least == "0":
        text = f"a primary cut off from its replicas goes on alone, {forgotten}"
        yield Finding(name, Level.WARN, text, f"{remedy}; with no replica left nothing is accepted")
    elif int(lag_s := config.get("min-replicas-max-lag", "10")) > _LONGEST_LAG_S or lag_s == "0":
        for_long = (
            f"for {lag_s} s" if lag_s != "0" else "for as long as their connections seem open"
        )
        text = f"a primary cut off from its replicas goes on {for_long}, {forgotten}"
        yield Finding(name, Level.WARN, text, f"set min-replicas-max-lag {_LONGEST_LAG_S}")
    elif good >= int(least):
        text = f"a primary cut off from its replicas accepts nothing after {lag_s} s"
        yield Finding(name, Level.OK, text)


def good_replicas(info: Mapping[str, Any]) -> int:
    """Return how many replicas it has; where it asks for some, those that do not lag too far."""
    return int(info.get("min_slaves_good_slaves", info.get("connected_slaves", 0)))


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
    """Judge what the append-only file makes needless, and what stops all writing by default."""
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


def _troubles(info: Mapping[str, Any]) -> Iterator[Finding]:
    if info.get("aof_last_write_status", "ok") != "ok":
        text = "the last write of the append-only file failed"
        yield Finding("disk", Level.FAIL, text, "look at the server's log and its disk")
    limit, used = int(info.get("maxmemory", 0)), int(info.get("used_memory", 0))
    remedy = "raise maxmemory, or make room"
    if limit and used >= limit and info.get("maxmemory_policy") == "noeviction":
        text = f"{used / limit:.0%} of its memory limit is used, so it accepts no jobs"
        yield Finding("memory", Level.FAIL, text, remedy)
    elif limit and used > FULL_SOON * limit:
        text = f"{used / limit:.0%} of its memory limit is used; full, it accepts no jobs"
        yield Finding("memory", Level.WARN, text, remedy)


def memory_used(client: redis.Redis) -> float | None:
    """Return the share of its memory limit that a server uses; None without one, or if hidden."""
    info = _unless_refused(lambda: client.info("memory")) or {}
    limit = int(info.get("maxmemory", 0))
    return int(info["used_memory"]) / limit if limit else None


def _unless_refused(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except redis.ResponseError:
        # also where the command is renamed or removed; NOPERM is one of its kind
        return None


LEDGER = (
    "DEL k|EXISTS k|EXPIRE k 1|GET k|HDEL k f|HGET k f|HGETALL k|HINCRBY k f 1|HLEN k|HMGET k f|"
    "HSET k f v|HSETNX k f v|HVALS k|INCR k|LINDEX k 0|LLEN k|LMOVE k k LEFT RIGHT|LPOP k|LPOS k v|"
    "LPUSH k v|LRANGE k 0 1|LREM k 1 v|LSET k 0 v|LTRIM k 0 1|PERSIST k|PEXPIRE k 1|PTTL k|"
    "RENAME k k|RPOP k|RPUSH k v|SADD k v|SCARD k|SET k v|SISMEMBER k v|SMEMBERS k|SPOP k|"
    "SRANDMEMBER k|SREM k v|STRLEN k|TYPE k|ZADD k 1 v|ZCARD k|ZRANGE k 0 1|"
    "ZRANGEBYSCORE k 0 1|ZREM k v|ZREVRANGE k 0 1|ZSCORE k v"
)
"""What the ledger's scripts use, on a key `k`; a test compares it with their texts."""
_STEPS = ("", "\x06\x163", "\x06\x166", "\x06\x169")
"""Behind a queue's name kombu looks for messages of other priorities, too."""
_RESULT = "{celery}celery-task-meta-doctor"
EVENTS, RESULTS = "Celery's events and remote control", "results"
SHOWN = "showing results"
SENT = "telling Flower what was published"
ENDINGS = "answering a waiting caller of the HTTP API at once"
KILLS = "going on at once with a killed worker's jobs"
WISHED = {ENDINGS, KILLS}
"""What works without, later."""
NEEDED: dict[str, tuple[str, str]] = {
    # what for -> (commands, the rules that allow their keys and channels)
    "scripts": ("TIME|SCRIPT LOAD x|EVALSHA 0 0", ""),
    "the ledger": (LEDGER.replace(" k", " {prefix}:doctor"), "~{prefix}:*"),
    "the queues": (
        "LPUSH {event} x|RPUSH {event} x|LPUSH {batch} x|RPUSH {batch} x|LPUSH {webhook} x|"
        "LLEN {event}|LLEN {batch}|LLEN {webhook}|LLEN {dead}|RPUSH {dead} x",
        "~{celery}send-code.*",
    ),
    "taking from the queues": ("BRPOP {steps} 1", "~{celery}send-code.*"),
    "kombu's bindings": (
        "|".join(
            f"SADD {key} x|SREM {key} x|SMEMBERS {key}"
            for exchange in ("send-code", "celery.pidbox", "reply.celery.pidbox")
            for key in (
                f"{{celery}}_kombu.binding.{exchange}",
                f"{{celery}}_kombu.binding_permanent.{exchange}",
            )
        ),
        "~{celery}_kombu.*",
    ),
    SENT: ("PUBLISH {fan}celeryev/task.sent x", "&{fan}celeryev/*"),
    EVENTS: (
        "PUBLISH {fan}celery.pidbox x|PSUBSCRIBE {fan}celeryev/*|"
        "PSUBSCRIBE {fan}celery.pidbox|LPUSH {celery}x.reply.celery.pidbox x|"
        "BRPOP {celery}x.reply.celery.pidbox 1|DEL {celery}x.reply.celery.pidbox|"
        "LLEN {celery}x.celery.pidbox|LLEN {celery}celeryev.x",
        "~{celery}*.pidbox* ~{celery}celeryev* &{fan}celeryev/* &{fan}celery.pidbox",
    ),
    ENDINGS: ("PUBLISH {prefix}:ended x", "&{prefix}:ended"),
    KILLS: (
        "SUBSCRIBE {prefix}:connections:doctor|PUBSUB NUMSUB x|INFO server",
        "&{prefix}:connections:*",
    ),
    SHOWN: (f"GET {_RESULT}", "~{celery}celery-task-meta-*"),
    RESULTS: (
        f"SETEX {_RESULT} 1 x|PUBLISH {_RESULT} x",
        "~{celery}celery-task-meta-* &{celery}celery-task-meta-*",
    ),
}
OF_FLOWER = (EVENTS, SHOWN)
OF_PRODUCERS = ("scripts", "the ledger", "the queues", "kombu's bindings", SENT, ENDINGS)
"""Of those that run no worker; deploy/redis/users.acl has a user for each."""
_REFUSED_COMMAND = re.compile(r"run (?:the '|this command)")
_SHOWN = 3


def check_rights(
    client: redis.Redis, settings: Settings, areas: Collection[str] = NEEDED
) -> list[Finding]:
    """Judge what is refused of these `areas` of use; one finding for each.

    Raises:
        redis.RedisError: Redis is out of reach, or refuses for another reason than rights.
    """
    found = _refused(client, settings, areas)
    return [_judge(area, refused, settings) for area, refused in found.items()] or [
        Finding("rights", Level.OK, "this user may do all that worker, producer and Flower do")
    ]


def _judge(area: str, refused: Mapping[str, str], settings: Settings) -> Finding:
    things, rules = list(refused), " ".join(dict.fromkeys(filter(None, refused.values())))
    more = f" and {len(things) - _SHOWN} more" if len(things) > _SHOWN else ""
    text = f"Redis refuses this user {', '.join(things[:_SHOWN])}{more}, needed for {area}"
    user = settings.redis.username or "default"
    remedy = f"ACL SETUSER {user} {rules}" if rules else "use a server that has them"
    return Finding("rights", Level.WARN if area in WISHED else Level.FAIL, text, remedy)


def _refused(
    client: redis.Redis, settings: Settings, areas: Collection[str]
) -> dict[str, dict[str, str]]:
    """Return by area what is refused, as "the command BRPOP"; nothing is done.

    Each has the rule of `ACL SETUSER` that would allow it, or "": the server has no such command.
    """
    keys, before = Keys(settings.sendcode_key_prefix), celery_prefix(settings.sendcode_key_prefix)
    words = {
        "prefix": settings.sendcode_key_prefix,
        "celery": before,
        "event": keys.event_queue,
        "batch": keys.batch_queue,
        "webhook": keys.webhook_queue,
        "dead": keys.dead,
        "steps": " ".join(before + queue + step for queue in QUEUES for step in _STEPS),
        "fan": f"{before}/{settings.redis.database}.",
    }
    needed = [
        (area, each.split(" "))
        for area in areas
        for each in NEEDED[area][0].format(**words).split("|")
    ]
    # what subscribes cannot be in a transaction, and does no harm
    ordered = sorted(needed, key=lambda each: each[1][0].endswith("SUBSCRIBE"))
    quiet = [command for _, command in ordered if not command[0].endswith("SUBSCRIBE")]
    loud = [command for _, command in ordered[len(quiet) :]]
    answers = _answers(client, [["MULTI"], *quiet])
    if answers[0] is not None:
        raise answers[0]
    found: dict[str, dict[str, str]] = {}
    for (area, command), error in zip(ordered, answers[1:] + _answers(client, loud), strict=True):
        if error is not None:
            what, rule = _refusal(command, error, NEEDED[area][1].format(**words))
            found.setdefault(area, {})[what] = rule
    return found


def _answers(client: redis.Redis, commands: list[list[str]]) -> list[redis.ResponseError | None]:
    """Ask on a connection that is closed afterwards, and with it any transaction given up."""
    errors: list[redis.ResponseError | None] = []
    with client.client() as one:
        connection = one.connection
        connection.send_packed_command(connection.pack_commands(commands))
        for _ in commands:
            try:
                connection.read_response()
                errors.append(None)
            except redis.ResponseError as exc:
                errors.append(exc)
        connection.disconnect()
    return errors


def _refusal(command: list[str], error: redis.ResponseError, rules: str) -> tuple[str, str]:
    name = " ".join(command[: 2 if command[0] in {"SCRIPT", "PUBSUB"} else 1])
    if "unknown command" in str(error).lower():
        return f"the command {name}, which it does not have", ""
    if not is_no_permission(error):
        raise error
    if _REFUSED_COMMAND.search(str(error)):
        return f"the command {name}", f"+{name.lower().replace(' ', '|')}"
    kind, sign = ("channel", "&") if "channel" in str(error) else ("key", "~")
    rule = " ".join(each for each in rules.split() if each.startswith(sign))
    return f"the {kind} {command[1]}", rule


def rehearse(client: redis.Redis, settings: Settings) -> None:
    """Do what sending does, for real: write, run a script, push and pop, publish.

    What is pushed onto a queue is taken off again in the same script: no worker can see it.

    Raises:
        redis.RedisError: it does not work.
    """
    keys = Keys(settings.sendcode_key_prefix)
    client.set(keys.doctor, "", px=1_000)
    there_and_back = client.register_script(
        "for _, queue in ipairs(KEYS) do "
        "redis.call('RPUSH', queue, 'doctor') redis.call('RPOP', queue) end"
    )
    there_and_back(keys=[keys.event_queue, keys.batch_queue, keys.webhook_queue])
    client.publish(keys.ended, "doctor")
