"""A replica of an embedded server."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis

from demo.world import EmbeddedValkey
from tests.waiting import wait_until


@contextmanager
def replica_of(primary: EmbeddedValkey, directory: Path) -> Iterator[EmbeddedValkey]:
    """Start a server that has all of the primary's data and can take its place."""
    server = EmbeddedValkey(directory, fsync="no")
    server.password = primary.password
    with server, Redis.from_url(server.url()) as client, Redis.from_url(primary.url()) as first:
        first.config_set("repl-diskless-sync-delay", 0)
        for each in (client, first):
            each.config_set("masterauth", primary.password)
        client.replicaof("127.0.0.1", primary.port)
        wait_until(lambda: client.info("replication")["master_link_status"] == "up", "the copy")
        yield server


@contextmanager
def frozen(server: EmbeddedValkey) -> Iterator[None]:
    """Have it stand still for the block."""
    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)
