"""Ways in which a Redis that runs refuses commands, each healed at the end of its block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import redis

from config import BATCH_QUEUE
from tests.waiting import wait_until

NOBODY_S_PORT = 9


@contextmanager
def failed_snapshot(client: redis.Redis, directory: Path) -> Iterator[None]:
    """MISCONF: a snapshot failed, and by default that ends all writing."""
    in_its_way = directory / "dump.rdb"
    in_its_way.mkdir()
    client.config_set("save", "3600 1000000")
    client.bgsave()
    wait_until(
        lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err", "a failed snapshot"
    )
    yield
    in_its_way.rmdir()
    client.bgsave()
    wait_until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "ok", "a snapshot")
    client.config_set("save", "")


@contextmanager
def replica(client: redis.Redis, _directory: Path) -> Iterator[None]:
    """UNBLOCKED, then READONLY: it was made a replica, as by a failover in progress."""
    client.replicaof("127.0.0.1", NOBODY_S_PORT)
    yield
    client.replicaof("NO", "ONE")


@contextmanager
def queue_of_another_type(client: redis.Redis, _directory: Path) -> Iterator[None]:
    """WRONGTYPE: somebody overwrote a queue."""
    client.set(BATCH_QUEUE, "foo")
    yield
    client.delete(BATCH_QUEUE)


@contextmanager
def full(client: redis.Redis, _directory: Path) -> Iterator[None]:
    """OOM: more than it may have is in it."""
    client.config_set("maxmemory", "1")
    yield
    client.config_set("maxmemory", "0")


@contextmanager
def without_replicas(client: redis.Redis, _directory: Path) -> Iterator[None]:
    """NOREPLICAS: fewer are connected than it must have to write."""
    client.config_set("min-replicas-to-write", 1)
    yield
    client.config_set("min-replicas-to-write", 0)


REFUSALS: dict[str, Callable[[redis.Redis, Path], AbstractContextManager[None]]] = {
    "MISCONF": failed_snapshot,
    "READONLY": replica,
    "NOREPLICAS": without_replicas,
    "OOM": full,
    "WRONGTYPE": queue_of_another_type,
}
