"""What people call the columns of a number, in the languages of the spreadsheets that come in.

Left out on purpose: "area code", "prefix" and "Vorwahl" (the code of a city or an operator as often
as a country's, and one may look like the other), "number" and "code" (of anything).
"""

from __future__ import annotations

import re
import unicodedata
from itertools import product

_BRACKETS = re.compile(r"\(.*?\)|\[.*?\]")
_SEPARATORS = re.compile("[\\s_\\-./\\\\()\\[\\]:*#'\"\u2019\u200b\ufeff]+")
_ACCENTS = re.compile("[\u0300-\u036f]")
_COUNTER = re.compile(r"(?<=\D)\d{1,2}$")


def plain_name(name: str) -> str:
    """A name as names are compared: "Tél. N° (obligatoire)" is "telno".

    Without case, accents, blanks, punctuation and what stands in brackets.
    """
    name = unicodedata.normalize("NFKC", name.replace("°", "o")).casefold()
    letters = _ACCENTS.sub("", unicodedata.normalize("NFD", name))
    name = unicodedata.normalize("NFC", letters)
    return _SEPARATORS.sub("", _BRACKETS.sub("", name)) or _SEPARATORS.sub("", name)


def without_counter(plain: str) -> str:
    """A plain name without the counter of "phone1"."""
    return _COUNTER.sub("", plain)


def _words(text: str) -> frozenset[str]:
    return frozenset(map(plain_name, text.split()))


def _compounds(*parts: str) -> frozenset[str]:
    """All names that take a word of each part, one after another; "-" is none."""
    words = (["" if word == "-" else word for word in part.split()] for part in parts)
    return frozenset(plain_name("".join(pieces)) for pieces in product(*words))


CODE_SPELLINGS = _words(
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
COUNTRY_SPELLINGS = _words(
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
    | _words(
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
INTERNATIONAL_SPELLINGS = _words(
    """
    msisdn e164 e164number phonee164 e164phone internationalnumber internationalphone
    internationalphonenumber phoneinternational fullphonenumber 国际号码 國際號碼
    """
)
