"""The console's words: one catalogue for each language, a table for each page.

A text has named places, `{count}`; one that depends on a number is a table of `one` and `other`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from markupsafe import Markup, escape

from jobs.vault import CHANGED, UNOPENED

_MINUTE_S, _HOUR_S, _DAY_S = 60, 3_600, 86_400

LANGUAGES = {"en": "en", "zh": "zh-Hans"}
"""By their catalogue: what a page's `lang` says."""


class Texts:
    """The texts of a language. Called with a text's key and values it returns safe HTML."""

    def __init__(self, language: str) -> None:
        self.language = language
        self._texts = catalogue(language)

    def __call__(self, key: str, /, **values: Any) -> Markup:
        """Return a text with its values, which are escaped.

        Raises:
            KeyError: there is no such text, or it has a place without a value.
        """
        text = self._texts[key]
        if not isinstance(text, str):
            text = text["one" if values["count"] == 1 and "one" in text else "other"]
        shown = {
            name: f"{value:,}" if isinstance(value, int) else value
            for name, value in values.items()
        }
        return Markup(escape(text)).format(**shown)  # noqa: S704 (escaped)

    def span(self, seconds: float) -> Markup:
        """Return how long something takes: "48 s", "3 min", "2 h 5 min", "3 d 4 h"."""
        whole = max(0, round(seconds))
        if whole < 2 * _MINUTE_S:
            return self("time.seconds", count=whole)
        if whole < _HOUR_S:
            return self("time.minutes", count=round(whole / _MINUTE_S))
        if whole < _DAY_S:
            hours, rest = divmod(whole, _HOUR_S)
            return self("time.hours", count=hours, minutes=rest // _MINUTE_S)
        days, rest = divmod(whole, _DAY_S)
        return self("time.days", count=days, hours=rest // _HOUR_S)

    def get(self, key: str, default: str, /, **values: Any) -> Markup:
        """Return a text, or another one, such as the English words that stand with a code."""
        return self(key, **values) if key in self._texts else escape(default)

    def said(self, text: str) -> str:
        """Return what a person wrote, with words of this language where it could not be opened."""
        for stand_in, key in ((UNOPENED, "frame.unopened"), (CHANGED, "frame.changed")):
            if stand_in in text:
                text = text.replace(stand_in, self(key).unescape())
        return text

    def fault(self, found: Mapping[str, str], values: Mapping[str, Mapping[str, str]]) -> Markup:
        """Return what is wrong with a row in words: English ones are its message.

        `values`: what stands in messages, by the message.
        """
        code, message = found["code"], found["message"]
        if message in values and f"fault_exact.{code}" in self._texts:
            return self(f"fault_exact.{code}", **values[message])
        return self.get(f"fault.{code}", message[:1].upper() + message[1:])


@cache
def catalogue(language: str) -> Mapping[str, str | Mapping[str, str]]:
    """Return all texts of a language by "page.name"."""
    path = files("producer.web") / "pages" / "texts" / f"{language}.toml"
    pages: dict[str, dict[str, Any]] = tomllib.loads(path.read_text(encoding="utf-8"))
    return {f"{page}.{name}": text for page, names in pages.items() for name, text in names.items()}


def language_for(accepted: str) -> str:
    """Return the language that suits an Accept-Language header best."""
    best, weight = "en", 0.0
    for part in accepted.split(","):
        name, _, options = part.strip().partition(";")
        found = name.strip().lower().partition("-")[0]
        quality = options.strip().removeprefix("q=")
        try:
            wanted = float(quality) if quality else 1.0
        except ValueError:
            continue
        if found in LANGUAGES and wanted > weight:
            best, weight = found, wanted
    return best
