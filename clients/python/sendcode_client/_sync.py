"""The client on the standard library's http.client."""

from __future__ import annotations

import http.client
import ssl
import threading
import time
from collections.abc import Mapping
from urllib.parse import urlsplit
from weakref import WeakSet

from sendcode_client import _job
from sendcode_client._job import Job


class Client:
    """Sends codes. Thread-safe: each thread has a connection of its own."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        timeout: float = 10.0,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        """Name the server, such as "http://127.0.0.1:8030"; nothing is connected yet.

        Args:
            url: Without a path.
            token: From `sendcode token new`.
            timeout: Seconds for a job to be accepted, with all tries.
            ssl_context: For https, in place of the default one.
        """
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path.strip("/"):
            raise ValueError("url: must be like http://127.0.0.1:8030, without a path")
        self._parts = parts
        self._token = token
        self._timeout = timeout
        self._ssl = ssl_context
        self._local = threading.local()
        self._connections: WeakSet[http.client.HTTPConnection] = WeakSet()

    def send_code(
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
        """Have one code sent. It is on the server's disk when this returns.

        What fails on the way is tried again with the same key, so no person gets two codes.

        Args:
            phone: The whole number in international form; or the country code, with `phone_num`.
            phone_num: The number without the country code.
            key: Your name for what happened, such as "signup-81723": the same key again returns
                the same job and sends nothing.
            expires_in: Seconds after which the code is of no use.
            reference: Your own name for it, returned everywhere; numbers with a plus masked.
            resend: Send although a code for this number waits or was just sent.
            wait: Seconds to wait for the end of the job.

        Raises:
            NotAcceptedError: nobody could be reached; perhaps it was accepted all the same.
            RefusedError: the request makes no sense; see its subclasses.
        """
        body = _job.request_body(phone, phone_num, expires_in, reference, resend)
        headers = _job.key_header(key if key is not None else _job.new_key())
        job = self._ask("POST", "/v1/codes", body, headers)
        return self.wait(job, wait) if wait else job

    def get(self, key: str) -> Job | None:
        """Return the job of an idempotency key; None if there is none."""
        return self._find("/v1/codes", _job.key_header(key))

    def job(self, job_id: str) -> Job | None:
        """Return a job by its id; None if there is none."""
        return self._find(_job.job_path(job_id), {})

    def wait(self, job: Job, seconds: float) -> Job:
        """Return the job when it has ended, or as it is after so many seconds."""
        deadline = time.monotonic() + seconds
        while not job.is_final:
            left = min(deadline - time.monotonic(), _job.LONGEST_WAIT_S)
            if left <= 0:
                break
            path = f"{_job.job_path(job.job_id)}?wait={left:.3f}"
            job = self._ask("GET", path, None, {}, more_s=left)
        return job

    def __enter__(self) -> Client:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close the connections of all threads; they open again when they are needed."""
        for connection in list(self._connections):
            connection.close()

    def _find(self, path: str, headers: Mapping[str, bytes]) -> Job | None:
        try:
            return self._ask("GET", path, None, headers)
        except _job.RefusedError as exc:
            if exc.code == "not_found":
                return None
            raise

    def _ask(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, bytes],
        more_s: float = 0,
    ) -> Job:
        """Ask until there is an answer or the time is over; `more_s`: what the server may wait."""
        tries = _job.Tries(self._timeout, more_s)
        while True:
            try:
                answer = self._once(method, path, body, headers, tries.left_s())
            except (OSError, http.client.HTTPException) as exc:
                tries.fail(exc)
            else:
                if (job := tries.read(*answer)) is not None:
                    return job
            time.sleep(tries.pause_s())

    def _once(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, bytes],
        timeout: float,
    ) -> tuple[int, bytes, Mapping[str, str]]:
        connection = self._connection(timeout)
        sent: dict[str, str | bytes] = {
            "Authorization": f"Bearer {self._token}",
            "Accept": "application/json",
            **headers,
        }
        if body is not None:
            sent["Content-Type"] = "application/json"
        try:
            connection.request(method, self._parts.path.rstrip("/") + path, body, sent)
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return response.status, response.read(), found
        except BaseException:  # what is half said would go out before the next request
            self._drop(connection)
            raise

    def _drop(self, connection: http.client.HTTPConnection) -> None:
        self._connections.discard(connection)
        self._local.connection = None
        connection.close()

    def _connection(self, timeout: float) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection | None
        connection = getattr(self._local, "connection", None)
        if connection is None:
            host, port = self._parts.hostname or "", self._parts.port
            if self._parts.scheme == "https":
                connection = http.client.HTTPSConnection(host, port, context=self._ssl)
            else:
                connection = http.client.HTTPConnection(host, port)
            self._local.connection = connection
            self._connections.add(connection)
        connection.timeout = timeout
        if connection.sock is not None:
            connection.sock.settimeout(timeout)
        return connection
