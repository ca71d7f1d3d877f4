"""What has expired leaves the disk, too: the append-only file is rewritten now and then."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from redis import Redis

from config.redis import connect
from config.settings import Settings, load_settings
from demo.world import EmbeddedValkey
from jobs.removing import REWRITE_EVERY_S, Rewriting
from tests.waiting import wait_until

CANARY = "85255509876"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    with EmbeddedValkey(tmp_path / "valkey") as server:
        yield server


@pytest.fixture
def settings(server: EmbeddedValkey) -> Settings:
    return load_settings(None, sendcode_redis_url=server.url())


def on_disk(server: EmbeddedValkey) -> bytes:
    while True:
        with suppress(FileNotFoundError):  # it was renamed since it was listed: read all anew
            files = [file for file in server.directory.rglob("*.aof") if file.is_file()]
            return b"".join(file.read_bytes() for file in files)


def test_what_has_expired_is_gone_from_the_disk_after_a_rewrite(
    server: EmbeddedValkey, redis: Redis, settings: Settings
) -> None:
    rewriting = Rewriting(redis, settings, every_s=0)
    redis.set("sendcode:job:x", CANARY)
    redis.delete("sendcode:job:x")
    assert CANARY.encode() in on_disk(server)

    assert not rewriting.rewrite_if_due()  # the first time only begins the span
    assert rewriting.rewrite_if_due()

    wait_until(lambda: CANARY.encode() not in on_disk(server), "the old file's end")


def test_workers_together_rewrite_once_in_a_span(redis: Redis, settings: Settings) -> None:
    workers = [Rewriting(redis, settings) for _ in range(3)]
    assert not any(each.rewrite_if_due() for each in workers)
    redis.hincrby("sendcode:sweeps", "rewritten", -round(REWRITE_EVERY_S * 1000))

    assert [each.rewrite_if_due() for each in workers] == [True, False, False]


def test_a_server_that_does_not_allow_it_is_left_alone(
    server: EmbeddedValkey, redis: Redis, settings: Settings
) -> None:
    rules = ("on", ">pw", "~*", "&*", "+@all", "-bgrewriteaof")
    redis.execute_command("ACL", "SETUSER", "hosted", *rules)
    url = f"redis://hosted:pw@127.0.0.1:{server.port}/0"
    with connect(load_settings(None, sendcode_redis_url=url)) as client:
        rewriting = Rewriting(client, settings, every_s=0)

        assert not rewriting.rewrite_if_due()
        assert not rewriting.rewrite_if_due()


def test_the_embedded_server_s_files_are_its_user_s_alone(
    server: EmbeddedValkey, redis: Redis
) -> None:
    redis.set("x", "y")
    redis.save()

    files = [file for file in server.directory.rglob("*") if file.is_file()]

    kept = {file.suffix for file in files}
    assert {".aof", ".rdb"} <= kept
    for file in files:
        if file.suffix in {".aof", ".rdb", ".conf", ".manifest"}:
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
