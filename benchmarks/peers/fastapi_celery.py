"""The handler of `POST /v1/codes` as one writes it with FastAPI and Celery: a plain `apply_async`.

The same body, headers and answer; one token, in the environment. It records nothing, and a key that
comes twice is sent twice.
"""

from __future__ import annotations

import hmac
import os
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel

from benchmarks.peers.bare_celery import send

TOKEN = os.environ["TOKEN"]
app = FastAPI()
bearer = HTTPBearer()


class CodeRequest(BaseModel):
    country_code: str
    phone_num: str
    reference: str | None = None
    expires_in: float | None = None


@app.post("/v1/codes", status_code=202)
def send_code(
    body: CodeRequest,
    idempotency_key: Annotated[str, Header(min_length=1, max_length=200)],
    credentials: Annotated[HTTPAuthorizationCredentials, Depends(bearer)],
) -> dict[str, Any]:
    if not hmac.compare_digest(credentials.credentials, TOKEN):
        raise HTTPException(401)
    result = send.apply_async((body.country_code, body.phone_num))
    return {"job_id": result.id, "state": "queued", "key": idempotency_key}
