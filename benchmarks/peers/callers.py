"""Sends `POST /v1/codes` over some connections as quickly as they are answered.

`python -m benchmarks.peers.callers URL CONNECTIONS SECONDS FIRST` writes one line of JSON: the
seconds that each answer took, and how many were not 202. TOKEN has the token.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

from benchmarks.world import COUNTRY, number

_HEAD = (
    "POST /v1/codes HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n"
    "Content-Type: application/json\r\nIdempotency-Key: signup-{n}\r\n"
    "Content-Length: {length}\r\n\r\n"
)


async def _call_on(
    host: str, port: int, until: float, serials: Iterator[int]
) -> tuple[list[float], int]:
    reader, writer = await asyncio.open_connection(host, port)
    took, failed = [], 0
    while (began := time.monotonic()) < until:
        n = next(serials)
        body = json.dumps({"country_code": COUNTRY, "phone_num": number(n)})
        head = _HEAD.format(host=host, token=os.environ["TOKEN"], n=n, length=len(body))
        writer.write((head + body).encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        length = answer.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        await reader.readexactly(int(length))
        took.append(time.monotonic() - began)
        failed += not answer.startswith(b"HTTP/1.1 202")
    writer.close()
    return took, failed


async def _call(url: str, connections: int, seconds: float, first: int) -> None:
    place, until = urlsplit(url), time.monotonic() + seconds
    serials = itertools.count(first)
    calls = [
        _call_on(place.hostname or "", place.port or 80, until, serials) for _ in range(connections)
    ]
    found = await asyncio.gather(*calls)
    took = [round(each, 6) for one, _ in found for each in one]
    sys.stdout.write(json.dumps({"took": took, "failed": sum(each for _, each in found)}) + "\n")


if __name__ == "__main__":
    asyncio.run(_call(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])))
