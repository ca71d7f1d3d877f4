"""The console's catalogues are complete in each language, and have all that pages ask for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
from jinja2.meta import find_undeclared_variables
from jinja2.nodes import Call, Macro, Name

from jobs.batch import BatchState
from jobs.batches import Order
from jobs.codes import CODES
from jobs.deadletters import Verb
from producer.results import PEOPLE_COLUMNS, RESULT_COLUMNS, own_columns
from producer.sheet import FAULTS
from producer.users import Role
from producer.web.console.frame import templates
from producer.web.console.texts import LANGUAGES, catalogue, language_for

TOP = Path(__file__).resolve().parents[2] / "producer" / "web"
PLACE = re.compile(r"\{(\w*)\}")
ASKED = re.compile(r"""\b(?:t|texts|self)\(\s*["']([a-z_]+\.[a-z_0-9]+)["']\s*[,)]""")


OF_FILES = ("fault", "fault_exact", "fault_remedy", "unreadable", "unreadable_remedy")
ENGLISH_ELSEWHERE = ("code.", "remedy.", "note.", *(f"{each}." for each in OF_FILES))
"""English words for codes stand in jobs/codes.py, those for rows and files with their faults."""


def places(text: object) -> dict[str, set[str]]:
    forms = {"other": text} if isinstance(text, str) else dict(text)  # type: ignore[call-overload]
    return {form: set(PLACE.findall(words)) for form, words in forms.items()}


def test_the_languages_have_the_same_texts_with_the_same_places() -> None:
    english, chinese = catalogue("en"), catalogue("zh")

    assert english.keys() == {key for key in chinese if not key.startswith(ENGLISH_ELSEWHERE)}
    for key, text in english.items():
        assert places(text)["other"] == places(chinese[key])["other"], key
        for language in (text, chinese[key]):
            assert set(places(language)) <= {"one", "other"}, key


@pytest.mark.parametrize("kind", ["code", "remedy"])
def test_every_code_has_chinese_words_too(kind: str) -> None:
    there = {key.removeprefix(f"{kind}.") for key in catalogue("zh") if key.startswith(f"{kind}.")}

    assert there == {*map(str, CODES), "undocumented"}


def test_a_fault_that_the_code_names_has_its_words_and_none_is_left_over() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in TOP.parent.rglob("*.py"))
    asked = set(re.findall(r'FAULTS\["(\w+)"\]', code))

    assert asked <= FAULTS.keys() <= set(re.findall(r'"(\w+)"', code))


@pytest.mark.parametrize("kind", ["fault", "unreadable"])
def test_what_is_wrong_with_rows_and_files_comes_with_a_remedy_in_chinese_too(kind: str) -> None:
    texts = catalogue("zh")
    found = {key.partition(".")[2] for key in texts if key.startswith(f"{kind}.")}

    assert found == {key.partition(".")[2] for key in texts if key.startswith(f"{kind}_remedy.")}
    raised = "".join(
        each.read_text(encoding="utf-8")
        for each in (*TOP.parents[1].glob("jobs/*.py"), *TOP.parent.rglob("*.py"))
    )
    assert {each for each in found if f'"{each}"' not in raised} == set()


def test_a_file_of_results_in_any_language_is_known_by_its_columns() -> None:
    names = ("outcome", "sent_to", "ended", "left_because")

    shown = {str(catalogue(each)[f"results.{name}"]) for each in LANGUAGES for name in names}

    assert shown == PEOPLE_COLUMNS
    for told in shown:
        assert own_columns(["name", "phone", told, f"{told} (UTC+08:00)", *RESULT_COLUMNS]) == 2
    assert own_columns(["name", "Ended", "status"]) == 3


def test_every_text_that_a_page_asks_for_is_there(subtests: pytest.Subtests) -> None:
    pages = [*TOP.glob("pages/*.html"), *TOP.glob("console/*.py")]
    assert len(pages) > 30
    for path in pages:
        with subtests.test(path.name):
            asked = set(ASKED.findall(path.read_text(encoding="utf-8")))

            assert asked <= catalogue("en").keys()


def test_a_page_calls_nothing_but_its_own_macros_and_what_every_page_has(
    subtests: pytest.Subtests,
) -> None:
    pages = list(TOP.glob("pages/*.html"))
    assert len(pages) > 20
    for path in pages:
        with subtests.test(path.name):
            page = templates().parse(path.read_text(encoding="utf-8"))
            called = {each.node.name for each in page.find_all(Call) if isinstance(each.node, Name)}
            own = {each.name for each in page.find_all(Macro)}

            # figures: batches.html is handed it
            assert called & find_undeclared_variables(page) - own <= {
                "t",
                "csrf",
                "asset",
                "figures",
            }


def whats() -> set[str]:
    """Return all that people do, as the code notes it: `Action(what=…)`."""
    found: set[str] = set()
    for path in (TOP.parents[1] / each for each in ("jobs", "producer", "worker")):
        for source in path.rglob("*.py"):
            text = source.read_text(encoding="utf-8")
            found.update(re.findall(r'\bwhat=f?"([^"]+)"', text) if "Action(" in text else ())
    steered = {"batch {order}": get_args(Order), "dead {decision.verb}": get_args(Verb)}
    webhooks = (TOP.parents[1] / "jobs" / "webhooks.py").read_text(encoding="utf-8")
    steered["webhook {verb}"] = tuple(re.findall(r'_change(?:_all)?\("(\w+)"', webhooks))
    for pattern, verbs in steered.items():
        found.remove(pattern)
        found |= {f"{pattern.partition(' ')[0]} {verb}" for verb in verbs}
    return found


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    ("table", "wanted"),
    [
        ("did", {what.replace(" ", "_") for what in whats()}),
        ("phase", {*BatchState, "importing", "scheduled", "starts_at", "undone", "stopped"}),
        ("role", {*Role}),
        ("role_name", {*Role}),
    ],
)
def test_a_table_has_words_for_each_value_that_a_page_looks_up(
    language: str, table: str, wanted: set[str]
) -> None:
    there = {key.partition(".")[2] for key in catalogue(language) if key.startswith(f"{table}.")}

    assert there == wanted


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("", "en"),
        ("de", "en"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("en-GB,en;q=0.9,zh;q=0.8", "en"),
        ("de,zh;q=0.5,en;q=0.1", "zh"),
        ("zh;q=much, en", "en"),
    ],
)
def test_the_browser_chooses_the_language(accepted: str, language: str) -> None:
    assert language_for(accepted) == language
