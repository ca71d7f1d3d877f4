"""rq, one job at a time in the worker's own process (its usual worker forks for each job)."""

from __future__ import annotations

import os

import redis
from rq import Queue, SimpleWorker

from benchmarks.peers.call import call_api

connection = redis.Redis.from_url(os.environ["SENDCODE_REDIS_URL"])
queue = Queue("bare", connection=connection)


def publish(country_code: str, phone_num: str) -> None:
    queue.enqueue(call_api, country_code, phone_num)


if __name__ == "__main__":
    SimpleWorker([queue], connection=connection).work()
