"""A sign-up whose code is asked for once the transaction is committed."""

import json
import os

from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from sendcode_client import Client, RefusedError, WebhookError, verify_webhook
from signup.models import SignUp

sendcode = Client(os.environ["SENDCODE_URL"], os.environ["SENDCODE_TOKEN"])


@csrf_exempt
@require_POST
def sign_up(request: HttpRequest) -> HttpResponse:
    form = json.loads(request.body)
    refused: list[str] = []

    def send() -> None:
        try:
            sendcode.send_code(form["phone"], key=f"signup-{form['user']}", expires_in=600)
        except RefusedError as exc:
            refused.append(str(exc))

    with transaction.atomic():
        SignUp.objects.get_or_create(user=form["user"])
        # never inside the transaction: it may still be rolled back, and a code cannot be
        transaction.on_commit(send)
    return JsonResponse({"error": refused[0]}, status=422) if refused else HttpResponse(status=202)


def code(_: HttpRequest, user: str) -> HttpResponse:
    return JsonResponse({"state": SignUp.objects.get(user=user).state})


@csrf_exempt
@require_POST
def webhook(request: HttpRequest) -> HttpResponse:
    try:
        secret = os.environ["SENDCODE_WEBHOOK_SECRET"]
        payload = verify_webhook(request.body, request.headers, secret)
    except WebhookError as exc:
        return JsonResponse({"error": str(exc)}, status=400)
    if payload["type"] == "code.ended":
        user = payload["data"]["key"].removeprefix("signup-")
        SignUp.objects.filter(user=user).update(state=payload["data"]["state"])
    return HttpResponse(status=204)
