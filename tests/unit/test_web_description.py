"""The OpenAPI document, and the page made from it."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from config.settings import Settings
from producer.web.app import make_app
from producer.web.console.frame import asset
from producer.web.description import page_of

TOP = Path(__file__).parents[2]
OPERATIONS = {
    "send_code",
    "find_code",
    "show_code",
    "submit_batch",
    "check_batch",
    "list_batches",
    "show_batch",
    "take_results",
    "pause_batch",
    "resume_batch",
    "cancel_batch",
    "show_status",
}


def operations() -> dict[str, dict[str, Any]]:
    document = make_app(Settings()).openapi()
    return {
        operation["operationId"]: operation
        for methods in document["paths"].values()
        for operation in methods.values()
    }


def test_every_operation_has_a_short_name_a_token_and_words() -> None:
    found = operations()

    assert found.keys() == OPERATIONS
    for operation in found.values():
        assert operation["description"]
        assert operation["security"] == [{"HTTPBearer": []}]


def test_every_answer_of_every_operation_has_an_example_and_the_usual_ones_are_there() -> None:
    for name, operation in operations().items():
        answers = operation["responses"]
        assert {"401", "403", "405", "413", "503"} <= answers.keys(), name
        for status, answer in answers.items():
            for kind, content in answer["content"].items():
                assert content["example"], (name, status, kind)
            if status >= "400":
                assert list(answer["content"]) == ["application/problem+json"], (name, status)
        for content in operation.get("requestBody", {}).get("content", {}).values():
            assert "example" in content or "$ref" in content["schema"]


def test_every_error_of_a_code_is_in_the_docs() -> None:
    told = (TOP / "docs" / "triggers.md").read_text("utf-8")

    for name in ("send_code", "find_code", "show_code"):
        for status, answer in operations()[name]["responses"].items():
            if status >= "400":
                code = answer["content"]["application/problem+json"]["example"]["code"]
                assert f"`{code}`" in told, (name, status)


def test_every_schema_that_the_description_names_is_in_it() -> None:
    document = make_app(Settings()).openapi()

    named = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
    assert "ProblemDocument" in named
    assert named <= document["components"]["schemas"].keys()


def test_every_field_of_a_request_is_explained() -> None:
    document = make_app(Settings()).openapi()

    form = document["paths"]["/v1/batches"]["post"]["requestBody"]["content"]
    fields = form["multipart/form-data"]["schema"]["properties"]
    assert all(field["description"] for field in fields.values())


class Links(HTMLParser):
    """Collects what a page loads or links to, and what it must not have."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.inline: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.targets += [value or "" for name, value in attrs if name in {"href", "src"}]
        self.inline += [name for name, _ in attrs if name == "style" or name.startswith("on")]
        if tag in {"script", "style"}:
            self.inline.append(tag)


def test_the_page_shows_every_operation_and_asks_no_other_host_for_anything() -> None:
    page = page_of(make_app(Settings()))
    links = Links()

    links.feed(page)

    assert set(links.targets) == {
        asset("docs.css"),
        "/openapi.json",
        *(f"#{n}" for n in OPERATIONS),
    }
    assert links.inline == []
