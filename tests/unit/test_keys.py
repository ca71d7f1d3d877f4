"""Redis keys: the same in Python and in Lua, and none has two meanings."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from config import QUEUES
from jobs.job import State
from jobs.keys import _BY_ID, _FIXED, _NAMES, Keys

KEYS = Keys("test")
PREFIXED = sorted(set(_NAMES) - set(_FIXED))
SCRIPTS = {
    path.name: path.read_text(encoding="utf-8")
    for folder in (files("jobs") / "lua", files("jobs") / "lua" / "shared", files("worker"))
    for path in folder.iterdir()
    if path.name.endswith(".lua")
}


def in_lua(name: str) -> str:
    """The key that `K.name` is in the scripts, or that `K.name("id")` makes."""
    head = KEYS.lua()
    plain = re.search(rf'^K\.{name} = "(.*)"$', head, re.MULTILINE)
    if plain:
        return plain.group(1)
    made = re.search(rf'^function K\.{name}\(id\) return "(.*):" \.\. id end$', head, re.MULTILINE)
    assert made, f"K.{name} is not in the scripts' head"
    return f"{made.group(1)}:id"


def test_a_plain_key_is_the_same_in_lua(subtests: pytest.Subtests) -> None:
    for name in _NAMES:
        with subtests.test(name):
            assert getattr(KEYS, name) == in_lua(name)


def test_a_key_with_an_id_is_the_same_in_lua(subtests: pytest.Subtests) -> None:
    for name in sorted(_BY_ID):
        with subtests.test(name):
            assert getattr(KEYS, name)("id") == in_lua(name)


def test_no_two_names_mean_the_same_key() -> None:
    names = [*_NAMES, *_BY_ID]
    keys = [in_lua(name) for name in names]

    assert len(set(names)) == len(names)
    assert len(set(keys)) == len(keys)


def test_no_key_of_an_id_can_be_another_key() -> None:
    prefixes = [f"test:{key}:" for key in _BY_ID]

    for key in (in_lua(name) for name in _NAMES):
        assert not any(key.startswith(prefix) for prefix in prefixes)


def test_a_script_uses_only_keys_that_exist_and_writes_none_of_its_own(
    subtests: pytest.Subtests,
) -> None:
    for name in sorted(SCRIPTS):
        with subtests.test(name):
            code = re.sub(r"--.*", "", SCRIPTS[name])

            assert set(re.findall(r"\bK\.(\w+)", code)) <= {*_NAMES, *_BY_ID}
            assert not re.findall(r"redis\.call\('\w+', '", code), "name the key in jobs/keys.py"


def test_a_script_compares_a_state_only_with_states_that_exist(subtests: pytest.Subtests) -> None:
    for name in sorted(SCRIPTS):
        with subtests.test(name):
            compared = re.findall(r"\bstate [=~]= '(\w+)'", SCRIPTS[name])

            assert set(compared) <= {*State, "running", "halted"}  # the last two are the account's


def test_only_what_celery_and_people_see_is_without_the_prefix() -> None:
    assert set(_FIXED.values()) == {*QUEUES, "send-code.dead-letter"}


def test_a_prefix_in_braces_is_before_every_key() -> None:
    keys = Keys("{test}")

    assert {getattr(keys, name)[:7] for name in _NAMES} == {"{test}:"}


def test_another_prefix_is_another_world() -> None:
    ours = {in_lua(name) for name in PREFIXED}
    theirs = {key.replace("test:", "other:") for key in ours}

    assert ours.isdisjoint(theirs)
    assert {getattr(Keys("other"), name) for name in PREFIXED} == theirs
