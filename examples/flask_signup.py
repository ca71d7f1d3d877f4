"""A sign-up with Flask."""

from __future__ import annotations

import os

from flask import Flask, Response, jsonify, request
from flask.typing import ResponseReturnValue

from sendcode_client import Client, QuotaError, RefusedError, WebhookError, verify_webhook

app = Flask(__name__)
sendcode = Client(os.environ["SENDCODE_URL"], os.environ["SENDCODE_TOKEN"])
outcomes: dict[str, str] = {}  # a real service has a database


@app.post("/signup")
def sign_up() -> ResponseReturnValue:
    form = request.get_json()
    try:
        job = sendcode.send_code(form["phone"], key=f"signup-{form['user']}", expires_in=600)
    except QuotaError as exc:
        return jsonify(error=str(exc)), 429
    except RefusedError as exc:
        return jsonify(error=str(exc)), 422
    return jsonify(job_id=job.job_id), 202


@app.get("/codes/<user>")
def code(user: str) -> ResponseReturnValue:
    return jsonify(state=outcomes.get(f"signup-{user}", "on its way"))


@app.post("/webhooks/sendcode")
def webhook() -> ResponseReturnValue:
    try:
        secret = os.environ["SENDCODE_WEBHOOK_SECRET"]
        payload = verify_webhook(request.get_data(), request.headers, secret)
    except WebhookError as exc:
        return jsonify(error=str(exc)), 400
    if payload["type"] == "code.ended":
        outcomes[payload["data"]["key"]] = payload["data"]["state"]
    return Response(status=204)
