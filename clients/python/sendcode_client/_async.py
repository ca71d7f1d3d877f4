"""The client for asyncio, on httpx."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import httpx

from sendcode_client import _job
from sendcode_client._job import Job


class AsyncClient:
    """`Client` for asyncio: the same methods, awaited. Use it as a context manager or close it."""

    def __init__(self, url: str, token: str, *, timeout: float = 10.0, **options: Any) -> None:
        """Name the server; `options` are httpx's, such as `verify`."""
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        self._http = httpx.AsyncClient(base_url=url, headers=headers, **options)
        self._timeout = timeout

    async def __aenter__(self) -> AsyncClient:
        """Return itself."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connections."""
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def send_code(
        self,
        phone: str,
        phone_num: str | None = None,
        *,
        key: str | None = None,
        expires_in: float | None = None,
        reference: str | None = None,
        resend: bool = False,
        wait: float = 0,
    ) -> Job:
        """Have one code sent; see `Client.send_code`."""
        body = _job.request_body(phone, phone_num, expires_in, reference, resend)
        headers = _job.key_header(key if key is not None else _job.new_key())
        headers["Content-Type"] = b"application/json"
        job = await self._ask("POST", "/v1/codes", body, headers)
        return await self.wait(job, wait) if wait else job

    async def get(self, key: str) -> Job | None:
        """Return the job of an idempotency key; None if there is none."""
        return await self._find("/v1/codes", _job.key_header(key))

    async def job(self, job_id: str) -> Job | None:
        """Return a job by its id; None if there is none."""
        return await self._find(_job.job_path(job_id), {})

    async def wait(self, job: Job, seconds: float) -> Job:
        """Return the job when it has ended, or as it is after so many seconds."""
        deadline = time.monotonic() + seconds
        while not job.is_final:
            left = min(deadline - time.monotonic(), _job.LONGEST_WAIT_S)
            if left <= 0:
                break
            path = f"{_job.job_path(job.job_id)}?wait={left:.3f}"
            job = await self._ask("GET", path, None, {}, more_s=left)
        return job

    async def _find(self, path: str, headers: Mapping[str, bytes]) -> Job | None:
        try:
            return await self._ask("GET", path, None, headers)
        except _job.RefusedError as exc:
            if exc.code == "not_found":
                return None
            raise

    async def _ask(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, bytes],
        more_s: float = 0,
    ) -> Job:
        tries = _job.Tries(self._timeout, more_s)
        while True:
            try:
                given = [(name.encode(), value) for name, value in headers.items()]
                answer = await self._http.request(
                    method, path, content=body, headers=given, timeout=tries.left_s()
                )
            except httpx.TransportError as exc:
                tries.fail(exc)
            else:
                found = {name.lower(): value for name, value in answer.headers.items()}
                if (job := tries.read(answer.status_code, answer.content, found)) is not None:
                    return job
            await asyncio.sleep(tries.pause_s())
