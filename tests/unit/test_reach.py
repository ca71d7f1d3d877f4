"""When a process that does not reach the API takes that for its own trouble."""

from __future__ import annotations

from worker.reach import Reach

SETTLE_S = 10.0


class World:
    """A process' calls, all of which fail, and the codes that others send."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.sent = 100
        self.reach = Reach(SETTLE_S, lambda: self.now_s)

    def fail(self, after_s: float = 1, sent: int = 0) -> bool:
        self.now_s += after_s
        self.sent += sent
        return self.reach.note_failed("Network.Connect", "refused", self.sent)


def test_jobs_are_left_to_others_after_some_calls_if_those_send() -> None:
    world = World()

    assert [world.fail(), world.fail(sent=1), world.fail()] == [False, False, True]

    assert world.reach.cut_off is None


def test_a_process_is_cut_off_while_codes_are_sent_whose_calls_began_after_its_first_failure() -> (
    None
):
    world = World()
    for after_s, sent in ((0, 0), (1, 5), (SETTLE_S, 5)):
        world.fail(after_s, sent)
        assert world.reach.cut_off is None

    world.fail(sent=1)

    assert world.reach.cut_off == ("Network.Connect", "refused")


def test_where_nobody_sends_no_process_is_cut_off_and_no_job_left_to_others() -> None:
    world = World()

    left = [world.fail() for _ in range(100)]

    assert not any(left)
    assert world.reach.cut_off is None


def test_codes_that_were_under_way_when_the_api_went_away_cut_nobody_off() -> None:
    world = World()
    world.fail()
    for _ in range(int(SETTLE_S) - 1):
        world.fail(sent=3)

    for _ in range(100):
        world.fail()

    assert world.reach.cut_off is None


def test_a_call_that_gets_out_ends_it_and_counting_begins_anew() -> None:
    world = World()
    for _ in range(4):
        world.fail(SETTLE_S, sent=1)
    was_cut_off = world.reach.cut_off is not None

    world.reach.note_reached()

    assert was_cut_off
    assert world.reach.cut_off is None
    assert [world.fail(sent=1) for _ in range(3)] == [False, False, True]
    assert world.reach.cut_off is None
