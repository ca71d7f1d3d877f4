"""A sign-up with FastAPI."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException, Request, Response
from pydantic import BaseModel

from sendcode_client import AsyncClient, QuotaError, RefusedError, WebhookError, verify_webhook

sendcode = AsyncClient(os.environ["SENDCODE_URL"], os.environ["SENDCODE_TOKEN"])
outcomes: dict[str, str] = {}  # a real service has a database


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with sendcode:
        yield


app = FastAPI(lifespan=lifespan)


class SignUp(BaseModel):
    user: str
    phone: str


@app.post("/signup", status_code=202)
async def sign_up(form: SignUp) -> dict[str, str]:
    try:
        job = await sendcode.send_code(form.phone, key=f"signup-{form.user}", expires_in=600)
    except QuotaError as exc:
        raise HTTPException(429, str(exc)) from exc
    except RefusedError as exc:
        raise HTTPException(422, str(exc)) from exc
    return {"job_id": job.job_id}


@app.get("/codes/{user}")
async def code(user: str) -> dict[str, str]:
    return {"state": outcomes.get(f"signup-{user}", "on its way")}


@app.post("/webhooks/sendcode", status_code=204)
async def webhook(request: Request) -> Response:
    try:
        secret = os.environ["SENDCODE_WEBHOOK_SECRET"]
        payload = verify_webhook(await request.body(), request.headers, secret)
    except WebhookError as exc:
        raise HTTPException(400, str(exc)) from exc
    if payload["type"] == "code.ended":
        outcomes[payload["data"]["key"]] = payload["data"]["state"]
    return Response(status_code=204)
