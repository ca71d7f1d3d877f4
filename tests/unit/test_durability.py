"""What is asked of a Redis server, judged from its own words."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.server import Level, ServerWords, judge

GOOD_INFO: dict[str, Any] = {
    "redis_version": "7.2.4",
    "valkey_version": "9.1.2",
    "role": "master",
    "cluster_enabled": 0,
    "aof_enabled": 1,
    "aof_last_write_status": "ok",
    "rdb_last_bgsave_status": "ok",
    "maxmemory": 0,
    "maxmemory_policy": "noeviction",
    "used_memory": 1_000_000,
    "maxclients": 10_000,
    "connected_clients": 40,
}
GOOD_CONFIG = {
    "appendonly": "yes",
    "appendfsync": "always",
    "maxmemory-policy": "noeviction",
    "save": "",
    "stop-writes-on-bgsave-error": "yes",
}
BAD_SNAPSHOT = {"rdb_last_bgsave_status": "err"}
REPLICA = {"connected_slaves": 1}
MIN_REPLICAS = {"min-replicas-to-write": "1", "min-replicas-max-lag": "3"}
SAVES = {"save": "3600 1 300 100 60 10000"}


def levels(words: ServerWords) -> dict[str, Level]:
    return {finding.name: finding.level for finding in judge(words)}


def test_a_server_set_up_as_asked_is_all_well() -> None:
    findings = judge(ServerWords(GOOD_INFO, GOOD_CONFIG))

    assert {finding.level for finding in findings} == {Level.OK}
    assert findings[0].text == "Valkey 9.1.2"


@pytest.mark.parametrize(
    ("info", "config", "name", "level"),
    [
        ({"maxclients": 50}, {}, "connections", Level.WARN),
        ({"maxclients": 68}, {}, "connections", Level.OK),
        ({"maxclients": 0}, {"maxclients": "50"}, "connections", Level.WARN),
        ({"redis_version": "6.0.16"}, {}, "redis_version", Level.FAIL),
        ({"redis_version": "5.0"}, {}, "redis_version", Level.FAIL),
        ({"redis_version": "6.2.0"}, {}, "redis_version", Level.OK),
        ({"redis_version": "10.0"}, {}, "redis_version", Level.OK),
        ({"redis_version": "?"}, {}, "redis_version", Level.WARN),
        ({"cluster_enabled": 1}, {}, "primary", Level.WARN),
        ({"role": "slave"}, {}, "primary", Level.FAIL),
        (REPLICA, MIN_REPLICAS, "replicas", Level.OK),
        (REPLICA, {}, "replicas", Level.WARN),
        (REPLICA, {**MIN_REPLICAS, "min-replicas-to-write": "0"}, "replicas", Level.WARN),
        (REPLICA, {**MIN_REPLICAS, "min-replicas-to-write": "2"}, "replicas", Level.FAIL),
        (REPLICA, {**MIN_REPLICAS, "min-replicas-max-lag": "10"}, "replicas", Level.WARN),
        (REPLICA, {**MIN_REPLICAS, "min-replicas-max-lag": "0"}, "replicas", Level.WARN),
        ({"connected_slaves": 0}, MIN_REPLICAS, "replicas", Level.FAIL),
        ({**REPLICA, "min_slaves_good_slaves": 0}, MIN_REPLICAS, "replicas", Level.FAIL),
        ({"aof_enabled": 0}, {}, "append_only_file", Level.FAIL),
        ({}, {"appendfsync": "everysec"}, "appendfsync", Level.WARN),
        ({}, {"appendfsync": "no"}, "appendfsync", Level.FAIL),
        ({"maxmemory_policy": "allkeys-lru", "maxmemory": 1}, {}, "maxmemory_policy", Level.FAIL),
        ({"maxmemory_policy": "allkeys-lru", "maxmemory": 0}, {}, "maxmemory_policy", Level.WARN),
        ({"aof_last_write_status": "err"}, {}, "disk", Level.FAIL),
        ({}, SAVES, "snapshots", Level.WARN),
        ({}, {**SAVES, "stop-writes-on-bgsave-error": "no"}, "snapshots", Level.OK),
        (BAD_SNAPSHOT, SAVES, "disk", Level.FAIL),
        (BAD_SNAPSHOT, {}, "disk", Level.WARN),
        ({"maxmemory": 1_000_001}, {}, "memory", Level.WARN),
        ({"maxmemory": 1_000_000}, {}, "memory", Level.FAIL),
        (
            {"maxmemory": 1_000_000, "maxmemory_policy": "allkeys-lru"},
            {},
            "memory",
            Level.WARN,
        ),
    ],
)
def test_each_thing_that_is_not_as_asked_is_found(
    info: dict[str, Any], config: dict[str, str], name: str, level: Level
) -> None:
    words = ServerWords({**GOOD_INFO, **info}, {**GOOD_CONFIG, **config})

    assert levels(words)[name] is level


def test_sentinels_without_a_replica_are_found() -> None:
    alone = ServerWords({**GOOD_INFO, "connected_slaves": 0}, GOOD_CONFIG, has_sentinels=True)

    assert levels(alone)["replicas"] is Level.WARN


def test_what_is_not_as_asked_comes_with_a_remedy() -> None:
    bad = ServerWords({**GOOD_INFO, "aof_enabled": 0, "maxmemory_policy": "allkeys-lru"}, None)

    for finding in judge(bad):
        assert bool(finding.remedy) is (finding.level is not Level.OK)


def test_what_a_hosted_server_does_not_tell_is_said_to_be_unseen() -> None:
    findings = {each.name: each for each in judge(ServerWords(GOOD_INFO, None))}

    assert findings["append_only_file"].level is Level.OK
    assert findings["appendfsync"].level is Level.WARN
    assert "cannot be seen" in findings["appendfsync"].text


def test_a_server_that_tells_nothing_gets_no_praise() -> None:
    findings = judge(ServerWords(None, None))

    assert {finding.level for finding in findings} == {Level.WARN}
