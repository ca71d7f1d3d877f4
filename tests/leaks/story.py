"""What canaries go through: every ending, every fault, and what people and strangers do."""

from __future__ import annotations

import json
import random
import subprocess
import threading
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Self

from config import EVENT_QUEUE
from demo.world import environment_of
from jobs.account import Account
from jobs.batches import Batches
from jobs.deadletters import DeadLetters
from jobs.job import batch_job_id
from jobs.ledger import Ledger
from jobs.phone import PhoneNumber
from jobs.webhooks import Webhooks
from producer import send_code
from producer.deadletters import Choice, Handling, drop, replace_number
from tests.commands import SENDCODE
from tests.expected_ends import ENDS
from tests.faults import doomed
from tests.faults.injector import Injector, plan
from tests.leaks.needles import Canary
from tests.leaks.scene import Scene
from tests.waiting import PATIENCE_S, wait_until

SLOWING = "9927"
"""Lowers the rate for everybody: one such number is enough."""
BATCH = "flock"
ENDED_S = 300.0


def kinds(count: int) -> list[str]:
    """Return the magic prefix of each of so many canaries: every ending, again and again."""
    every = sorted(ENDS.keys() - {SLOWING})
    return [SLOWING, *(every[n % len(every)] for n in range(count - 1))]


def tell(scene: Scene, flock: Sequence[Canary], kills: int) -> None:
    """Send half of a flock by file and half by events, while so many workers are killed.

    More than a few kills come with all other faults of `make faults`.
    """
    Webhooks(scene.client, scene.settings).set("shop", scene.receiver.url)
    rows, events = flock[::2], flock[1::2]
    _submit(scene, rows)
    chance = random.Random(1)
    faults = plan(kills, doomed.POINTS, chance, plain=kills < len(doomed.POINTS))
    with Faults(Injector(scene, scene.crew, scene.recoveries, faults, chance)) as going_on:
        for number, canary in enumerate(events):
            going_on.share = number / len(events)
            _send(scene, canary, number)
        going_on.share = 1.0
        wait_until(lambda: going_on.are_over, "all faults", ENDED_S)
    scene.crew.wait_ready(PATIENCE_S)
    ledger = Ledger(scene.client, scene.settings)
    job_ids = [batch_job_id(BATCH, n) for n in range(1, len(rows) + 1)]
    _wait_ended(scene, ledger, job_ids, "all jobs ended")
    _act(scene, flock)
    _err(scene, flock)
    scene.processes.look()


class Faults:
    """Has faults injected, and undone, by a thread of their own."""

    def __init__(self, inject: Injector) -> None:
        self.share = 0.0
        """Of the plan: so much is to be injected by now."""
        self._inject = inject
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="faults", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._inject.stop()

    @property
    def are_over(self) -> bool:
        return self._inject.is_over

    def _run(self) -> None:
        while not self._over.wait(0.02):
            self._inject.turn(self.share)


def _submit(scene: Scene, rows: Sequence[Canary]) -> None:
    file = scene.customers / f"{BATCH}.csv"
    lines = [f"{each.name},+852,{each.phone.phone_num}\n" for each in rows]
    # no job becomes of these two, and their cells are kept all the same
    lines += [f"{rows[0].name},+852,{each.phone.phone_num} or so\n" for each in rows[:2]]
    file.write_text("name,country_code,phone_num\n" + "".join(lines), encoding="utf-8")
    log = scene.folder / "submit.log"
    with log.open("ab") as output:
        done = subprocess.run(
            [*SENDCODE, "batch", "submit", str(file), "--id", BATCH],
            cwd=scene.folder,
            env=environment_of(
                scene.settings, XDG_STATE_HOME=scene.state_home, TMPDIR=str(scene.files)
            ),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            check=False,
        )
    assert done.returncode == 0, log.read_text(encoding="utf-8")
    assert scene.call("POST", "/v1/batches/check", files={"file": file.read_bytes()}).ok


def _send(scene: Scene, canary: Canary, number: int) -> None:
    """Have an event sent over HTTP, or, every fifth time, by the Python call."""
    phone = canary.phone
    if number % 5 == 0:
        scene.patiently(
            lambda: send_code("852", phone.phone_num, key=f"py {number}", settings=scene.settings)
        )
        return
    answer = scene.call(
        "POST",
        "/v1/codes",
        json={"country_code": "852", "phone_num": phone.phone_num, "reference": f"r{number}"},
        headers={"Idempotency-Key": f"event {number}"},
    )
    assert answer.ok, answer.text


def _wait_ended(scene: Scene, ledger: Ledger, job_ids: Iterable[str], what: str) -> None:
    ended: set[str] = set()

    def have_ended() -> bool:
        for job_id in {*job_ids, *scene.job_ids()} - ended:
            record = ledger.job(job_id)
            if record is None or not record.state.is_final:
                return False
            ended.add(job_id)
        return True

    wait_until(have_ended, what, ENDED_S)


def _act(scene: Scene, flock: Sequence[Canary]) -> None:
    """Do what people do afterwards, and what a stranger puts into a queue."""
    dead = DeadLetters(scene.client, scene.settings)
    letters = [each for window in dead.walk() for each in window if each.record]
    if letters:
        again = PhoneNumber("852", flock[-1].phone.phone_num)
        how = Handling(force=True, may_send_twice=True)
        replace_number(dead, letters[0].job_id, again, how)
        drop(dead, Choice(job_ids=(letters[-1].job_id,)), Handling(reason="left"))
    batches = Batches(scene.client, scene.settings)
    assert batches.get(BATCH)
    account = Account(scene.client, scene.settings)
    account.halt("person", "", "to see how it looks")
    account.resume("person")
    message = json.dumps({"task": "send_code", "phone": scene.stranger.phone.phone_num})
    scene.client.lpush(EVENT_QUEUE, message)
    wait_until(lambda: not scene.client.llen(EVENT_QUEUE), "the stranger's message put aside")
    _wait_ended(scene, Ledger(scene.client, scene.settings), (), "the corrected job ended")


def _err(scene: Scene, flock: Sequence[Canary]) -> None:
    """Have errors raised about canaries."""
    number = flock[1].phone.phone_num
    away = scene.settings.model_copy(update={"sendcode_redis_url": _nowhere(scene)})
    wrong: list[Callable[[], object]] = [
        lambda: send_code("852", f"{number}x", settings=scene.settings),
        lambda: send_code("999", number, settings=scene.settings),
        lambda: send_code(f"+852 {number} {number} {number}", settings=scene.settings),
        lambda: send_code("852", number, key=f"my {number}", settings=scene.settings),
        lambda: send_code("852", number, key="py 0", settings=scene.settings),
        lambda: send_code("852", number, expires_in=-1, settings=scene.settings),
        lambda: send_code("852", number, settings=away),
    ]
    for act in wrong:
        with suppress(Exception):
            try:
                print(repr(act()), file=scene.heard)
            except Exception as exc:
                print(traceback.format_exc(), repr(exc), str(exc), file=scene.heard)
                raise
    for phone in (f"{number}x", f"{number}{number}{number}"):
        answer = scene.call(
            "POST",
            "/v1/codes",
            json={"country_code": "852", "phone_num": phone},
            headers={"Idempotency-Key": "wrong"},
        )
        assert answer.status_code == 422, answer.text
        print(answer.content.decode(), file=scene.heard)


def _nowhere(scene: Scene) -> object:
    return type(scene.settings.sendcode_redis_url)("redis://127.0.0.1:9/0")
