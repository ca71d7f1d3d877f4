"""`sendcode doctor`: is everything there that sending needs, and set up correctly?

A list of small checks (at the end), each by itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated

import redis
import typer
from rich.text import Text

from config.settings import (
    DATA_KEYS,
    Settings,
    SettingsError,
    exposed,
    ignored_settings,
    missing,
    misspelt,
)
from config.unavailable import in_words, is_no_permission
from jobs.account import OUTDATED
from jobs.api_connection import code_before_writing, in_short, shake_hands
from jobs.codes import OwnCode, explain
from jobs.identity import REMEDY, Identity, state_file
from jobs.job import iso
from jobs.mending import Mending
from jobs.quotas import bounds_of_workers
from jobs.scripts import SPARE_THREADS
from jobs.server import (
    NEEDED,
    OF_PRODUCERS,
    SIGNATURES_REFUSED_S,
    Finding,
    Level,
    check_rights,
    clock_offset_s,
    judge,
    judge_access,
    read_server,
    rehearse,
)
from jobs.vault import IndexLockedError, Vault
from producer.cli.console import CommandFailedError, printable, results, say, show_json
from producer.cli.options import JsonOption, ledger_connection
from producer.cli.wording import (
    LEDGER_DISPUTED,
    halt_explained,
    ledger_in_words,
    refusal_explained,
)
from producer.overview import Overview, read_overview
from producer.stories import lower_first

STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="First rebuild what lost or damaged keys in Redis held, from all jobs and "
            "batches; show for the last time what was damaged.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check settings, Redis, clock, credentials and workers.

    Exit 1 if anything fails. It sends nothing, and cannot try the credentials.
    """
    with ledger_connection(any_version=True, required=()) as (settings, client):
        repaired = Mending(client, settings).mend() if repair else []
        findings = list(examine(client, settings))
        if repair:
            mending = Mending(client, settings)
            mending.forget(len(mending.damage()))
    failed = [finding.name for finding in findings if finding.level is Level.FAIL]
    if as_json:
        found = [each.as_dict() for each in findings]
        show_json({"ok": not failed, "repaired": repaired, "findings": found})
    else:
        if repair and not repaired:
            say("nothing had to be repaired")
        for finding in findings:
            _show(finding)
    if failed:
        raise CommandFailedError(f"{len(failed)} of {len(findings)} checks failed")


def _show(finding: Finding) -> None:
    line = Text.assemble(
        (f"{finding.level.upper():4}", STYLES[finding.level]), "  ", printable(finding.text)
    )
    if finding.remedy:
        line.append(f": {printable(finding.remedy)}", "dim")
    results().print(line, soft_wrap=True)


UNFINISHED_MS = 86_400_000
"""Longer than any import takes; until it is completed or cancelled its rows are kept."""
SHOWN = 5
"""Lines about what was damaged."""
UNSWEPT_S = 60.0
"""Every worker sweeps every second or so, and tries again while Redis is out of reach."""
BESIDE_ANSWER_S = 0.5
"""How much longer a job holds its thread than the API takes to answer: claim, slot, records."""
CLOCK_OFF_S = 5.0
"""A slow round trip cannot look like a greater difference than that."""


def examine(client: redis.Redis, settings: Settings) -> Iterator[Finding]:
    """Run all checks, one after the other; without Redis those that need it are left out."""
    reported: set[str] = set()
    for check in OF_REDIS:
        try:
            for finding in check(client, settings):
                reported.add(finding.text)
                yield finding
        except redis.RedisError as exc:
            finding = Finding(check.__name__, Level.FAIL, *in_words(exc, settings))
            if finding.text not in reported:
                reported.add(finding.text)
                yield finding
            if not isinstance(exc, redis.ResponseError):
                break  # it is out of reach
        except SettingsError:
            pass  # there is no data key, as `data_keys` reports
    for check_here in OF_THIS_MACHINE:
        yield from check_here(settings)


def reach(client: redis.Redis, settings: Settings) -> Iterator[Finding]:
    """Check that Redis answers."""
    client.ping()
    yield Finding("redis", Level.OK, f"Redis at {settings.redis.place} answers")


def rights(client: redis.Redis, settings: Settings) -> Iterator[Finding]:
    """Check what the server refuses to this user: a worker's rights where one can run."""
    areas = NEEDED if settings.tencentcloud_secret_key else OF_PRODUCERS
    yield from check_rights(client, settings, areas)


def writes(client: redis.Redis, settings: Settings) -> Iterator[Finding]:
    """Try the writes of sending: a server that answers may refuse them all the same."""
    try:
        rehearse(client, settings)
    except redis.ResponseError as exc:
        if is_no_permission(exc):
            return  # `rights` names it
        raise
    yield Finding("writes", Level.OK, "scripts, queues and publishing work")


def server(client: redis.Redis, _: Settings) -> Iterator[Finding]:
    """Check that Redis keeps what is written, and has room."""
    yield from judge(read_server(client))


def access(_: redis.Redis, settings: Settings) -> Iterator[Finding]:
    """Check who else can get into Redis, and who could read the traffic."""
    yield from judge_access(settings)


def clock(client: redis.Redis, _: Settings) -> Iterator[Finding]:
    """Compare this machine's clock with Redis'."""
    offset_s = clock_offset_s(client)
    off_s = abs(offset_s)
    if off_s <= CLOCK_OFF_S:
        yield Finding("clock", Level.OK, f"this clock and Redis' differ by {off_s:.1f} s")
        return
    text = f"this clock is {off_s:.0f} s {'behind' if offset_s > 0 else 'ahead of'} Redis'"
    remedy = "set both right (NTP)"
    if off_s > SIGNATURES_REFUSED_S:
        remedy += "; the API refuses signatures more than 5 minutes off"
    yield Finding("clock", Level.WARN, text, remedy)


def credentials(settings: Settings) -> Iterator[Finding]:
    """Check that they are there; only a call of the API could show whether they are right."""
    try:
        _, _, token = settings.credentials()
    except SettingsError as exc:
        for line in str(exc).splitlines():
            name, _, remedy = line.partition(": missing; ")
            text = f"{name} is missing here; a worker does not start without it, a producer can"
            yield Finding("credentials", Level.WARN, text, remedy)
        return
    kind = "temporary credentials" if token else "credentials"
    text = f"{kind} are set here, for {settings.sendcode_endpoint}; a worker follows their files"
    yield Finding("credentials", Level.OK, text)


def data_keys(settings: Settings) -> Iterator[Finding]:
    """Check that there is one."""
    if settings.sendcode_data_keys is None:
        name, _, remedy = missing(DATA_KEYS).partition(": missing; ")
        yield Finding("data_keys", Level.FAIL, f"{name} is missing, so nothing starts", remedy)
        return
    first, *others = (key_id for key_id, _ in settings.data_keys)
    text = f"data key {first} seals" + (f", {', '.join(others)} open too" if others else "")
    yield Finding("data_keys", Level.OK, text)


def api(settings: Settings) -> Iterator[Finding]:
    """Connect to the API as a worker does, without sending anything."""
    way = settings.sendcode_endpoint
    if settings.sendcode_proxy and way.startswith("https:"):
        way += " through SENDCODE_PROXY"
    try:
        shake_hands(settings)
    except (OSError, UnicodeError) as exc:
        known = explain(code_before_writing(exc))
        # a machine that sends nothing need not reach it
        level = Level.FAIL if settings.tencentcloud_secret_key else Level.WARN
        text = f"{way}: {lower_first(known.meaning)} ({in_short(exc)})"
        yield Finding("api", level, text, lower_first(known.remedy.partition(", then")[0]))
    else:
        trust = ", its certificate is trusted" if way.startswith("https:") else ""
        yield Finding("api", Level.OK, f"{way} answers{trust}")


def environment(settings: Settings) -> Iterator[Finding]:
    """Report variables that are set and change nothing, and files that others can read."""
    for name, remedy in misspelt().items():
        text = f"{name} is not a setting and changes nothing"
        yield Finding("settings", Level.WARN, text, remedy)
    for names, remedy in ignored_settings(settings).items():
        text = f"the environment sets {names}, which sendcode does not follow"
        yield Finding("settings", Level.WARN, text, remedy)
    for file, remedy in exposed().items():
        text = f"{file} holds secrets, and others can read it"
        yield Finding("settings", Level.WARN, text, remedy)


def index(client: redis.Redis, settings: Settings) -> Iterator[Finding]:
    """Check that the data keys open the key of the index by which all numbers are found."""
    try:
        Vault(client, settings).check()
    except IndexLockedError as exc:
        yield Finding("data_keys", Level.FAIL, exc.text, exc.remedy)


def ledger_and_work(client: redis.Redis, settings: Settings) -> Iterator[Finding]:
    """Check whether it is the ledger that this machine knows, and the work in it."""
    identity = Identity(client, settings, state_file(settings))
    overview = read_overview(client, settings, identity)
    yield from status_findings(overview)
    if identity.unkept:
        text = f"what this machine has seen of the ledger is not kept: {identity.unkept}"
        remedy = "set XDG_STATE_HOME to a folder that can be written, such as a volume"
        yield Finding("state_file", Level.WARN, text, remedy)
    yield from alive(overview)
    yield from batches(overview)
    yield from threads(overview, settings)


def status_findings(overview: Overview) -> Iterator[Finding]:
    """Check what `sendcode status` shows at its top, too."""
    for check in (ledger, account, damage, put_aside, webhooks, workers):
        yield from check(overview)


def ledger(overview: Overview) -> Iterator[Finding]:
    """Check whether it is the one that this machine knows."""
    state = overview.ledger
    if state.refused:
        yield Finding("ledger", Level.FAIL, state.why, state.remedy)
    elif state.is_disputed:
        yield Finding("ledger", Level.FAIL, LEDGER_DISPUTED, REMEDY)
    else:
        yield Finding("ledger", Level.OK, f"the ledger is {ledger_in_words(state)}")


def account(overview: Overview) -> Iterator[Finding]:
    """Check whether all sending is halted."""
    if overview.is_halted:
        yield Finding("account", Level.FAIL, *halt_explained(overview.account))
    elif not (overview.ledger.refused or overview.ledger.is_disputed):
        yield Finding("account", Level.OK, "sending is not halted")


def workers(overview: Overview) -> Iterator[Finding]:
    """Report those that are silent, or do not send."""
    for each in overview.workers:
        if not each.alive:
            text = f"{each.name} silent for {each.silent_s:.0f} s, without signing off"
            yield Finding("workers", Level.WARN, text, "look at its log")
        elif each.idle == OUTDATED:
            text = f"{each.name} takes no work: its release cannot read this ledger any more"
            remedy = "start the release that the others run (docs/upgrading.md)"
            yield Finding("workers", Level.WARN, text, remedy)
        elif each.idle:
            yield Finding("workers", Level.OK, f"{each.name} delivers webhooks, and sends no codes")
        if each.refused:
            refusal = refusal_explained(each.name, each.refused, each.refused_ms)
            yield Finding("workers", Level.FAIL, *refusal)
    for name in overview.namesakes:
        text = f"several workers are called {name}"
        remedy = "give each its own name (sendcode worker --name)"
        yield Finding("workers", Level.WARN, text, remedy)


def damage(overview: Overview) -> Iterator[Finding]:
    """Report keys that were lost or damaged, and what was done about it."""
    if overview.misfits:
        text = f"parts of the ledger do not fit together ({', '.join(overview.misfits)})"
        remedy = "workers repair it within seconds; if it stays: sendcode doctor --repair"
        yield Finding("damage", Level.FAIL, text, remedy)
    for each in overview.damage[:SHOWN]:
        text = f"{iso(each.at_ms)}: {each.what}"
        remedy = "sendcode doctor --repair checks all jobs once more, and clears this"
        yield Finding("damage", Level.WARN, text, remedy)
    if len(overview.damage) > SHOWN:
        text = f"{len(overview.damage) - SHOWN} older lines of this kind"
        yield Finding("damage", Level.WARN, text, "sendcode status --json shows all")


def put_aside(overview: Overview) -> Iterator[Finding]:
    """Report jobs that were forged or cannot be opened, and messages that are no jobs."""
    if overview.forged:
        text = f"{overview.forged} jobs' records were forged: nothing was sent for them"
        remedy = f"find out who else writes into this Redis (dead list --code {OwnCode.FORGED})"
        yield Finding("forged", Level.FAIL, text, remedy)
    for key, lacked in overview.unknown_data_keys.items():
        who = ", ".join(lacked.workers) or "a worker"
        lacks = "lack" if len(lacked.workers) > 1 else "lacks"
        text = f"jobs are sealed under data key {key}, which {who} {lacks}: they wait"
        text += f" (one was met {lacked.ago_s:.0f} s ago)"
        remedy = (
            "put it back into the file with that worker's SENDCODE_DATA_KEYS, behind the first: "
            "it is read again within seconds; only keys in the environment need a restart"
        )
        yield Finding("data_keys", Level.FAIL, text, remedy)
    if overview.quarantined:
        text = f"{overview.quarantined} messages put aside, because they were no jobs"
        remedy = "sendcode ledger quarantine shows them; find out who else writes into this Redis"
        yield Finding("quarantine", Level.WARN, text, remedy)


def webhooks(overview: Overview) -> Iterator[Finding]:
    """Report those that fail, or were switched off."""
    for each in overview.webhooks:
        if each.is_on and not each.failing_ms:
            continue
        state = f"fails since {iso(each.failing_ms or 0)}"
        if not each.is_on:
            state = f"is off since {iso(each.since_ms)}"
        text = f"the webhook of {each.name} ({each.host}) {state}: {each.reason}"
        remedy = f"when it works again: sendcode webhook replay {each.name}"
        yield Finding("webhooks", Level.WARN, f"{text}; {each.waiting:,} outcomes wait", remedy)


def alive(overview: Overview) -> Iterator[Finding]:
    """Check whether a worker sends, and whether due jobs are taken."""
    if not overview.alive:
        is_any = any(each.alive for each in overview.workers)
        text = "no worker that is alive sends codes" if is_any else "no worker is alive"
        text += ": jobs are accepted, and wait"
        yield Finding("workers", Level.FAIL, text, "start one: sendcode worker")
        return
    many = "worker is" if overview.alive == 1 else "workers are"
    yield Finding("workers", Level.OK, f"{overview.alive} {many} alive")
    if overview.account.state != "halted" and not overview.ledger.refused:
        yield from late(overview)


def late(overview: Overview) -> Iterator[Finding]:
    """Report due jobs that no worker takes, though some are alive and sending is not halted."""
    if overview.sweep_s is not None and overview.sweep_s > UNSWEPT_S:
        text = f"no worker has looked for due jobs for {overview.sweep_s:.0f} s"
        yield Finding("late", Level.FAIL, text, "look at the workers' logs, or restart them")
    for lane, age_s in overview.late_s.items():
        text = f"the oldest {lane} job that is due has waited for {age_s:.0f} s"
        if overview.pace.last_second:
            remedy = "more wait than the limit lets through, or workers have too few threads"
            yield Finding("late", Level.WARN, text, remedy)
        else:
            remedy = f"look at the workers' logs, and whether one takes {lane} jobs (--queues)"
            yield Finding("late", Level.FAIL, f"{text}, and nothing is sent", remedy)


def batches(overview: Overview) -> Iterator[Finding]:
    """Report batches that wait for rows."""
    for batch in overview.batches:
        if batch.rows_lost:
            text = f"{batch.rows_lost} rows of batch {batch.batch_id} are lost, it waits for them"
            remedy = f"submit its file again, or sendcode batch cancel {batch.batch_id}"
            yield Finding("damage", Level.FAIL, text, remedy)
        if not batch.imported and overview.at_ms - batch.created_ms > UNFINISHED_MS:
            text = f"batch {batch.batch_id} has waited for the rest of its file for more than a day"
            remedy = f"submit the file again, or sendcode batch cancel {batch.batch_id}"
            yield Finding("batches", Level.WARN, text, remedy)


def threads(overview: Overview, settings: Settings) -> Iterator[Finding]:
    """Check whether the workers, if set up as this process is, have enough threads for the rate.

    A request takes a thread for as long as the API works on it.
    """
    if not overview.alive or overview.pace.answer_ms is None:
        return
    rate, answer_s = overview.rate, overview.pace.answer_ms / 1000
    each = settings.sendcode_concurrency
    needed = math.ceil(rate * (answer_s + BESIDE_ANSWER_S)) + SPARE_THREADS
    if needed > overview.alive * each:
        text = (
            f"the API takes {answer_s:.1f} s to answer, so {rate:g}/s need {needed} threads; "
            f"workers have {overview.alive} x {each}"
        )
        remedy = (
            f"start {math.ceil(needed / each) - overview.alive} more, "
            f"or set SENDCODE_CONCURRENCY to {math.ceil(needed / overview.alive)} for all"
        )
        yield Finding("threads", Level.WARN, text, remedy)


def bounds(client: redis.Redis, settings: Settings) -> Iterator[Finding]:
    """Report workers with different bounds on spending for batches."""
    limits_of_workers = bounds_of_workers(client, settings)
    if len(limits_of_workers) > 1:
        each = (
            "; ".join(f"{rule} {limit}" for rule, limit in limits) or "none"
            for limits in limits_of_workers
        )
        text = "workers are set to different bounds on spending for batches; the strictest hold: "
        remedy = "give all workers the same SENDCODE_BUDGET and SENDCODE_LIMIT_COUNTRY"
        yield Finding("bounds", Level.WARN, text + " | ".join(each), remedy)


OF_REDIS: tuple[Callable[[redis.Redis, Settings], Iterable[Finding]], ...] = (
    reach,
    rights,
    writes,
    server,
    access,
    clock,
    index,
    ledger_and_work,
    bounds,
)
OF_THIS_MACHINE: tuple[Callable[[Settings], Iterable[Finding]], ...] = (
    credentials,
    data_keys,
    api,
    environment,
)
"""Each check may yield any number of findings. A new one is written above and named here."""
