"""Whether Redis lets this user do what worker, producer and Flower do: tried, command by command.

`refusals` asks inside a transaction that is given up: the server checks the rights of each command
when it queues it, and does nothing. `work` does for real what leaves nothing behind.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import redis

from config.names import BATCH_QUEUE, DEAD_LETTER_QUEUE, EVENT_QUEUE, QUEUES
from config.settings import Settings
from config.unavailable import is_no_permission
from jobs.durability import Finding, Level
from jobs.keys import Keys

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
_RESULT = "celery-task-meta-doctor"
EVENTS, RESULTS = "Celery's events and remote control", "results"
NEEDED: dict[str, tuple[str, str]] = {
    # what for -> (commands, the rules that allow their keys and channels)
    "scripts": ("TIME|SCRIPT LOAD x|EVALSHA 0 0", ""),
    "the ledger": (LEDGER.replace(" k", " {prefix}:doctor"), "~{prefix}:*"),
    "the queues": (
        "LPUSH {event} x|RPUSH {event} x|LPUSH {batch} x|RPUSH {batch} x|BRPOP {steps} 1|"
        "LLEN {event}|LLEN {batch}|LLEN {dead}|RPUSH {dead} x",
        "~send-code.*",
    ),
    "kombu's bindings": (
        "|".join(
            f"SADD {key} x|SREM {key} x|SMEMBERS {key}"
            for exchange in ("send-code", "celery.pidbox", "reply.celery.pidbox")
            for key in (f"_kombu.binding.{exchange}", f"_kombu.binding_permanent.{exchange}")
        ),
        "~_kombu.*",
    ),
    EVENTS: (
        "PUBLISH {fan}celeryev/task.sent x|PUBLISH {fan}celery.pidbox x|PSUBSCRIBE {fan}celeryev/*|"
        "PSUBSCRIBE {fan}celery.pidbox|LPUSH x.reply.celery.pidbox x|BRPOP x.reply.celery.pidbox 1|"
        "DEL x.reply.celery.pidbox|LLEN x.celery.pidbox|LLEN celeryev.x",
        "~*.pidbox* ~celeryev* &{fan}celeryev/* &{fan}celery.pidbox",
    ),
    RESULTS: (
        f"GET {_RESULT}|SETEX {_RESULT} 1 x|PUBLISH {_RESULT} x",
        "~celery-task-meta-* &celery-task-meta-*",
    ),
}
OF_FLOWER = (EVENTS, RESULTS)
_REFUSED_COMMAND = re.compile(r"run (?:the '|this command)")
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Refusal:
    """Something that this user may not do."""

    area: str
    what: str
    """Such as "the command BRPOP", "the key send-code.event"."""
    rule: str
    """Of `ACL SETUSER`, that would allow it; empty if the server knows no such command."""


def look_at_rights(
    client: redis.Redis, settings: Settings, areas: Collection[str] = NEEDED
) -> list[Finding]:
    """Judge what is refused of these `areas` of use; one finding for each.

    Raises:
        redis.RedisError: Redis is out of reach, or refuses more than single commands.
    """
    found: dict[str, list[Refusal]] = {}
    for refusal in refusals(client, settings, areas):
        found.setdefault(refusal.area, []).append(refusal)
    return [_judge(area, refused, settings) for area, refused in found.items()] or [
        Finding("rights", Level.OK, "this user may do all that worker, producer and Flower do")
    ]


def _judge(area: str, refused: list[Refusal], settings: Settings) -> Finding:
    things = list(dict.fromkeys(each.what for each in refused))
    rules = " ".join(dict.fromkeys(each.rule for each in refused if each.rule))
    more = f" and {len(things) - _SHOWN} more" if len(things) > _SHOWN else ""
    text = f"Redis refuses this user {', '.join(things[:_SHOWN])}{more}, needed for {area}"
    user = settings.redis.username or "default"
    remedy = f"ACL SETUSER {user} {rules}" if rules else "use a server that has them"
    return Finding("rights", Level.FAIL, text, remedy)


def refusals(client: redis.Redis, settings: Settings, areas: Collection[str]) -> Iterator[Refusal]:
    """Yield what is refused; nothing is done.

    Raises:
        redis.RedisError: Redis is out of reach, or refuses for another reason than rights.
    """
    words = {
        "prefix": settings.sendcode_key_prefix,
        "event": EVENT_QUEUE,
        "batch": BATCH_QUEUE,
        "dead": DEAD_LETTER_QUEUE,
        "steps": " ".join(queue + step for queue in QUEUES for step in _STEPS),
        "fan": f"/{settings.redis.database}.",
    }
    needed = [
        (area, each.split(" "))
        for area in areas
        for each in NEEDED[area][0].format(**words).split("|")
    ]
    # what subscribes cannot be in a transaction, and does no harm
    ordered = sorted(needed, key=lambda each: each[1][0] == "PSUBSCRIBE")
    quiet = [command for _, command in ordered if command[0] != "PSUBSCRIBE"]
    loud = [command for _, command in ordered[len(quiet) :]]
    answers = _answers(client, [["MULTI"], *quiet])
    if answers[0] is not None:
        raise answers[0]
    for (area, command), error in zip(ordered, answers[1:] + _answers(client, loud), strict=True):
        if error is not None:
            yield _refusal(area, command, error, NEEDED[area][1].format(**words))


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


def _refusal(area: str, command: list[str], error: redis.ResponseError, rules: str) -> Refusal:
    name = " ".join(command[: 2 if command[0] == "SCRIPT" else 1])
    if "unknown command" in str(error).lower():
        return Refusal(area, f"the command {name}, which it does not have", "")
    if not is_no_permission(error):
        raise error
    if _REFUSED_COMMAND.search(str(error)):
        return Refusal(area, f"the command {name}", f"+{name.lower().replace(' ', '|')}")
    kind, sign = ("channel", "&") if "channel" in str(error) else ("key", "~")
    rule = " ".join(each for each in rules.split() if each.startswith(sign))
    return Refusal(area, f"the {kind} {command[1]}", rule)


def work(client: redis.Redis, settings: Settings) -> None:
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
    there_and_back(keys=list(QUEUES))
    client.publish(_RESULT, "doctor")
