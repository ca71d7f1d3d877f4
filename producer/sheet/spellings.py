"""What people call the columns of a number, and countries, in the languages of their spreadsheets.

Left out on purpose: "area code", "prefix" and "Vorwahl" (the code of a city or an operator as often
as a country's, and one may look like the other), "number" and "code" (of anything).
"""

from __future__ import annotations

import importlib.util
import re
import unicodedata
from functools import cache, lru_cache
from itertools import product
from pathlib import Path

import phonenumbers

from jobs.phone import calling_code_of_region

_BRACKETS = re.compile(r"\(.*?\)|\[.*?\]")
_SEPARATORS = re.compile("[\\s_\\-./\\\\()\\[\\]:*#'\"\u2019\u200b\ufeff]+")
_ACCENTS = re.compile("[\u0300-\u036f]")
_COUNTER = re.compile(r"(?<=\D)\d{1,2}$")


def plain_name(name: str) -> str:
    """Return a name in the form in which names are compared: "Tél. N° (obligatoire)" is "telno".

    Without case, accents, blanks, punctuation and what is in brackets.
    """
    name = _without_accents(name)
    return _SEPARATORS.sub("", _BRACKETS.sub("", name)) or _SEPARATORS.sub("", name)


def _without_accents(name: str) -> str:
    name = unicodedata.normalize("NFKC", name.replace("°", "o")).casefold()
    letters = _ACCENTS.sub("", unicodedata.normalize("NFD", name))
    return unicodedata.normalize("NFC", letters)


def words(text: str) -> frozenset[str]:
    """Return the names in a text, in the form in which they are compared."""
    return frozenset(map(plain_name, text.split()))


def _compounds(*parts: str) -> frozenset[str]:
    """Return all names made of one word of each part in order; "-" stands for no word."""
    words = (["" if word == "-" else word for word in part.split()] for part in parts)
    return frozenset(plain_name("".join(pieces)) for pieces in product(*words))


CODE_SPELLINGS = words(
    """
    countrycode phonecountrycode mobilecountrycode countrycallingcode countrydialcode
    countrydialingcode countryphonecode countryprefix callingcode dialcode dialingcode
    diallingcode dialprefix internationalcode internationalprefix intlcode phonecode phoneprefix
    isdcode idd iddcode cc 国家码 国家号 国家代码 国家代号 国家区号 国家地区码 国家地区代码
    国家地区区号 国际区号 国际代码 区号 國家碼 國碼 國家代碼 國家區號 國家地區代碼 國際區號
    國際代碼 國際碼 區號 国番号 国コード 국가코드 국가번호 códigodepaís codigodepais códigopaís
    codigopais codigodopais códigodopaís prefijo indicatif codepays ländervorwahl laendervorwahl
    landesvorwahl kodenegara ctrycode indicatifpays 国际电话区号 手机区号 國際電話區號 手機區號
    """
)
COUNTRY_SPELLINGS = words(
    """
    country countryregion countryorregion countryarea nation 国家 国家地区 國家 國家地區 국가 país
    pais pays land negara
    """
)
NUMBER_SPELLINGS = (
    _compounds(
        "- customer customers client clients user member contact registered",
        "phone mobile mobilephone tel telephone cell cellphone handphone gsm",
        "- no nr num number numbers",
    )
    | _compounds("telefon handy mobil mobilfunk mobiltelefon ruf", "nr nummer")
    | _compounds(
        "- no num numero numerode nde node",
        "telephone telephonemobile telephoneportable mobile tel",
    )
    | _compounds("- numerode", "telefono telefonomovil telefonocelular movil celular telemovel")
    | _compounds(
        "- 用户 会员 客户 顾客 联系 注册",
        "手机 手机号 手机号码 手机电话 电话 电话号 电话号码 移动电话",
    )
    | _compounds("- 用戶 會員 客戶 顧客 聯絡 註冊", "手機 手機號 手機號碼 電話 電話號碼")
    | words(
        """
        phonenum phones mobiletel phno phnum phnumber contactno contactnumber contacttel smsnumber
        whatsapp whatsappnumber 聯繫電話 行動電話 流動電話 移動電話 携帯 携帯電話 携帯番号
        携帯電話番号 電話番号 휴대폰 휴대폰번호 휴대전화 전화 전화번호 telefon handy mobiltelefon
        telefone númerodetelefone cellulare portable numérodeportable nohp nomorhp nomortelepon
        telepon sốđiệnthoại điệnthoại เบอร์โทร เบอร์โทรศัพท์ телефон номертелефона
        мобильныйтелефон
        """
    )
)
INTERNATIONAL_SPELLINGS = words(
    """
    msisdn e164 e164number phonee164 e164phone internationalnumber internationalphone
    internationalphonenumber phoneinternational fullphonenumber 国际号码 國際號碼
    """
)


_WORD_BREAKS = re.compile(r"[\s_\-./\\()\[\]:*#'\"\u2019,|&+]+")
_MOBILE = re.compile(
    "mobil|cell|handy|handphone|gsm|movil|celular|telemovel|portable|msisdn|whatsapp|sms|nohp"
    "|nomorhp|手机|手機|移动|移動|行動|流動|携帯|휴대"
)
# Words beside a phone's name that leave it one: "Phone 1 - Value", "Home Phone", "Primary mobile".
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

    `phonenumbers.geodata` is passed by: it loads its whole gazetteer, 100 MB, around these names.
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
