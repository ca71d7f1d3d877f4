"""dramatiq with its Redis broker and results: `dramatiq benchmarks.peers.bare_dramatiq`."""

from __future__ import annotations

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from benchmarks.peers.call import call_api

URL = os.environ["SENDCODE_REDIS_URL"]

broker = RedisBroker(url=URL)
broker.add_middleware(Results(backend=RedisBackend(url=URL), store_results=True))
dramatiq.set_broker(broker)


@dramatiq.actor
def send(country_code: str, phone_num: str) -> str:
    return call_api(country_code, phone_num)


publish = send.send
