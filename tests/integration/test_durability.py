"""Asking a real server about itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis import Redis

from demo.world import EmbeddedValkey
from jobs.server import Level, judge, read_server


def test_the_embedded_server_is_set_up_as_asked_but_for_the_tests_haste(redis: Redis) -> None:
    findings = {each.name: each.level for each in judge(read_server(redis))}

    assert findings.pop("appendfsync") is Level.FAIL  # the tests' server runs with fsync="no"
    assert set(findings.values()) == {Level.OK}


@pytest.fixture
def guest(valkey: EmbeddedValkey, redis: Redis) -> Iterator[Redis]:
    """A user who may not ask, as on many hosted servers."""
    redis.acl_setuser(
        "guest", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-info", "-config"]
    )
    client: Redis = Redis(port=valkey.port, username="guest", password="any")
    yield client
    client.close()
    redis.acl_deluser("guest")


def test_a_server_that_refuses_to_answer_is_no_error(guest: Redis) -> None:
    words = read_server(guest)

    assert words.info is None
    assert words.config is None
