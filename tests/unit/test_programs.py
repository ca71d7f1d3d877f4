"""How the programs of the house are started."""

from __future__ import annotations

import pytest

from config.flower import FlowerLoginError, flower_environment
from producer.cli.processes import flower_command, module_command, worker_command


def test_a_worker_is_told_its_name_threads_and_queues() -> None:
    command = worker_command("w1", 8, ["send-code.event"])

    assert command[-6:] == [
        "--hostname",
        "w1@%h",
        "--concurrency",
        "8",
        "--queues",
        "send-code.event",
    ]


def test_no_program_takes_modules_from_the_current_folder() -> None:
    for command in (worker_command(), flower_command("127.0.0.1", 1), module_command("sandbox")):
        assert command[1] == "-P"


def test_flowers_login_is_in_its_environment_and_not_in_its_command() -> None:
    environment = flower_environment({}, "ops", "s3cret")

    assert environment["FLOWER_BASIC_AUTH"] == "ops:s3cret"
    assert not any("s3cret" in part for part in flower_command("127.0.0.1", 5555))


def test_flower_gets_no_credentials_of_the_api() -> None:
    environment = flower_environment(
        {"TENCENTCLOUD_SECRET_KEY": "k", "TENCENTCLOUD_SECRET_ID_FILE": "f", "HOME": "/"}, "u", "p"
    )

    assert not any(name.startswith("TENCENTCLOUD") for name in environment)
    assert environment["HOME"] == "/"


def test_flower_changes_nothing_unless_somebody_says_so() -> None:
    assert flower_environment({}, "u", "p")["FLOWER_READ_ONLY"] == "true"
    said = flower_environment({"FLOWER_READ_ONLY": "false"}, "u", "p")
    assert said["FLOWER_READ_ONLY"] == "false"


def test_flowers_memory_is_bounded_unless_somebody_says_how() -> None:
    assert flower_environment({}, "u", "p")["FLOWER_MAX_TASKS"] == "20000"
    assert flower_environment({"FLOWER_MAX_TASKS": "9"}, "u", "p")["FLOWER_MAX_TASKS"] == "9"


def test_without_a_password_an_inherited_login_does_not_count() -> None:
    assert "FLOWER_BASIC_AUTH" not in flower_environment({"FLOWER_BASIC_AUTH": "a:b"}, "u", None)


@pytest.mark.parametrize(
    ("user", "password", "variable"),
    [
        ("a:b", "p", "SENDCODE_FLOWER_USER"),
        ("a,b", "p", "SENDCODE_FLOWER_USER"),
        ("u", "p,q", "SENDCODE_FLOWER_PASSWORD"),
        ("u", "pässword", "SENDCODE_FLOWER_PASSWORD"),
    ],
)
def test_a_login_that_flower_would_misread_is_refused_without_being_shown(
    user: str, password: str, variable: str
) -> None:
    with pytest.raises(FlowerLoginError, match=variable) as caught:
        flower_environment({}, user, password)

    assert password not in str(caught.value) or password == "p"


def test_a_password_may_hold_a_colon() -> None:
    assert flower_environment({}, "u", "a:b")["FLOWER_BASIC_AUTH"] == "u:a:b"
