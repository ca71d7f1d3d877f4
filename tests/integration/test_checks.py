"""Uploaded files: kept for an hour, read in a thread, corrected beside the file, made a batch."""

from __future__ import annotations

import io
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from redis import Redis

from config.settings import Settings
from jobs.batches import Batches
from jobs.job import State
from producer.checking import Checker
from producer.checks import KEPT_S, Check, Checks, TooManyChecksError, checks_folder
from producer.sheet import Sheet
from tests.ledger_acts import Acts
from tests.waiting import PATIENCE_S, wait_until

ROWS = "name,country_code,phone_num\nAn,852,51001234\nBo,852,call me\nCy,852,51001235\n"


@pytest.fixture
def checks(tmp_path: Path) -> Checks:
    return Checks(tmp_path / "checks")


@pytest.fixture
def checker(checks: Checks, redis: Redis, settings: Settings) -> Iterator[Checker]:
    checker = Checker(checks, redis, settings)
    yield checker
    checker.close()


def add(checks: Checks, content: str = ROWS) -> Check:
    return checks.add("ann", "july.csv", io.BytesIO(content.encode()))


def read(checks: Checks, checker: Checker, check: Check) -> dict[str, Any]:
    checker.process(check)
    found = wait_until(lambda: checks.found(check), "the reading")
    assert found is not None
    return found


def confirm(checks: Checks, checker: Checker, check_id: str) -> Check:
    with checks.change(check_id) as change:
        change.set(confirmed=True)
    checker.process(change.check)
    done = wait_until(lambda: submitted(checks, check_id), "the submission")
    assert done is not None
    return done


def submitted(checks: Checks, check_id: str) -> Check | None:
    check = checks.get(check_id)
    return check if check is not None and check.submitted else None


def test_what_is_wrong_with_a_file_is_found_and_its_owner_alone_can_read_it(
    checks: Checks, checker: Checker, tmp_path: Path
) -> None:
    check = add(checks)

    found = read(checks, checker, check)

    assert found["report"]["rows"] == 3
    assert found["report"]["valid"] == 2
    assert [(row["line"], row["cells"][2]) for row in found["review"]] == [(3, "call me")]
    assert [(group["kind"], group["code"]) for group in found["groups"]] == [
        ("wrong", "not_digits")
    ]
    assert found["naming"] == [0]
    assert found["first_rows"][0]["cells"] == ["An", "852", "******34"]
    for folder, folders, files in os.walk(tmp_path / "checks"):
        assert stat.S_IMODE(Path(folder).stat().st_mode) == 0o700
        assert {stat.S_IMODE((Path(folder) / name).stat().st_mode) for name in files} <= {0o600}
        assert folders or files


def test_another_process_finds_a_check_and_what_is_known_of_it(
    checks: Checks, checker: Checker, tmp_path: Path
) -> None:
    check = add(checks)
    found = read(checks, checker, check)

    others = Checks(tmp_path / "checks")

    assert others.all() == [check]
    assert others.found(check) == found


def test_a_corrected_cell_is_read_in_its_place_and_the_file_keeps_its_own(
    checks: Checks, checker: Checker, tmp_path: Path
) -> None:
    check = add(checks)
    read(checks, checker, check)

    with checks.change(check.check_id) as change:
        change.read_again(corrections={3: {2: "51001236"}})
    found = read(checks, checker, change.check)

    assert (found["report"]["valid"], found["review"]) == (3, [])
    assert (tmp_path / "checks" / check.check_id / "file").read_text() == ROWS


def test_a_column_that_names_countries_is_suggested_where_numbers_lack_one(
    checks: Checks, checker: Checker
) -> None:
    check = add(checks, "Client,Region,Mobile\nAn,Hong Kong,51001234\nBo,Singapore,81234567\n")

    found = read(checks, checker, check)

    assert (found["report"]["valid"], found["suggested_country"]) == (0, "Region")
    with checks.change(check.check_id) as change:
        change.read_again(choices=replace(check.choices, country_column="Region"))
    assert read(checks, checker, change.check)["report"]["valid"] == 2


class LeftSlowly(Checks):
    """Checks at which a thread stays for a while after it last looked."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.has_looked, self.may_leave = Event(), Event()

    @contextmanager
    def work(self, check_id: str) -> Iterator[bool]:
        with super().work(check_id) as is_mine:
            yield is_mine
        self.has_looked.set()
        assert self.may_leave.wait(PATIENCE_S)


def test_a_check_that_changes_while_its_thread_is_leaving_is_read_again(
    tmp_path: Path, redis: Redis, settings: Settings
) -> None:
    checks = LeftSlowly(tmp_path / "checks")
    checker = Checker(checks, redis, settings)
    check = add(checks)
    checker.process(check)
    assert checks.has_looked.wait(PATIENCE_S)

    with checks.change(check.check_id) as change:
        change.read_again(corrections={3: {2: "51001236"}})
    checker.process(change.check)
    checks.may_leave.set()

    found = wait_until(lambda: checks.found(change.check), "the second reading")
    checker.close()
    assert found is not None
    assert found["report"]["valid"] == 3


def test_a_file_that_cannot_be_read_says_what_may_be_chosen(
    checks: Checks, checker: Checker
) -> None:
    found = read(checks, checker, add(checks, "Who,Where\nAn,+85251001234\n"))

    assert found["error"]["code"] == "no_phone_column"
    assert found["error"]["names"] == {"phone_column": ["Who", "Where"]}


class Unreadable(Checks):
    """Checks whose files make our reader fail."""

    def open_sheet(self, check: Check) -> Sheet:
        raise RuntimeError(check.file_name)


def test_a_file_that_our_reader_fails_at_is_not_read_for_ever(
    tmp_path: Path, redis: Redis, settings: Settings
) -> None:
    checks = Unreadable(tmp_path / "checks")
    checker = Checker(checks, redis, settings)

    found = read(checks, checker, add(checks))
    checker.close()

    assert found["error"]["code"] == "unexpected"


def test_a_confirmed_file_becomes_one_batch_however_often_it_is_confirmed(
    checks: Checks, checker: Checker, batches: Batches, acts: Acts
) -> None:
    check = add(checks)
    read(checks, checker, check)

    for _ in range(3):
        confirm(checks, checker, check.check_id)

    (batch,) = batches.list()
    assert (batch.batch_id, batch.name, batch.by) == (check.check_id, "july.csv", "ann")
    assert (batch.accepted, batch.rejected, batch.imported) == (2, 1, True)
    assert batch.phase == "scheduled"  # until it can no longer be undone
    assert acts.sweep() == []


def test_two_processes_make_one_batch_of_a_file(
    checks: Checks, checker: Checker, redis: Redis, settings: Settings, batches: Batches
) -> None:
    rows = "".join(f"Customer {n},852,{55_000_000 + n}\n" for n in range(3_000))
    check = add(checks, f"name,country_code,phone_num\n{rows}")
    with checks.change(check.check_id) as change:
        change.set(confirmed=True)

    other = Checker(checks, redis, settings)
    try:
        other.process(check)
        checker.process(check)
        wait_until(lambda: submitted(checks, check.check_id))
    finally:
        other.close()

    (batch,) = batches.list()
    assert (batch.accepted, batch.total, batch.imported) == (3_000, 3_000, True)


def test_what_was_confirmed_before_a_process_ended_the_next_one_submits(
    checks: Checks, redis: Redis, settings: Settings, batches: Batches
) -> None:
    check = add(checks)
    with checks.change(check.check_id) as change:
        change.set(confirmed=True)

    checker = Checker(checks, redis, settings)
    try:
        checker.sweep()
        wait_until(lambda: submitted(checks, check.check_id))
    finally:
        checker.close()

    batch = batches.get(check.check_id)
    assert batch is not None
    assert batch.imported


def test_after_an_undo_the_same_file_becomes_another_batch(
    checks: Checks, checker: Checker, batches: Batches
) -> None:
    check = add(checks)
    confirm(checks, checker, check.check_id)
    batches.steer(check.check_id, "undo")
    with checks.change(check.check_id) as change:
        change.set(confirmed=False, submitted=False, undone=1)

    again = confirm(checks, checker, check.check_id)

    assert again.batch_id == f"{check.check_id}.1"
    undone, sent = batches.get(check.batch_id), batches.get(again.batch_id)
    assert undone is not None
    assert undone.counts == {State.CANCELLED: 2, State.REJECTED: 1}
    assert sent is not None
    assert sent.accepted == 2


def test_a_content_that_another_batch_has_is_refused_and_the_check_says_so(
    checks: Checks, checker: Checker
) -> None:
    first, second = add(checks), add(checks)
    confirm(checks, checker, first.check_id)

    held = read(checks, checker, second)["held_by"]
    assert (held["why"], held["batch_id"]) == ("content_held", first.check_id)
    with checks.change(second.check_id) as change:
        change.set(confirmed=True)
    checker.process(change.check)

    refused = wait_until(
        lambda: (now := checks.get(second.check_id)) is not None and now.refused and now
    )
    assert refused
    assert (refused.refused, refused.confirmed) == ("content_held", False)


def test_a_file_is_forgotten_after_an_hour_also_after_a_crash(
    checks: Checks, checker: Checker, tmp_path: Path
) -> None:
    check = add(checks)
    half_written = tmp_path / "checks" / ".0123456789ab"
    half_written.mkdir()
    long_ago = time.time() - KEPT_S - 1
    os.utime(half_written, (long_ago, long_ago))
    with checks.change(check.check_id) as change:
        change.set(created_s=long_ago)

    assert checks.get(check.check_id) is None
    checker.sweep()

    assert list((tmp_path / "checks").iterdir()) == []


def test_files_of_a_ledger_that_nobody_comes_back_to_are_forgotten_too(tmp_path: Path) -> None:
    here, there = (Checks(tmp_path / f"checks-of-ann-{ledger}") for ledger in ("here", "there"))
    old, young = add(there), add(there)
    with there.change(old.check_id) as change:
        change.set(created_s=time.time() - KEPT_S - 1)

    here.sweep(0)

    assert [each.name for each in (tmp_path / "checks-of-ann-there").iterdir()] == [young.check_id]


def test_uploaded_files_lie_where_the_machine_keeps_its_state(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    check = add(Checks(checks_folder(settings)))

    (folder,) = (tmp_path / "state" / "sendcode").glob("checks-*")
    assert [each.name for each in folder.iterdir()] == [check.check_id]


def test_a_confirmed_file_is_kept_until_it_is_a_batch(checks: Checks) -> None:
    check = add(checks)
    with checks.change(check.check_id) as change:
        change.set(confirmed=True, created_s=time.time() - 100 * KEPT_S)

    checks.sweep(0)

    assert checks.get(check.check_id) is not None


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"check_id":1}', b"\xff", b'{"choices":7,"wishes":[]}']
)
def test_a_damaged_check_is_removed_and_the_others_stay(
    checks: Checks, checker: Checker, tmp_path: Path, content: bytes
) -> None:
    damaged, whole = add(checks), add(checks)
    (tmp_path / "checks" / damaged.check_id / "check.json").write_bytes(content)

    assert checks.get(damaged.check_id) is None
    assert checks.all() == [whole]
    checker.sweep()

    assert [each.name for each in (tmp_path / "checks").iterdir()] == [whole.check_id]


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}"])
def test_findings_that_are_damaged_are_looked_for_again(
    checks: Checks, checker: Checker, tmp_path: Path, content: bytes
) -> None:
    check = add(checks)
    (tmp_path / "checks" / check.check_id / "found.json").write_bytes(content)

    assert read(checks, checker, check)["report"]["rows"] == 3


def test_no_more_files_are_kept_at_once_than_so_many(tmp_path: Path) -> None:
    checks = Checks(tmp_path / "checks", most=2)
    add(checks)
    add(checks)

    with pytest.raises(TooManyChecksError):
        add(checks)


@pytest.mark.parametrize("bounds", [{"most_of_owner": 2}, {"most_bytes": 2 * len(ROWS)}])
def test_nobody_fills_the_disk_with_files(tmp_path: Path, bounds: dict[str, int]) -> None:
    checks = Checks(tmp_path / "checks", **bounds)
    add(checks)
    add(checks)

    with pytest.raises(TooManyChecksError):
        add(checks)


def test_only_cells_that_are_shown_are_kept_beside_the_file(
    checks: Checks, checker: Checker
) -> None:
    check = add(checks, "name,country_code,phone_num,secret\nBo,852,call me,mine\n")

    (row,) = read(checks, checker, check)["review"]

    assert row["cells"] == ["Bo", "852", "call me", ""]


def test_a_folder_that_others_may_look_into_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "checks").mkdir(mode=0o755)

    with pytest.raises(PermissionError):
        add(Checks(tmp_path / "checks"))


def test_what_lies_in_a_folder_of_others_is_neither_shown_nor_sent(
    checks: Checks, checker: Checker, batches: Batches, tmp_path: Path
) -> None:
    check = add(checks)
    with checks.change(check.check_id) as change:
        change.set(confirmed=True)
    (tmp_path / "checks").chmod(0o755)

    checker.sweep()
    checker.process(check)
    checker.close()

    assert checks.get(check.check_id) is None
    assert checks.all() == []
    assert batches.list() == []


def test_a_confirmed_file_is_not_forgotten_when_somebody_wants_that(checks: Checks) -> None:
    check = add(checks)
    with checks.change(check.check_id) as change:
        change.set(confirmed=True)

    assert not checks.forget(check.check_id)
    assert checks.get(check.check_id) is not None
