"""What people call the columns of a number, and countries, in the languages of their spreadsheets.

The names of columns are in headers.toml.
"""

from __future__ import annotations

import importlib.util
import re
import tomllib
import unicodedata
from collections.abc import Iterator
from functools import cache, lru_cache
from importlib.resources import files
from itertools import chain, product
from pathlib import Path
from typing import Any

import phonenumbers

from jobs.phone import calling_code_of_region

_BRACKETS = re.compile(r"\(.*?\)|\[.*?\]")
_SEPARATORS = re.compile("[\\s_\\-./\\\\()\\[\\]:*#'\"\u2019\u200b\ufeff]+")
_ACCENTS = re.compile("[\u0300-\u036f]")
_COUNTER = re.compile(r"(?<=\D)\d{1,2}$")


def plain_name(name: str) -> str:
    """Return a name in the form in which names are compared: "Tél. N° (obligatoire)" is "telno".

    Without case, accents, spaces, punctuation and what is in brackets.
    """
    name = _without_accents(name)
    return _SEPARATORS.sub("", _BRACKETS.sub("", name)) or _SEPARATORS.sub("", name)


def _without_accents(name: str) -> str:
    name = unicodedata.normalize("NFKC", name.replace("°", "o")).casefold()
    letters = _ACCENTS.sub("", unicodedata.normalize("NFD", name))
    return unicodedata.normalize("NFC", letters)


def _compounds(parts: list[str]) -> Iterator[str]:
    """Yield all names made of one word of each part in order; "-" stands for no word."""
    words = (["" if word == "-" else word for word in part.split()] for part in parts)
    return map("".join, product(*words))


@cache
def _headers() -> dict[str, Any]:
    return tomllib.loads((files(__package__) / "headers.toml").read_text("utf-8"))


def spellings(kind: str) -> frozenset[str]:
    """Return the names of a kind of column in headers.toml, in the form that is compared."""
    made = (_compounds(parts) for parts in _headers()["compounds"].get(kind, ()))
    return frozenset(map(plain_name, chain(_headers()[kind].split(), *made)))


CODE_SPELLINGS = spellings("code")
COUNTRY_SPELLINGS = spellings("country")
NUMBER_SPELLINGS = spellings("number")
INTERNATIONAL_SPELLINGS = spellings("international")

_WORD_BREAKS = re.compile(r"[\s_\-./\\()\[\]:*#'\"\u2019,|&+]+")
_MOBILE = re.compile(
    "mobil|cell|handy|handphone|gsm|movil|celular|telemovel|portable|msisdn|whatsapp|sms|nohp"
    "|nomorhp|手机|手機|移动|移動|行動|流動|携帯|휴대"
)
# Words allowed beside a phone column's name: "Phone 1 - Value", "Home Phone", "Primary mobile".
_BESIDE = frozenset(
    {"value", "primary", "main", "default", "own", "your", "or", "and", "the", "no"}
)
_LANDLINE = frozenset(
    {"home", "work", "business", "office", "landline", "house", "company", "other"}
)


LANDLINE_RANK = 4


@lru_cache(maxsize=4096)
def number_rank(name: str) -> int | None:
    """Rank a column's name by how likely it holds mobile numbers; 0 is the likeliest.

    0 and 1 are mobile, 2 and 3 any phone, `LANDLINE_RANK` is one at home or work; those with a
    counter, such as "Phone 2", come after those without. None: it names no phone number.
    """
    plain = plain_name(name)
    names = NUMBER_SPELLINGS | INTERNATIONAL_SPELLINGS
    is_mobile = _MOBILE.search(plain) is not None
    if plain in names:
        return 0 if is_mobile else 2
    words = words_of(name)
    left = [word for word in words if word not in _BESIDE | _LANDLINE and not word.isdigit()]
    is_number = "".join(left) in names or (bool(left) and all(word in names for word in left))
    if not is_number and _COUNTER.sub("", plain) not in names:
        return None
    if is_mobile:
        return 1
    return LANDLINE_RANK if _LANDLINE & set(words) else 3


def words_of(name: str) -> list[str]:
    """Return a name's words, without case and accents."""
    return [word for word in _WORD_BREAKS.split(_without_accents(name)) if word]


# Not among the names of the library below.
_OTHER_NAMES = {
    "uk": "GB", "greatbritain": "GB", "usa": "US", "unitedstatesofamerica": "US", "uae": "AE",
    "macau": "MO", "czechia": "CZ",
}  # fmt: skip
_BEFORE_A_COUNTRY = re.compile(r"^(?:the|republicof|中国|中國)+")
_BEHIND_A_COUNTRY = re.compile(r"(?:sar|prchina|china|republicof|the|特别行政区|特別行政區)+$")


def calling_code_of_country(name: str) -> str | None:
    """Return a country's calling code by its name: "852" for "Hong Kong" or "香港".

    None unless the whole text is a country's name, and of one country only in all languages: a
    guess would text a stranger.
    """
    plain = _country(name)
    begun = _BEFORE_A_COUNTRY.sub("", plain)
    ways = (plain, begun, *(_BEHIND_A_COUNTRY.sub("", way) for way in (plain, begun)))
    return next((code for way in ways if (code := _countries().get(way))), None)


def _country(name: str) -> str:
    """Return a name's letters; those in brackets stay, as in "Congo (Kinshasa)"."""
    return re.sub(r"[\W_]+", "", _without_accents(name.replace("&", "and")))


@cache
def _countries() -> dict[str, str]:
    """Return calling codes by the countries' names, which libphonenumber has in 30 languages.

    `phonenumbers.geodata` is not imported: with these names it loads its whole gazetteer, 100 MB.
    """
    path = Path(phonenumbers.__file__).with_name("geodata") / "locale.py"
    spec = importlib.util.spec_from_file_location("phonenumbers.geodata.locale", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"no names of countries at {path}")
    data = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(data)
    found: dict[str, set[str | None]] = {}
    for region, names in data.LOCALE_DATA.items():
        for name in names.values():
            if not name.startswith("*"):  # the same as in another language
                found.setdefault(_country(name), set()).add(calling_code_of_region(region))
    for name, region in _OTHER_NAMES.items():
        found[name] = {calling_code_of_region(region)}
    return {name: code for name, (code, *others) in found.items() if code and not others}
