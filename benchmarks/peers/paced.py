"""A process whose threads call the API through somebody's limiter, as fast as it lets them.

`python -m benchmarks.peers.paced NAME RATE`; writes "ready", then one line for each call.
"""

from __future__ import annotations

import itertools
import os
import secrets
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import redis

from benchmarks.peers.call import call_api

THREADS = 8

Wait = Callable[[], Any]
"""Returns when one request may be sent."""


def limits_moving_window(url: str, rate: int) -> Wait:
    """`limits`: asks, and sleeps until the window is said to have room."""
    from limits import RateLimitItemPerSecond  # noqa: PLC0415
    from limits.storage import RedisStorage  # noqa: PLC0415
    from limits.strategies import MovingWindowRateLimiter  # noqa: PLC0415

    limiter = MovingWindowRateLimiter(RedisStorage(url))
    item = RateLimitItemPerSecond(rate)

    def wait() -> None:
        while not limiter.hit(item, "account"):
            reset = limiter.get_window_stats(item, "account").reset_time
            time.sleep(max(0.001, reset - time.time()))

    return wait


def pyrate_limiter(url: str, rate: int) -> Wait:
    """`pyrate-limiter`: a Redis bucket, blocking."""
    from pyrate_limiter import Duration, Limiter, Rate, RedisBucket  # noqa: PLC0415

    bucket = RedisBucket.init([Rate(rate, Duration.SECOND)], redis.Redis.from_url(url), "pyrate")
    limiter = Limiter(bucket)
    return lambda: limiter.try_acquire("account", blocking=True)


def throttled_py(url: str, rate: int) -> Wait:
    """`throttled-py`: its GCRA without a burst, waiting."""
    from throttled import RateLimiterType, Throttled, rate_limiter, store  # noqa: PLC0415

    throttle = Throttled(
        key="account",
        using=RateLimiterType.GCRA.value,
        quota=rate_limiter.per_sec(rate, burst=1),
        store=store.RedisStore(server=url),
        timeout=30,
    )

    def wait() -> None:
        while throttle.limit().limited:
            pass

    return wait


def fixed_window(url: str, rate: int) -> Wait:
    """What is written most often: a counter for each second of the clock."""
    client: Any = redis.Redis.from_url(url)

    def wait() -> None:
        while True:
            now = time.time()
            key = f"window:{int(now)}"
            with client.pipeline() as pipe:
                count, _ = pipe.incr(key).expire(key, 2).execute()
            if count <= rate:
                return
            time.sleep(int(now) + 1 - now)

    return wait


LIMITERS = {
    "limits": limits_moving_window,
    "pyrate-limiter": pyrate_limiter,
    "throttled-py": throttled_py,
    "fixed-window": fixed_window,
}


def main() -> None:
    name, rate = sys.argv[1], int(sys.argv[2])
    wait = LIMITERS[name](os.environ["SENDCODE_REDIS_URL"], rate)
    first = secrets.randbelow(10**6) * 1000  # no number twice, whichever process it comes from
    numbers = itertools.count(first)

    def work() -> None:
        while True:
            wait()
            call_api("852", f"{50_000_000_000 + next(numbers)}")
            sys.stdout.write("sent\n")
            sys.stdout.flush()

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
