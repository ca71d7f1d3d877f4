"""taskiq on a Redis stream, with acknowledgements and results; the call runs in its threads."""

from __future__ import annotations

import asyncio
import os

from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from benchmarks.peers.call import call_api

URL = os.environ["SENDCODE_REDIS_URL"]

broker = RedisStreamBroker(url=URL).with_result_backend(RedisAsyncResultBackend(redis_url=URL))


@broker.task
def send(country_code: str, phone_num: str) -> str:
    return call_api(country_code, phone_num)


_loop = asyncio.new_event_loop()
_started: list[bool] = []


def publish(country_code: str, phone_num: str) -> None:
    if not _started:
        _loop.run_until_complete(broker.startup())
        _started.append(True)
    _loop.run_until_complete(send.kiq(country_code, phone_num))
