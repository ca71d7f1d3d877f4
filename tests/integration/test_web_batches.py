"""Batches over HTTP, with a real server and a real Valkey."""

from __future__ import annotations

import csv
import io
import os
import socket
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import pytest
import requests
from redis import Redis

from config.settings import Settings
from jobs.batches import Batches
from jobs.keys import Keys
from producer.importing import default_batch_id
from producer.sheet import open_sheet
from producer.tokens import Tokens
from producer.web.schemas import BatchDocument, Customers, StatusDocument
from producer.web.uploads import FILES_AT_ONCE, MAX_UPLOAD
from tests.commands import Command
from tests.waiting import wait_until
from tests.web_server import WebServer

ROWS = "country_code,phone_num,name\n852,55501234,An\n852,,Bo\n852,55501235,Cy\n"


@pytest.fixture
def tokens(redis: Redis, settings: Settings) -> Tokens:
    return Tokens(redis, settings)


@pytest.fixture
def web(settings: Settings, tokens: Tokens) -> Iterator[WebServer]:
    with WebServer(settings) as server:
        _, server.token = tokens.new("office", ["batch"])
        yield server


def submit(
    web: WebServer,
    content: str | bytes = ROWS,
    *,
    path: str = "/v1/batches",
    name: str = "may.csv",
    **fields: Any,
) -> requests.Response:
    return web.call("POST", path, files={"file": (name, content)}, data=fields)


def test_a_file_becomes_a_batch_with_a_job_for_each_row_that_can_be_sent(
    web: WebServer, batches: Batches, redis: Redis, keys: Keys
) -> None:
    answer = submit(web, name="May.csv", max_rate="2.5")

    assert answer.status_code == 201
    document = answer.json()
    batch_id = document["batch_id"]
    assert answer.headers["Location"] == f"/v1/batches/{batch_id}"
    assert (document["accepted"], document["rejected"], document["name"]) == (2, 1, "May.csv")
    assert document["file"]["invalid_by_reason"][0]["lines"] == [3]
    assert (document["max_rate"], document["by"]) == (2.5, "token office")
    batch = batches.get(batch_id)
    assert batch is not None
    assert batch.imported
    assert redis.hget(keys.batch(batch_id), "token") == "office"  # whose webhook is told of its end


def test_the_same_file_again_adds_nothing_and_is_one_batch_through_every_door(
    web: WebServer, sendcode: Command, tmp_path: Path
) -> None:
    file = tmp_path / "may.csv"
    file.write_text(ROWS)
    first = submit(web).json()

    again = submit(web, skip_sent="true")
    by_command = sendcode("batch", "submit", file, "--json")

    assert again.status_code == 200
    assert again.json()["already_submitted"]
    assert again.json()["left_aside"] == ["skip_sent"]
    assert by_command.json["batch_id"] == first["batch_id"]
    assert by_command.json["already_submitted"]
    assert [each["batch_id"] for each in web.call("GET", "/v1/batches").json()["batches"]] == [
        first["batch_id"]
    ]


def test_a_number_in_a_file_s_name_is_kept_masked_and_the_file_is_known_again(
    web: WebServer, redis: Redis, keys: Keys
) -> None:
    first = submit(web, name="+852 5566 1234 Chan.csv").json()

    again = submit(web, name="+852 5566 1234 Chan.csv").json()

    assert first["name"] == again["name"] == "******34 Chan.csv"
    assert (again["batch_id"], again["already_submitted"]) == (first["batch_id"], True)
    assert redis.hget(keys.batch(first["batch_id"]), "name") == "******34 Chan.csv"


def test_an_import_that_was_cut_off_is_completed_by_the_same_file(
    web: WebServer, batches: Batches, tmp_path: Path
) -> None:
    file = tmp_path / "may.csv"
    file.write_text(ROWS)
    with open_sheet(file) as sheet:
        batch_id = default_batch_id(sheet.digest)
        batches.open(batch_id, sheet.digest, sheet.header)
        batches.append(batch_id, 0, ['852\t55501234\t2\t["852","55501234","An"]'])

    answer = submit(web)

    assert answer.status_code == 201
    assert (answer.json()["batch_id"], answer.json()["total"]) == (batch_id, 3)
    rows = [row for _, row, _ in batches.rows(batch_id)]
    assert [row.line for row in rows] == [2, 3, 4]


def test_a_check_says_what_submitting_would_do_and_changes_nothing(
    web: WebServer, batches: Batches
) -> None:
    answer = submit(web, path="/v1/batches/check")

    assert answer.status_code == 200
    document = answer.json()
    assert (document["rows"], document["valid"], document["refused"]) == (3, 2, None)
    assert document["workers"] == 0
    assert batches.list() == []


@pytest.mark.parametrize(
    ("content", "fields", "status", "code", "field"),
    [
        ("", {}, 422, "empty", "file"),
        ("%PDF-1.7 …", {}, 422, "not_a_sheet", "file"),
        ("name\nAn\n", {}, 422, "no_phone_column", "phone_column"),
        ("country_code,phone_num\n", {}, 422, "no_rows", "file"),
        ("country_code,phone_num\n852,\n", {}, 422, "no_valid_row", "file"),
        (ROWS, {"encoding": "klingon"}, 422, "unknown_encoding", "encoding"),
        (ROWS, {"sheet": "May"}, 422, "no_such_sheet", "sheet"),
        (ROWS, {"id": "ev"}, 422, "id_reserved", "id"),
        (ROWS, {"id": "a b"}, 422, "id_unfit", "id"),
        (ROWS, {"max_rate": "0"}, 422, "greater_than_equal", "max_rate"),
        (ROWS, {"starts_at": "2001-01-01T00:00:00Z"}, 422, "out_of_bounds", "starts_at"),
        (ROWS, {"starts_at": "10:00"}, 422, "datetime_from_date_parsing", "starts_at"),
        (ROWS, {"colour": "red"}, 422, "extra_forbidden", "colour"),
    ],
)
def test_what_makes_no_sense_is_refused_by_field_and_makes_no_batch(
    web: WebServer,
    batches: Batches,
    content: str,
    fields: dict[str, str],
    status: int,
    code: str,
    field: str,
) -> None:
    answer = submit(web, content, **fields)

    assert answer.status_code == status
    errors = answer.json()["errors"]
    assert field in [error["field"] for error in errors]
    assert code in [error["code"] for error in errors]
    assert "--" not in answer.text
    assert batches.list() == []


def test_another_id_or_another_content_is_a_conflict_that_names_the_batch(web: WebServer) -> None:
    submit(web, id="may")

    held = submit(web, id="june")
    other = submit(web, ROWS + "852,55501236,Di\n", id="may")

    assert (held.status_code, held.json()["code"]) == (409, "content_held")
    assert (other.status_code, other.json()["code"]) == (409, "other_content")
    assert held.json()["batch_id"] == other.json()["batch_id"] == "may"
    assert submit(web, id="june", again="true").status_code == 201


def test_a_batch_is_paused_resumed_and_cancelled_and_the_actions_name_the_token(
    web: WebServer, sendcode: Command
) -> None:
    submit(web, id="may")

    def steer(order: str) -> tuple[int, Any]:
        answer = web.call("POST", f"/v1/batches/may/{order}")
        return answer.status_code, answer.json().get("state")

    assert steer("pause") == (200, "paused")
    assert web.call("POST", "/v1/batches/may/pause").json()["changed"] is False
    assert steer("resume") == (200, "running")
    assert steer("cancel") == (200, "cancelled")
    assert steer("pause") == (409, None)
    assert web.call("POST", "/v1/batches/june/pause").status_code == 404
    assert web.call("POST", "/v1/batches/may/stop").status_code == 404
    assert web.call("GET", "/v1/batches/may").json()["customers"]["open"] == 3
    actions = sendcode("actions", "--json").json
    assert {each["by"] for each in actions if each["what"].startswith("batch")} == {"token office"}


def test_results_come_as_csv_and_as_a_workbook_with_full_numbers(web: WebServer) -> None:
    submit(web, id="may")

    whole = web.call("GET", "/v1/batches/may/results")
    failed = web.call("GET", "/v1/batches/may/results?only=failed&format=plain")
    book = web.call("GET", "/v1/batches/may/results?format=xlsx")

    assert whole.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert whole.headers["Transfer-Encoding"] == "chunked"
    assert 'filename="may-results.csv"' in whole.headers["Content-Disposition"]
    rows = list(csv.DictReader(io.StringIO(whole.content.decode("utf-8-sig"))))
    assert [row["status"] for row in rows] == ["queued", "rejected", "queued"]
    assert "55501234" in rows[0]["phone_num"]
    assert [row["name"] for row in csv.DictReader(io.StringIO(failed.text))] == ["Bo"]
    with zipfile.ZipFile(io.BytesIO(book.content)) as parts:
        assert b"55501235" in parts.read("xl/worksheets/sheet1.xml")
    assert web.call("GET", "/v1/batches/may/results?only=lost").json()["errors"][0]["field"] == (
        "only"
    )
    assert web.call("GET", "/v1/batches/june/results").status_code == 404


def test_who_took_results_is_noted_once_an_hour_however_often_they_are_asked_for(
    web: WebServer, tokens: Tokens, sendcode: Command
) -> None:
    _, other = tokens.new("shop", ["batch"])
    submit(web, id="may")

    for token in (None, other, None, other):
        given = {"token": token} if token else {}
        assert web.call("GET", "/v1/batches/may/results", **given).status_code == 200

    told = sendcode("actions", "--json").json
    taken = [each for each in told if each["what"] == "batch download"]
    assert [(each["about"], each["by"]) for each in taken] == [
        ("may", "token shop"),
        ("may", "token office"),
    ]


def test_each_scope_opens_its_doors_only(web: WebServer, tokens: Tokens) -> None:
    submit(web, id="may")
    _, reader = tokens.new("dashboard", ["read"])
    _, sender = tokens.new("shop", ["send"])
    _, admin = tokens.new("boss", ["admin"])
    asked = [
        ("GET", "/v1/batches"),
        ("GET", "/v1/batches/may"),
        ("GET", "/v1/status"),
        ("GET", "/v1/batches/may/results"),
        ("POST", "/v1/batches/may/pause"),
        ("POST", "/v1/batches"),
        ("POST", "/v1/batches/check"),
    ]

    def statuses(token: str) -> list[int]:
        return [web.call(*each, token=token).status_code for each in asked]

    assert statuses("") == [401] * 7
    assert statuses(sender) == [403] * 7
    assert statuses(reader) == [200, 200, 200, 403, 403, 403, 403]
    assert statuses(web.token) == [200, 200, 200, 200, 200, 415, 415]
    assert statuses(admin) == [200, 200, 200, 200, 200, 415, 415]


def test_batches_are_listed_a_page_at_a_time(web: WebServer, batches: Batches) -> None:
    for n in range(5):
        batches.open(f"b{n}", f"digest {n}", ["phone"])

    def page(query: str) -> tuple[list[str], bool]:
        listed = web.call("GET", f"/v1/batches?{query}").json()
        return [batch["batch_id"] for batch in listed["batches"]], listed["more"]

    assert page("") == (["b4", "b3", "b2", "b1", "b0"], False)
    assert page("limit=2") == (["b4", "b3"], True)
    assert page("limit=2&before=b3") == (["b2", "b1"], True)
    assert page("limit=2&before=b1") == (["b0"], False)
    assert web.call("GET", "/v1/batches?before=none").status_code == 404
    assert web.call("GET", "/v1/batches?limit=0").status_code == 422


def test_a_batch_has_the_fields_that_are_described(web: WebServer) -> None:
    submit(web, id="may")

    (listed,) = web.call("GET", "/v1/batches").json()["batches"]
    shown = web.call("GET", "/v1/batches/may").json()

    assert listed.keys() == BatchDocument.model_fields.keys()
    assert shown["customers"].keys() == Customers.model_fields.keys()


def test_the_status_is_the_command_line_s(web: WebServer, sendcode: Command) -> None:
    by_http = web.call("GET", "/v1/status").json()
    by_command = sendcode("status", "--json").json

    assert by_http.keys() == by_command.keys() == StatusDocument.model_fields.keys()
    assert by_http["totals"] == by_command["totals"]


class HalfUpload:
    """A caller that has sent a file but for its last bytes."""

    def __init__(
        self, web: WebServer, content: str = ROWS, *, announced: int | None = None
    ) -> None:
        prepared = requests.Request("POST", web.url, files={"file": ("may.csv", content)}).prepare()
        assert isinstance(prepared.body, bytes)
        self._rest = prepared.body[-10:]
        head = (
            "POST /v1/batches HTTP/1.1\r\nHost: sendcode\r\n"
            f"Authorization: Bearer {web.token}\r\n"
            f"Content-Type: {prepared.headers['Content-Type']}\r\n"
            f"Content-Length: {announced or len(prepared.body)}\r\n\r\n"
        )
        self.socket = socket.create_connection(("127.0.0.1", int(web.url.rpartition(":")[2])))
        self.socket.sendall(head.encode() + prepared.body[:-10])

    def finish(self) -> None:
        self.socket.sendall(self._rest)


def temporary_files() -> int:
    """Return how many files without a name this process holds open."""
    names = []
    for each in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            names.append(os.readlink(each))
    return sum("(deleted)" in name for name in names)


def test_too_large_a_file_is_refused_before_and_while_it_is_read(
    web: WebServer, batches: Batches
) -> None:
    before = temporary_files()
    announced = HalfUpload(web, announced=MAX_UPLOAD + 1)
    with announced.socket:
        answer = announced.socket.recv(65_536)
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="f.csv"\r\n\r\n'
    streamed = web.call(
        "POST",
        "/v1/batches",
        headers={"Content-Type": "multipart/form-data; boundary=b"},
        data=chain([head], repeat(b"852,55501234\n" * 80_000, MAX_UPLOAD // 1_000_000)),
    )

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert (streamed.status_code, streamed.json()["code"]) == (413, "too_large")
    assert batches.list() == []
    wait_until(lambda: temporary_files() == before)


def test_a_caller_that_goes_away_loses_no_import_that_was_begun(
    web: WebServer, batches: Batches
) -> None:
    before = temporary_files()

    rows = 20_000
    caller = HalfUpload(web, "country_code,phone_num\n" + "852,55501234\n" * rows)
    with caller.socket:
        caller.finish()
        wait_until(lambda: batches.list() or temporary_files() >= before + 2)

    wait_until(lambda: any(each.imported and each.total == rows for each in batches.list()))
    wait_until(lambda: temporary_files() == before)


def test_no_more_than_a_few_files_are_taken_at_once_and_who_goes_away_makes_room(
    web: WebServer, batches: Batches
) -> None:
    before = temporary_files()
    callers = [HalfUpload(web, ROWS + "," * 2_000_000) for _ in range(FILES_AT_ONCE)]

    wait_until(lambda: temporary_files() == before + FILES_AT_ONCE)
    refused = submit(web, "")
    for caller in callers:
        caller.socket.close()

    assert (refused.json()["code"], refused.headers["Retry-After"]) == ("busy", "2")
    wait_until(lambda: submit(web).status_code == 201)
    assert len(batches.list()) == 1
    wait_until(lambda: temporary_files() == before)


def test_what_is_no_form_is_refused(web: WebServer) -> None:
    def status(kind: str, body: bytes) -> int:
        headers = {"Content-Type": kind}
        return web.call("POST", "/v1/batches", headers=headers, data=body).status_code

    assert status("application/json", b"{}") == 415
    assert status("multipart/form-data", b"x") == 400
    assert status("multipart/form-data; boundary=b", b"\xff\xfe\0") == 400
    assert status("multipart/form-data; boundary=b", b"--b--\r\n") == 422
