"""Failed codes by reason, country, batch and age; trying them again, or leaving them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Form, Query, Request
from fastapi.responses import Response
from markupsafe import Markup
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from jobs.deadletters import Survey
from jobs.phone import PhoneNumber
from producer.deadletters import Choice
from producer.decisions import (
    AGES,
    MAY_BE_OVERRIDDEN,
    Decided,
    NoSuchDecisionError,
    NumberForgottenError,
    Plan,
    Step,
)
from producer.stories import NoSuchJobError, Story, end_of, story_of
from producer.typed_number import doubts_of, grouped
from producer.web.console.frame import (
    MOST_PLACES,
    Operator,
    Viewer,
    reason_of,
    redirect,
    render,
    texts_of,
)
from producer.web.console.rows import customers_of
from producer.web.console.texts import Texts
from producer.web.problems import Problem, ask
from producer.web.services import services

router = APIRouter(include_in_schema=False)

PAGE = 50
BATCHES_SHOWN = 200
"""Those with the most failures, to choose from."""
SOON_S = 0.8
"""Time in which a decision about few jobs is complete, so that its page shows it at once."""
NO_CODE = "-"


class Filters(BaseModel):
    """The filters of the page, as in its address; "" for any."""

    reason: str = ""
    batch: str = ""
    country: str = ""
    age: str = ""
    page: Annotated[int, Field(le=MOST_PLACES)] = 1

    def choice(self, now_ms: int) -> Choice:
        at_most, at_least = AGES.get(self.age, (None, None))
        return Choice(
            code="" if self.reason == NO_CODE else self.reason or None,
            batch_id=self.batch or None,
            country=self.country or None,
            since_ms=now_ms - at_most if at_most else None,
            until_ms=now_ms - at_least if at_least else None,
        )

    def address(self, **changes: str | int) -> str:
        """Return the address of the page with other filters, or of another page with these."""
        values = self.model_dump(include={"reason", "batch", "country", "age"}) | changes
        query = urlencode({name: value for name, value in values.items() if value})
        return "/dead" + (f"?{query}" if query else "")


class Filled(Filters):
    """What a person ticked and typed; an incomplete form is shown again with it."""

    job: Sequence[str] = ()
    scope: Literal["ticked", "all"] = "ticked"
    why: str = ""


class Order(Filled):
    """The whole form."""

    verb: Literal["requeue", "drop"]
    back: bool = False
    """The form is on the page of its job, not in the list."""


@router.get("/dead")
async def dead(request: Request, _: Viewer, filters: Annotated[Filters, Query()]) -> Response:
    """Show what failed and waits for a person."""
    return await _dead_page(request, Filled(**filters.model_dump()))


async def _dead_page(request: Request, filled: Filled, missing: str = "") -> Response:
    """Return the page; `missing` names the text to show: `none_ticked` or `why_needed`."""
    page = min(max(1, filled.page), 1_000_000)
    survey, customers, names = await ask(request, _survey, request, filled, page)
    return render(
        request,
        "dead.html",
        status=422 if missing else 200,
        filled=filled,
        missing=missing,
        survey=survey,
        reasons=survey.by_code.most_common(),
        no_code=NO_CODE,
        customers=customers,
        names=names,
        page=page,
        pages=-(-survey.fitting // PAGE),
        size=PAGE,
        ages=AGES,
    )


def _survey(
    request: Request, filters: Filters, page: int
) -> tuple[Survey, dict[str, str], dict[str, str]]:
    """Return the survey, the customers' names, and the batches' names."""
    letters, batches = services(request).letters, services(request).batches
    survey = letters.survey(filters.choice(letters.now_ms()), (page - 1) * PAGE, PAGE)
    shown = [batch_id for batch_id, _ in survey.by_batch.most_common(BATCHES_SHOWN) if batch_id]
    records = {each.job_id: each.record for each in survey.letters if each.record is not None}
    return survey, customers_of(batches, list(records), records), batches.names_of(shown)


@router.post("/dead/decide")
async def decide(request: Request, _: Operator, order: Annotated[Order, Form()]) -> Response:
    """Start a preview of what trying again, or leaving, would do."""
    if order.scope == "ticked" and not order.job:
        return await _dead_page(request, order, "none_ticked")
    kept = reason_of(order.why)
    if order.verb == "drop" and not kept:
        if order.back and order.job:
            return redirect(request, f"/jobs/{order.job[0]}", "dead.why_needed")
        return await _dead_page(request, order, "why_needed")
    if order.scope == "all":
        choice = order.choice(await ask(request, services(request).letters.now_ms))
    else:
        choice = Choice(job_ids=tuple(dict.fromkeys(order.job)))
    return await propose(request, Plan(order.verb, choice, kept))


async def propose(
    request: Request, plan: Plan, phone: PhoneNumber | None = None, by: str = ""
) -> Response:
    """Start a preview of what a plan would do, and redirect to its page.

    `phone`: the corrected number, for `replace`; `by`: who typed it.
    """
    token = await ask(request, services(request).decisions.propose, plan, phone, by)
    return await _redirect_to(request, token)


async def _redirect_to(request: Request, token: str) -> Response:
    """Redirect to a decision, after a moment in which it may be completed."""
    await run_in_threadpool(services(request).decisions.wait, token, SOON_S)
    return redirect(request, f"/dead/decisions/{token}")


async def _kept_decision(request: Request, token: str) -> Decided:
    try:
        return await ask(request, services(request).decisions.get, token)
    except NoSuchDecisionError:
        raise Problem(404, "not_found", "this decision is no longer kept") from None


KeptDecision = Annotated[Decided, Depends(_kept_decision)]


@router.get("/dead/decisions/{token}")
async def decision(request: Request, visitor: Viewer, decided: KeptDecision) -> Response:
    """Show what a decision would do, its progress, or what it did."""
    decisions, texts = services(request).decisions, texts_of(request)
    corrected = decisions.number_of(decided.token)
    typed = decisions.number_of(decided.token, visitor.name)
    report = decided.would if decided.step in {Step.LOOKING, Step.READY} else decided.report
    is_done = decided.step in {Step.STOPPED, Step.DONE} and decided.run > 0
    named = [*report.examples, *(job for each in report.refused.values() for job in each.examples)]
    by_id = await ask(request, _named, request, texts, named)
    left = [
        {
            "count": each.count,
            "why": texts.left_alone(reason),
            "examples": [by_id[job_id] for job_id in each.examples],
        }
        for reason, each in report.refused.items()
    ]
    may_insist = sum(
        each.count
        for reason, each in decided.would.refused.items()
        if reason.why in MAY_BE_OVERRIDDEN
    )
    customers = [by_id[job_id] for job_id in report.examples]
    is_at_work = decided.step in {Step.LOOKING, Step.DOING}
    return render(
        request,
        "decision.html",
        live="live",
        is_over=not is_at_work and (not is_done or all(each.is_final for each in customers)),
        decided=decided,
        report=report,
        customers=customers,
        is_done=is_done,
        left=left,
        may_insist=may_insist if decided.plan.verb != "drop" else 0,
        new_number=grouped(typed) if typed else decided.plan.new_number,
        old_number=await ask(request, _old_number, request, decided.plan),
        doubts=doubts_of(corrected) if corrected else (),
        minutes=round(report.last_due_in_s / 60),
    )


@dataclass(slots=True)
class Named:
    """A customer that a decision is about."""

    job_id: str
    name: str
    ending: Markup | str = ""
    """What has become of it so far."""
    is_final: bool = True


def _named(request: Request, texts: Texts, job_ids: Sequence[str]) -> dict[str, Named]:
    """Return the customers of some jobs, with what became of them in the end."""
    app = services(request)
    stories: dict[str, Story] = {}
    for job_id in job_ids:
        with suppress(NoSuchJobError):
            stories[job_id] = story_of(app.client, app.settings, job_id)
    records = {job_id: story.record for job_id, story in stories.items()}
    names = customers_of(app.batches, list(job_ids), records)
    found = {job_id: Named(job_id, names[job_id] or job_id) for job_id in job_ids}
    for job_id, story in stories.items():
        end = end_of(app.client, app.settings, story)
        found[job_id].ending = texts.ending(end.record, end.waits_for)
        found[job_id].is_final = end.record.state.is_final
    return found


def _old_number(request: Request, plan: Plan) -> str:
    """Return the number that a plan corrects, masked; "" if it corrects none."""
    if plan.verb == "replace":
        app = services(request)
        with suppress(NoSuchJobError):
            return story_of(app.client, app.settings, plan.choice.job_ids[0]).record.phone.masked
    return ""


@router.post("/dead/decisions/{token}/do")
async def do(
    request: Request, operator: Operator, decided: KeptDecision, run: Annotated[int, Form()]
) -> Response:
    """Carry out a decision, or continue it; the same form again changes nothing."""
    try:
        await ask(request, services(request).decisions.do, decided.token, run, operator.name)
    except NumberForgottenError:
        return _number_forgotten(request, decided)
    return await _redirect_to(request, decided.token)


@router.post("/dead/decisions/{token}/stop")
async def stop(request: Request, _: Operator, token: str, run: Annotated[int, Form()]) -> Response:
    """Stop it; it can be continued."""
    await ask(request, services(request).decisions.stop, token, run)
    return await _redirect_to(request, token)


@router.post("/dead/decisions/{token}/insist")
async def insist(request: Request, operator: Operator, decided: KeptDecision) -> Response:
    """Start a new preview, with customers who may have got a code: a person knows they did not."""
    decisions = services(request).decisions
    phone = decisions.number_of(decided.token)
    if decided.plan.verb == "replace" and phone is None:
        return _number_forgotten(request, decided)
    by = operator.name if decisions.number_of(decided.token, operator.name) else ""
    return await propose(request, replace(decided.plan, may_send_twice=True), phone, by)


def _number_forgotten(request: Request, decided: Decided) -> Response:
    """Redirect to the job whose corrected number must be entered again."""
    job_id = decided.plan.choice.job_ids[0]
    return redirect(request, f"/jobs/{job_id}", "decision.number_forgotten")
