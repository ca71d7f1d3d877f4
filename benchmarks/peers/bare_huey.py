"""huey on Redis: `huey_consumer benchmarks.peers.bare_huey.huey -k thread`."""

from __future__ import annotations

import os

from huey import RedisHuey

from benchmarks.peers.call import call_api

huey = RedisHuey("bare", url=os.environ["SENDCODE_REDIS_URL"])


@huey.task()
def send(country_code: str, phone_num: str) -> str:
    return call_api(country_code, phone_num)


publish = send
