"""How long a file that comes with a request may take."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.datastructures import FormData
from starlette.requests import Request

from config.settings import Settings
from producer.web.problems import Problem, ask
from producer.web.uploads import STALLED_S, Uploads, parse_form
from tests.waiting import PATIENCE_S

APP = FastAPI()
APP.state.settings = Settings()
HEAD = (
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="c.csv"\r\n'
    b"Content-Type: text/csv\r\n\r\n"
)
END = b"\r\n--b--\r\n"


def received(parts: Iterator[bytes], pause_s: float, stalled_s: float = STALLED_S) -> bytes:
    """Receive an upload whose body comes in these parts; return the file."""

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(pause_s)
        part = next(parts, None)
        return {"type": "http.request", "body": part or b"", "more_body": part is not None}

    def read(form: FormData) -> bytes:
        file, _ = parse_form(form)
        return file.file.read()

    headers = [(b"content-type", b"multipart/form-data; boundary=b")]
    scope = {"type": "http", "method": "POST", "headers": headers, "app": APP}
    late: dict[str, Any] = {"sendcode.answer_s": PATIENCE_S, "sendcode.deadline": 0.0}
    request = Request(scope | late, receive)

    async def upload() -> bytes:
        file = await Uploads(stalled_s).take(request, read)
        return await ask(request, lambda: file)  # however long it took, Redis has its time

    return asyncio.run(upload())


def test_a_caller_that_trickles_gives_its_place_up() -> None:
    trickle = iter([HEAD, *[b"1"] * 10_000, END])

    with pytest.raises(Problem) as refused:
        received(trickle, pause_s=0.01, stalled_s=0.3)

    assert refused.value.status == 408


def test_a_file_that_comes_in_many_parts_is_taken() -> None:
    rows = [b"852,55501234\n"] * 1_000

    assert received(iter([HEAD, *rows, END]), pause_s=0) == b"".join(rows)
