"""What became of a job reaches the backend that asked for it: signed, in order, at least once."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable

import pytest
from celery import Celery
from redis import Redis
from standardwebhooks import Webhook

from config.settings import Settings
from jobs.deadletters import DeadLetters, Decision
from jobs.job import SendCodeJob, State
from jobs.keys import Keys
from jobs.publish import Publisher
from jobs.scripts import MOST_PER_ENDPOINT
from jobs.webhooks import Outbox, WebhookRefusedError, Webhooks
from sendcode_client import verify_webhook
from tests.commands import Command
from tests.ledger_acts import Acts, number
from tests.receiver import Receiver
from tests.waiting import PATIENCE_S, wait_until
from worker.webhooks import Delivered, Deliverer, is_public

pytestmark = pytest.mark.settings(sendcode_webhook_private=True)

QUICK = 1e-6
"""Three days in a quarter of a second."""
MakeDeliverer = Callable[..., Deliverer]


@pytest.fixture
def shop_is_told(webhooks: Webhooks, receiver: Receiver) -> None:
    """Have the outcomes of shop's jobs sent to the receiver."""
    webhooks.set("shop", receiver.url)


@pytest.fixture
def make_deliverer(redis: Redis, settings: Settings, celery_app: Celery) -> MakeDeliverer:
    def make(scale: float = 1.0, *, private_too: bool = True, timeout_s: float = 5.0) -> Deliverer:
        outbox = Outbox(redis, settings, scale)
        publisher = Publisher(celery_app)
        return Deliverer(outbox, publisher, private_too=private_too, timeout_s=timeout_s)

    return make


def accept(acts: Acts, serial: int = 0, token: str = "shop") -> str:
    """Accept an event that a token asked for."""
    job = SendCodeJob.for_event(number(serial), f"{token}-signup-{serial}", None, f"c {serial}")
    return acts.ledger.submit(job, token=token).record.job_id


def ended(acts: Acts, serial: int = 0, token: str = "shop", state: State = State.SENT) -> str:
    job_id = accept(acts, serial, token)
    acts.finish(job_id, acts.begun(job_id), state, "" if state.is_sent else "InvalidPhone")
    return job_id


def deliver_when_due(deliverer: Deliverer, job_id: str) -> Delivered:
    def delivered() -> Delivered | None:
        return deliverer.deliver(job_id)

    done = wait_until(delivered, "due")
    assert done is not None
    return done


def test_an_outcome_is_signed_as_standard_webhooks_wants_and_shows_no_number(
    acts: Acts, webhooks: Webhooks, receiver: Receiver, make_deliverer: MakeDeliverer
) -> None:
    _, secret = webhooks.set("shop", receiver.url)
    job_id = ended(acts)

    assert acts.ledger.sweep().outcomes == [job_id]
    done = make_deliverer().deliver(job_id)

    assert done == Delivered("delivered", "HTTP 204", "shop")
    (one,) = receiver.received
    assert Webhook(secret).verify(one.body, one.headers) == verify_webhook(
        one.body, one.headers, secret
    )
    assert one.data["state"] == "sent"
    assert (one.data["job_id"], one.data["key"], one.data["reference"]) == (
        job_id,
        "shop-signup-0",
        "c 0",
    )
    assert number().phone_num.encode() not in one.body
    assert make_deliverer().deliver(job_id) is None


@pytest.mark.usefixtures("shop_is_told")
def test_a_job_of_a_name_without_a_webhook_leaves_nothing_to_deliver(
    acts: Acts, redis: Redis, keys: Keys
) -> None:
    ended(acts, 0, "other")
    ended(acts, 1, "")

    assert not acts.ledger.sweep().outcomes
    assert not [*redis.scan_iter(keys.outbox("*"))]


@pytest.mark.usefixtures("shop_is_told")
def test_an_end_that_is_recorded_twice_is_told_once(
    acts: Acts, make_deliverer: MakeDeliverer
) -> None:
    job_id = accept(acts)
    token = acts.begun(job_id)

    acts.finish(job_id, token)
    acts.finish(job_id, token)

    deliverer = make_deliverer()
    assert deliverer.deliver(job_id) == Delivered("delivered", "HTTP 204", "shop")
    assert deliverer.deliver(job_id) is None


@pytest.mark.usefixtures("shop_is_told")
def test_the_outcomes_of_one_job_come_in_their_order_though_the_first_fails(
    acts: Acts,
    dead: DeadLetters,
    receiver: Receiver,
    make_deliverer: MakeDeliverer,
) -> None:
    deliverer = make_deliverer(QUICK)
    job_id = ended(acts, state=State.DEAD)
    receiver.answer = lambda _: 500
    deliverer.deliver(job_id)

    requeue(acts, dead, job_id)
    acts.finish(job_id, acts.begun(job_id))
    receiver.answer = lambda _: 204
    for _ in range(2):
        deliver_when_due(deliverer, job_id)

    assert [(each.id, each.data["state"]) for each in receiver.received] == [
        (f"{job_id}_1", "dead"),
        (f"{job_id}_1", "dead"),
        (f"{job_id}_2", "sent"),
    ]


def requeue(acts: Acts, dead: DeadLetters, job_id: str) -> None:
    dead.requeue(Decision("requeue", job_id), [found] if (found := dead.find(job_id)) else [])
    acts.run_out(job_id)


@pytest.mark.usefixtures("shop_is_told")
def test_a_job_with_a_corrected_number_is_told_of_to_whoever_asked_for_the_first(
    acts: Acts,
    dead: DeadLetters,
    receiver: Receiver,
    make_deliverer: MakeDeliverer,
) -> None:
    job_id = ended(acts, state=State.DEAD)
    letter = dead.find(job_id)
    assert letter is not None

    _, corrected = dead.replace(Decision("replace", job_id), letter, number(1))
    acts.run_out(corrected)
    acts.finish(corrected, acts.begun(corrected))
    make_deliverer().deliver(corrected)

    (one,) = receiver.received
    assert (one.data["job_id"], one.data["replaces"]) == (corrected, job_id)
    assert (one.data["key"], one.data["reference"]) == ("shop-signup-0", "c 0")


@pytest.mark.usefixtures("shop_is_told")
def test_what_fails_is_tried_again_later_by_whoever_sweeps(
    acts: Acts,
    webhooks: Webhooks,
    receiver: Receiver,
    make_deliverer: MakeDeliverer,
    redis: Redis,
    keys: Keys,
) -> None:
    receiver.answer = lambda _: 503
    job_id = ended(acts)

    before_ms = time.time() * 1000

    done = make_deliverer().deliver(job_id)

    after_ms = time.time() * 1000
    assert done == Delivered("failed", "HTTP 503", "shop")
    assert make_deliverer().deliver(job_id) is None
    assert not acts.ledger.sweep().outcomes
    (endpoint,) = webhooks.all()
    assert (endpoint.is_on, endpoint.reason, endpoint.waiting) == (True, "HTTP 503", 1)
    due = redis.zscore(keys.outbox("shop"), job_id)
    assert due is not None
    assert before_ms + 3_000 < float(due) < after_ms + 6_000


@pytest.mark.usefixtures("shop_is_told")
def test_an_endpoint_that_is_gone_is_switched_off_and_a_replay_brings_what_it_missed(
    acts: Acts,
    webhooks: Webhooks,
    receiver: Receiver,
    make_deliverer: MakeDeliverer,
    sendcode: Command,
) -> None:
    receiver.answer = lambda _: 410
    deliverer = make_deliverer()
    first = ended(acts, 0)
    deliverer.deliver(first)

    second = ended(acts, 1)
    assert not acts.ledger.sweep().outcomes
    assert deliverer.deliver(second) is None

    (shown,) = sendcode("webhook", "list", "--json").json
    assert (shown["state"], shown["reason"], shown["undelivered"]) == ("off", "HTTP 410", 2)
    assert "is off since" in sendcode("status").out
    findings = sendcode("doctor", "--json").json["findings"]
    assert [each["level"] for each in findings if each["name"] == "webhooks"] == ["warn"]

    receiver.answer = lambda _: 204
    assert sendcode("webhook", "replay", "shop", "--json").json["outcomes"] == 2
    assert sorted(acts.ledger.sweep().outcomes) == sorted([first, second])
    for job_id in (first, second):
        assert deliverer.deliver(job_id) == Delivered("delivered", "HTTP 204", "shop")
    assert webhooks.all()[0].undelivered == 0
    assert [each.data["job_id"] for each in receiver.received] == [first, first, second]


@pytest.mark.usefixtures("shop_is_told")
def test_days_of_failure_switch_an_endpoint_off(
    acts: Acts, webhooks: Webhooks, receiver: Receiver, make_deliverer: MakeDeliverer
) -> None:
    receiver.answer = lambda _: 500
    job_id = ended(acts)
    deliverer = make_deliverer(QUICK)

    def is_off() -> bool:
        deliverer.deliver(job_id)
        return not webhooks.all()[0].is_on

    wait_until(is_off)
    acts.ledger.sweep()

    assert (webhooks.all()[0].waiting, webhooks.all()[0].undelivered) == (0, 1)
    assert len({each.id for each in receiver.received}) == 1


@pytest.mark.usefixtures("shop_is_told")
def test_a_success_ends_an_endpoints_failure(
    acts: Acts, webhooks: Webhooks, receiver: Receiver, make_deliverer: MakeDeliverer
) -> None:
    receiver.answer = lambda _: 500
    make_deliverer().deliver(ended(acts, 0))

    receiver.answer = lambda _: 204
    make_deliverer().deliver(ended(acts, 1))

    assert webhooks.all()[0].failing_ms is None


def test_both_secrets_sign_during_a_rotation_and_one_after_it(
    acts: Acts,
    webhooks: Webhooks,
    receiver: Receiver,
    make_deliverer: MakeDeliverer,
    sendcode: Command,
) -> None:
    _, old = webhooks.set("shop", receiver.url)
    new = sendcode("webhook", "secret", "shop", "--json").json["secret"]

    make_deliverer().deliver(ended(acts, 0))
    sendcode("webhook", "secret", "shop", "--finish")
    make_deliverer().deliver(ended(acts, 1))

    during, after = receiver.received
    for secret in (old, new):
        assert Webhook(secret).verify(during.body, during.headers)
    assert Webhook(new).verify(after.body, after.headers)
    assert len(after.headers["webhook-signature"].split()) == 1


def test_an_endpoint_that_never_answers_costs_its_own_outcomes_alone_their_time(
    acts: Acts, webhooks: Webhooks, receiver: Receiver
) -> None:
    webhooks.set("slow", receiver.url)
    webhooks.set("shop", receiver.url)
    slow = [ended(acts, serial, "slow") for serial in range(20)]

    assert len(acts.ledger.sweep().outcomes) == MOST_PER_ENDPOINT
    assert not acts.ledger.sweep().outcomes
    quick = ended(acts, 50)

    assert acts.ledger.sweep().outcomes == [quick]
    assert quick not in slow


@pytest.mark.usefixtures("shop_is_told")
def test_a_private_address_is_refused_when_it_is_called(
    acts: Acts, receiver: Receiver, make_deliverer: MakeDeliverer
) -> None:
    done = make_deliverer(private_too=False).deliver(ended(acts))

    assert done == Delivered("failed", "PrivateAddressError", "shop")
    assert not receiver.received


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1"),
        *("0.0.0.0", "224.0.0.1", "240.0.0.1", "255.255.255.255"),  # noqa: S104 (as a string)
        *("::1", "::", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1"),
        *("::127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::1", "2001:db8::1"),
    ],
)
def test_an_address_that_may_lead_inside_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.settings(sendcode_webhook_private=False)
@pytest.mark.parametrize(
    "url",
    [
        *("http://shop.example/x", "ftp://shop.example", "https://", "shop.example", "https://a b"),
        *("https://user:secret@shop.example", "https://shop.example/#x", "https://x:99999/"),
    ],
)
def test_what_can_be_no_endpoint_is_refused_when_it_is_named(webhooks: Webhooks, url: str) -> None:
    with pytest.raises(WebhookRefusedError):
        webhooks.set("shop", url)


@pytest.mark.usefixtures("shop_is_told")
def test_a_redirect_is_not_followed(
    acts: Acts, receiver: Receiver, make_deliverer: MakeDeliverer
) -> None:
    with Receiver() as other:
        receiver.answer, receiver.headers = lambda _: 307, {"Location": other.url}

        done = make_deliverer().deliver(ended(acts))

        assert done == Delivered("failed", "HTTP 307", "shop")
        assert not other.received


@pytest.mark.usefixtures("shop_is_told")
def test_an_answer_that_does_not_come_in_time_is_a_failure(
    acts: Acts, receiver: Receiver, make_deliverer: MakeDeliverer
) -> None:
    over = threading.Event()
    receiver.answer = lambda _: 204 if over.wait(PATIENCE_S) else 500

    done = make_deliverer(timeout_s=0.3).deliver(ended(acts))

    over.set()
    assert done is not None
    assert done.verb == "failed"


@pytest.mark.usefixtures("shop_is_told")
def test_the_end_of_a_batch_is_told_once_and_again_when_a_requeued_row_has_ended(
    acts: Acts, dead: DeadLetters, receiver: Receiver, make_deliverer: MakeDeliverer
) -> None:
    jobs = acts.batch(2, "b1", name="may.csv", token="shop")
    acts.sweep()
    for job_id, state in zip(jobs, (State.SENT, State.DEAD), strict=True):
        assert not acts.ledger.sweep().outcomes
        acts.finish(job_id, acts.begun(job_id), state)

    assert acts.ledger.sweep().outcomes == ["batch:b1"]
    deliverer = make_deliverer()
    assert deliverer.deliver("batch:b1") == Delivered("delivered", "HTTP 204", "shop")
    assert deliverer.deliver("batch:b1") is None
    requeue(acts, dead, jobs[1])
    acts.finish(jobs[1], acts.begun(jobs[1]))
    assert deliverer.deliver("batch:b1") is not None

    payloads = [(each.id, json.loads(each.body)["type"], each.data) for each in receiver.received]
    data = {"batch_id": "b1", "name": "may.csv", "state": "done"}
    assert payloads == [(f"batch:b1_{n}", "batch.ended", data) for n in (1, 2)]


@pytest.mark.usefixtures("shop_is_told")
def test_a_cancelled_batch_has_ended_too_and_is_found_again_in_a_lost_outbox(
    acts: Acts,
    receiver: Receiver,
    make_deliverer: MakeDeliverer,
    sendcode: Command,
    redis: Redis,
    keys: Keys,
) -> None:
    acts.batch(2, "b1", token="shop")
    acts.batch(2, "b2")
    for batch_id in ("b1", "b2"):
        acts.batches.steer(batch_id, "cancel")
    redis.delete(keys.outbox("shop"))

    repaired = sendcode("doctor", "--repair", "--json").json["repaired"]

    assert repaired == ["1 outcomes were forgotten: they are delivered"]
    assert acts.ledger.sweep().outcomes == ["batch:b1"]
    make_deliverer().deliver("batch:b1")
    assert [each.data["state"] for each in receiver.received] == ["cancelled"]


@pytest.mark.usefixtures("shop_is_told")
def test_another_endpoint_of_the_name_learns_nothing_of_what_a_removed_one_missed(
    acts: Acts,
    dead: DeadLetters,
    webhooks: Webhooks,
    receiver: Receiver,
    make_deliverer: MakeDeliverer,
    redis: Redis,
    keys: Keys,
) -> None:
    receiver.answer = lambda _: 410
    given_up = ended(acts, 0, state=State.DEAD)
    make_deliverer().deliver(given_up)
    waiting = ended(acts, 1, state=State.DEAD)

    assert webhooks.remove("shop")
    assert not webhooks.remove("shop")
    assert not redis.exists(keys.outbox("shop"), keys.undelivered("shop"))
    receiver.answer = lambda _: 204
    webhooks.set("shop", receiver.url)
    for job_id in (given_up, waiting):
        requeue(acts, dead, job_id)
        acts.finish(job_id, acts.begun(job_id))
        make_deliverer().deliver(job_id)
        make_deliverer().deliver(job_id)

    _, *told = [(each.id, each.data["state"]) for each in receiver.received]
    assert told == [(f"{given_up}_2", "sent"), (f"{waiting}_2", "sent")]


@pytest.mark.usefixtures("shop_is_told")
def test_outcomes_that_an_outbox_lost_are_found_in_their_jobs(
    acts: Acts,
    receiver: Receiver,
    make_deliverer: MakeDeliverer,
    sendcode: Command,
    redis: Redis,
    keys: Keys,
) -> None:
    delivered, lost, given_up = (ended(acts, serial) for serial in range(3))
    make_deliverer().deliver(delivered)
    receiver.answer = lambda _: 410
    make_deliverer().deliver(given_up)
    receiver.answer = lambda _: 204
    sendcode("webhook", "replay", "shop")
    redis.delete(keys.outbox("shop"), keys.undelivered("shop"))
    assert not acts.ledger.sweep().outcomes

    repaired = sendcode("doctor", "--repair", "--json").json["repaired"]

    assert repaired == ["2 outcomes were forgotten: they are delivered"]
    assert sorted(acts.ledger.sweep().outcomes) == sorted([lost, given_up])
    assert sendcode("doctor", "--repair", "--json").json["repaired"] == []


def test_a_token_with_a_webhook_is_made_on_the_command_line_and_keeps_its_secret(
    sendcode: Command, receiver: Receiver
) -> None:
    made = sendcode("token", "new", "shop", "--webhook", receiver.url, "--json").json
    again = sendcode("token", "new", "shop", "--webhook", receiver.url, "--json").json

    assert made["webhook_secret"].startswith("whsec_")
    assert "webhook_secret" not in again
    assert made["webhook_secret"] not in sendcode("webhook", "list", "--json").out
    sendcode("webhook", "remove", "shop", "--yes")
    assert sendcode("webhook", "list", "--json").json == []
    assert sendcode("webhook", "replay", "shop").exit_code == 1


def test_an_endpoint_that_cannot_be_read_is_named_and_holds_no_sweep_up(
    acts: Acts, redis: Redis, keys: Keys
) -> None:
    redis.hset(keys.webhooks, "shop", "no JSON")
    redis.zadd(keys.delivering, {" nobody": 10**14})
    job_id = acts.event()

    acts.run_out(job_id)

    assert acts.sweep() == [job_id]
    assert "the webhook of shop" in str(redis.lrange(keys.damage, 0, -1))
    assert not redis.exists(keys.webhooks)
    redis.delete(keys.delivering)
