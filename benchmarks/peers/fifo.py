"""Plain Celery behind one shared first-come-first-served limiter (GCRA, 1 % slower than allowed).

Each job reserves the next free moment of the account and sleeps until then, so an event stands
behind all that was reserved before it, and in one queue behind all that was queued before it.
"""

from __future__ import annotations

import os
import time

import redis
from celery import Celery

from benchmarks.peers.call import call_api

EMISSION_US = round(1.01e6 / 20)

# KEYS: the limiter. ARGV: µs between two slots. Reply: µs until the caller's slot.
_RESERVE = """
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local slot = math.max(now, tonumber(redis.call('GET', KEYS[1]) or 0))
redis.call('SET', KEYS[1], string.format('%d', slot + ARGV[1]))
return slot - now
"""

_server = redis.Redis.from_url(os.environ["SENDCODE_REDIS_URL"])
_reserve = _server.register_script(_RESERVE)

app = Celery("fifo", broker=os.environ["SENDCODE_REDIS_URL"])
app.conf.update(
    broker_transport_options={"queue_order_strategy": "priority"},
    task_acks_late=True,
    worker_prefetch_multiplier=1,
    task_ignore_result=True,
)


@app.task(name="fifo.send")
def send(country_code: str, phone_num: str) -> str:
    reply = _reserve(keys=["fifo:next"], args=[EMISSION_US])
    time.sleep(int(str(reply)) / 1e6)
    return call_api(country_code, phone_num)
