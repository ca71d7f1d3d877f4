"""Hostile and odd input files, each with what must come out of it.

Made by the tests, not kept as files; `write_odd_files` lays all of them in a folder, for tests of
the commands. All numbers are fictional: 852 5xxx xxxx, the vendor's example, reserved ranges.
"""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

from tests.unit.odd_file import EXAMPLE, GOOD, GOOD_2, OddFile, byte_file, text_file
from tests.unit.odd_workbooks import hostile_workbooks, odd_workbooks

HEADER = "country_code,phone_num,name"
ROW = "852,51234567,Ada"
ROW_2 = "852,51234568,Ben"


@cache
def odd_files() -> tuple[OddFile, ...]:
    """Return all of them, each made once; names are unique."""
    return tuple(replace(odd, make=cache(odd.make)) for odd in _all())


def readable() -> list[OddFile]:
    return [odd for odd in odd_files() if not odd.error]


def unreadable() -> list[OddFile]:
    return [odd for odd in odd_files() if odd.error]


def _all() -> Iterator[OddFile]:
    yield from _plain_text()
    yield from _encodings()
    yield from _quotes()
    yield from _headers()
    yield from _numbers()
    yield from _brought()
    yield from _json_lines()
    yield from odd_workbooks()
    yield from hostile_workbooks()
    yield from _no_sheets()


def write_odd_files(folder: Path) -> list[tuple[Path, OddFile]]:
    written = []
    for odd in odd_files():
        path = folder / odd.name
        path.write_bytes(odd.make())
        written.append((path, odd))
    return written


def _csv(*lines: str, end: str = "\n") -> str:
    return "".join(line + end for line in (HEADER, *lines))


def _plain_text() -> Iterator[OddFile]:
    both = (GOOD, GOOD_2)
    yield text_file("plain.csv", _csv(ROW, ROW_2), phones=both)
    yield text_file("crlf.csv", _csv(ROW, ROW_2, end="\r\n"), phones=both)
    yield text_file("cr-only.csv", _csv(ROW, ROW_2, end="\r"), phones=both)
    yield text_file("mixed-ends.csv", f"{HEADER}\r{ROW}\r\n{ROW_2}\n", phones=both)
    yield text_file("no-final-newline.csv", _csv(ROW, ROW_2).rstrip(), phones=both)
    yield text_file("semicolons.csv", _csv(ROW, ROW_2).replace(",", ";"), phones=both)
    yield text_file("tabs.tsv", _csv(ROW, ROW_2).replace(",", "\t"), phones=both)
    yield text_file("bars.txt", _csv(ROW, ROW_2).replace(",", "|"), phones=both)
    yield text_file("announced.csv", "sep=;\n" + _csv(ROW).replace(",", ";"), phones=(GOOD,))
    yield text_file(
        "empty-lines.csv",
        f"\n\n{HEADER}\n\n,,\n{ROW}\n   ,  ,\n\n\nbad\n",
        problems=((10, "no_phone_num"),),
        phones=(GOOD,),
    )
    yield text_file("header-only.csv", HEADER + "\n")
    yield text_file(
        "one-column.csv",
        f"phone\n{GOOD}\n{EXAMPLE}\n",
        phones=(GOOD, EXAMPLE),
        warnings=frozenset({"not_in_plan"}),
    )
    yield text_file(
        "ragged.csv",
        _csv("852,51234567", "852,51234568,Ben,,,", "852,51234569,Cy,Ltd", "852"),
        phones=both,
        problems=((4, "too_many_cells"), (5, "no_phone_num")),
        warnings=frozenset({"short_row"}),
    )
    yield text_file("end-mark.csv", _csv(ROW, ROW_2) + "\x1a", phones=both)
    yield text_file(
        "end-marks-in-the-last-line.csv", f"phone\n{GOOD}" + "\x1a" * 99, phones=(GOOD,)
    )
    yield text_file(
        "end-mark-within.csv",
        _csv(ROW, "\x1a", ROW_2),
        problems=((3, "no_phone_num"),),
        phones=both,
    )
    yield text_file(
        "wide.csv",
        ",".join(["phone", *(f"c{i}" for i in range(5000))]) + f"\n{GOOD}" + "," * 5000 + "\n",
        phones=(GOOD,),
    )
    yield byte_file("packed.csv.gz", gzip.compress(_csv(ROW).encode(), mtime=0), phones=(GOOD,))
    yield byte_file(
        "many-blank-lines.csv", (_csv(ROW) + "\n" * 20_000 + ROW_2).encode(), phones=both
    )


def _encodings() -> Iterator[OddFile]:
    chinese = _csv("852,51234567,\u5f20\u4f1f", "852,51234568,\u674e\u5a1c")
    western = _csv("852,51234567,Jos\u00e9 Mu\u00f1oz", "852,51234568,Concei\u00e7\u00e3o")
    both = (GOOD, GOOD_2)
    yield text_file("bom.csv", chinese, "utf-8-sig", phones=both)
    yield text_file("utf16.csv", chinese, "utf-16", phones=both)
    yield byte_file("utf16-be.csv", b"\xfe\xff" + chinese.encode("utf-16-be"), phones=both)
    yield text_file("utf16-le-no-bom.csv", chinese, "utf-16-le", phones=both)
    yield text_file("utf16-be-no-bom.csv", chinese, "utf-16-be", phones=both)
    yield text_file(
        "utf16-ends-in-a-letter.csv",
        _csv(ROW).rstrip() + "\u671a",
        "utf-16-be",
        phones=(GOOD,),
    )
    yield text_file("utf32.csv", chinese, "utf-32", phones=both)
    yield text_file("gb18030.csv", chinese, "gb18030", phones=both)
    yield text_file("latin-1.csv", western, "latin-1", phones=both)
    yield text_file("cp1252.csv", western.replace("Jos", "\u201cJos"), "cp1252", phones=both)
    yield text_file(
        "big5.csv",
        _csv(*["852,51234567,\u9673\u5c0f\u660e\u529f\u8a31"] * 9),
        "big5",
        error="encoding_unclear",
    )
    yield text_file(
        "cyrillic.csv",
        _csv("852,51234567,\u0418\u0432\u0430\u043d \u041f\u0435\u0442\u0440\u043e\u0432"),
        "cp1251",
        error="encoding_unclear",
    )
    late = (_csv(*[f"852,{51000000 + i},\u5f20\u4f1f" for i in range(20_000)])).encode()
    yield byte_file("late-bad-byte.csv", late + b"852,51234567,\xff\n", error="bad_bytes")
    yield byte_file("cut-in-a-letter.csv", late[:-2], error="bad_bytes")
    yield byte_file("utf16-odd-length.csv", chinese.encode("utf-16") + b"\x0a", error="bad_bytes")
    yield byte_file(
        "utf16-lone-surrogate.csv",
        chinese.encode("utf-16") + b"\x00\xd8\x31\x00",
        error="bad_bytes",
    )
    yield byte_file(
        "two-encodings.csv",
        (chinese + "852,51234567,\u5f20\n" * 50).encode() + chinese.encode("gb18030") * 40,
        error="encoding_unclear",
    )
    yield byte_file(
        "nuls.csv",
        _csv("852,51234567\0\0,Ada\0", "852,5123\x004568,Ben").encode() + b"\0" * 4096,
        phones=(GOOD,),
        problems=((3, "not_digits"),),
    )
    yield byte_file("only-nuls.csv", b"\0" * 70_000, error="record_too_long")
    yield byte_file(
        "random-bytes.csv",
        bytes((i * 7919 + (i >> 3)) % 256 for i in range(20_000)),
        error="encoding_unclear",
    )


def _quotes() -> Iterator[OddFile]:
    yield text_file(
        "quoted-breaks.csv", _csv('852,51234567,"Ada\nLove\r\nlace"', ROW_2), phones=(GOOD, GOOD_2)
    )
    yield text_file(
        "doubled-quotes.csv", _csv('852,51234567,"5"" screen, ""big"""'), phones=(GOOD,)
    )
    yield text_file(
        "blanks-before-quotes.csv",
        'country_code, "phone_num", name\n'
        '"852", "51234567", "Ada, ""the"" first"\n'
        '852,  "51234568", x\n852, "51234568" x, y\n',
        phones=(GOOD, GOOD_2),
        problems=((4, "not_digits"),),
    )
    yield text_file("sloppy-quotes.csv", _csv('852,51234567,"Ada" Lovelace'), phones=(GOOD,))
    yield text_file("inches.csv", _csv('852,51234567,5" screen', ROW_2), phones=(GOOD, GOOD_2))
    yield text_file(
        "unclosed-quote.csv",
        _csv('852,51234567,"Ada', *[ROW_2] * 3),
        phones=(GOOD_2,) * 3,
        problems=((2, "unclosed_quote"),),
    )
    yield text_file(
        "unclosed-quote-of-5000-lines.csv",
        _csv('852,51234567,"Ada', *[ROW_2] * 5_000),
        phones=(GOOD_2,) * 5_000,
        problems=((2, "unclosed_quote"),),
    )
    yield text_file(
        "quote-closed-by-another.csv",
        _csv(ROW, '852,51234569,"Cy', ROW_2, '852,51234560,"Di" x', ROW_2),
        phones=(GOOD, GOOD_2, "+85251234560", GOOD_2),
        problems=((3, "unclosed_quote"),),
    )
    yield text_file(
        "two-inches.csv",
        "name,country_code,phone_num\n"
        '"5 in,852,51234567\nBen,852,51234568\n"6 in,852,51234569\nCy,852,51234560\n',
        phones=(GOOD_2, "+85251234560"),
        problems=((2, "unclosed_quote"), (4, "unclosed_quote")),
    )
    yield text_file(
        "unclosed-quote-in-the-last-line.csv",
        _csv(ROW, '852,51234568,"Ben').rstrip("\n"),
        phones=(GOOD,),
        problems=((3, "unclosed_quote"),),
    )
    yield text_file(
        "quote-closed-after-inches.csv",
        'name,country_code,phone_num\n"5 in,852,51234567\n6",852,51234568\n',
        phones=(GOOD_2,),
        problems=((2, "unclosed_quote"),),
    )
    yield text_file(
        "unclosed-quotes-without-numbers.csv",
        _csv('852,,"Cy', '852,,"Di" x', ROW),
        phones=(GOOD,),
        problems=((2, "unclosed_quote"), (3, "no_phone_num")),
    )
    yield text_file(
        "unclosed-quote-before-a-long-line.csv",
        _csv('852,51234567,"Ada', f"852,51234569,{'x' * 200_000}", ROW_2),
        phones=(GOOD_2,),
        problems=((2, "unclosed_quote"), (3, "record_too_long")),
    )
    yield text_file(
        "broken-quotes.csv", _csv(*['852,51234567,"a""b'] * 3000), error="broken_quotes"
    )
    yield text_file(
        "long-cell.csv",
        _csv(f"852,51234567,{'x' * 200_000}", ROW_2),
        phones=(GOOD_2,),
        problems=((2, "record_too_long"),),
    )
    yield text_file(
        "one-endless-line.csv",
        HEADER + "\n" + "852,51234567," * 100_000,
        problems=((2, "record_too_long"),),
    )
    yield text_file(
        "quote-in-header.csv", 'country_code,"phone_num,name\n' + ROW + "\n", error="unclosed_quote"
    )


def _headers() -> Iterator[OddFile]:
    yield text_file("vendor-names.csv", "CountryCode,PhoneNum\n852,51234567\n", phones=(GOOD,))
    yield text_file(
        "chinese-names.csv",
        "\u5ba2\u6237,\u56fd\u5bb6\u7801,\u624b\u673a\u53f7\n\u5f20,852,51234567\n",
        phones=(GOOD,),
    )
    yield text_file(
        "shouting.csv", "COUNTRY CODE,Mobile No. (required)\n+852,51234567\n", phones=(GOOD,)
    )
    yield text_file(
        "country-and-mobile.csv",
        f"Country,Mobile\nHong Kong,{GOOD}\nHK,51234568\n",
        phones=(GOOD, GOOD_2),
        repaired=frozenset({"region"}),
    )
    yield text_file("msisdn.csv", "msisdn\n85251234567\n", phones=(GOOD,))
    yield text_file(
        "preferred-name.csv",
        f"phone_num,country_code,tel\n51234567,852,{EXAMPLE}\n",
        phones=(GOOD,),
    )
    yield text_file("no-header.csv", f"{ROW}\n{ROW_2}\n", error="no_header")
    yield text_file("other-header.csv", "id,name\n1,Ada\n", error="no_phone_column")
    yield text_file(
        "two-phones.csv",
        "country_code,Mobile,Cell\n852,51234567,51234568\n",
        error="ambiguous_columns",
    )
    yield text_file(
        "two-codes.csv",
        "dial code,calling code,phone_num\n852,852,51234567\n",
        error="ambiguous_columns",
    )
    title = "Customers of 2024-11-04"
    yield text_file(
        "title-above.csv",
        f"{title},,\n,,\n{HEADER}\n{ROW}\n852,bad,Cy\n",
        phones=(GOOD,),
        problems=((5, "not_digits"),),
    )
    yield text_file(
        "title-without-separators.csv",
        f'{title}\n"two\nlines"\n\n' + _csv(ROW).replace(",", ";"),
        phones=(GOOD,),
    )
    yield text_file("title-as-wide.csv", f"{title},of,Ada\n{HEADER}\n{ROW}\n", error="header_below")
    yield text_file(
        "customer-above.csv",
        "Ben,852,51234568,\nAda,852,51234567,Mobile\n",
        error="no_header",
    )
    yield text_file("two-headers-below.csv", f"{title},\n" + _csv(ROW) * 2, error="header_below")
    yield text_file(
        "two-phones-below.csv",
        f"{title},,\ncountry_code,Mobile,Cell\n852,51234567,51234568\n",
        error="ambiguous_columns",
    )
    yield text_file(
        "header-of-controls.csv", "\x1b[31mred\x1b[0m,\u202eabc\n1,2\n", error="no_phone_column"
    )


def _numbers() -> Iterator[OddFile]:
    yield text_file(
        "excel-damage.csv",
        _csv(
            "852,8.52E+10,a",
            "852,5.12E+07,b",
            "852,#N/A,c",
            "852,########,d",
            "852,,e",
            "225,701234567,f",
            "852,51234567/51234568,g",
            "852,51234567 51234568,h",
            "852,2024-11-04,i",
            "852,51234567 ext 3,j",
            "852,call me,k",
            "Atlantis,51234567,l",
            ",51234567,m",
            "85251234567,51234567,n",
            "852,+6581234567,o",
            f"852,{'5' * 33},p",
            "852,-51233715,q",
            "852,0,r",
            "852,51234567 (2),s",
            "852,51234567-1,t",
            "852,0.51234573,u",
        ),
        problems=(
            (2, "scientific"),
            (3, "scientific"),
            (4, "spreadsheet_error"),
            (5, "spreadsheet_error"),
            (6, "no_phone_num"),
            (7, "leading_zero_lost"),
            (8, "several_numbers"),
            (9, "several_numbers"),
            (10, "date"),
            (11, "extension"),
            (12, "not_digits"),
            (13, "country_not_a_code"),
            (14, "no_country_code"),
            (15, "country_code_length"),
            (16, "country_codes_differ"),
            (17, "phone_num_length"),
            (18, "computed"),
            (19, "zero"),
            (20, "extension"),
            (21, "extension"),
            (22, "fraction"),
        ),
    )
    yield text_file(
        "repairable.csv",
        _csv(
            "852,5123-4567,a",
            "+852,(5123) 4567,b",
            "852.0,51234567.0,c",
            "852,'51234567,d",
            '852,"51,234,567",e',
            "852,+85251234567,f",
            "852,0085251234567,g",
            "852,85251234567,h",
            "HK,5.1234567E+07,i",
            "Hong Kong (+852),tel:51234567,j",
            "852,\uff15\uff11\uff12\uff13\uff14\uff15\uff16\uff17,k",
            '852,"=""51234567""",l',
        ),
        phones=(GOOD,) * 12,
        repaired=frozenset(
            {
                "formatting",
                "decimal",
                "apostrophe",
                "thousands",
                "country_code_repeated",
                "exponent",
                "region",
                "code_within_text",
                "prefix",
            }
        ),
    )
    yield text_file(
        "trunk-prefix.csv",
        _csv("44,07400 123456,a", "1242,3591234,b"),
        phones=("+447400123456", "+12423591234"),
        repaired=frozenset({"trunk_prefix", "area_in_code", "formatting"}),
    )
    yield text_file(
        "barred.csv",
        _csv("86,13800000000,a", "7,9123456789,b", "380,501234567,c"),
        problems=tuple((line, "barred_country_code") for line in (2, 3, 4)),
    )
    yield text_file(
        "no-such-code.csv",
        _csv("999,51234567,a", "020,51234567,b"),
        problems=((2, "unknown_country_code"), (3, "unknown_country_code")),
    )
    yield text_file(
        "doubtful.csv",
        _csv("852,1888888888,a", "49,4915112345678,b", "852,512345678,c"),
        phones=("+8521888888888", "+494915112345678", "+852512345678"),
        warnings=frozenset({"unusual_length", "country_code_perhaps_repeated", "not_in_plan"}),
    )
    yield text_file(
        "lost-plus.csv",
        "phone\n85251234567\n13012345678\n",
        problems=((2, "no_country_code"), (3, "no_country_code")),
    )
    yield text_file(
        "formulas.csv",
        _csv("=852,=51234567,=HYPERLINK(1)", "852,@SUM(1),x", f"852,51234567,'{'=1+1'}"),
        phones=(GOOD,),
        problems=((2, "not_digits"), (3, "not_digits")),
    )
    yield text_file(
        "example.csv",
        _csv("852,18888888888,vendor"),
        phones=(EXAMPLE,),
        warnings=frozenset({"not_in_plan"}),
    )


def _brought() -> Iterator[OddFile]:
    """Yield what people export from address books, shops and phones."""
    yield text_file(
        "google-contacts.csv",
        "Name,Birthday,Notes,E-mail 1 - Value,Phone 1 - Type,Phone 1 - Value\r\n"
        "Ada,,,,Mobile,+852 5123 4567\r\nBo,,,,Work,+852 5123 4568\r\n",
        phones=(GOOD, GOOD_2),
        repaired=frozenset({"formatting"}),
    )
    yield text_file(
        "way-of-contact.csv",
        f"Client,Cell / WhatsApp,Preferred contact\nAda,{GOOD},Mobile\nBo,{GOOD_2},Email\n",
        phones=(GOOD, GOOD_2),
    )
    yield text_file(
        "labels-without-a-header.csv",
        f"Ada,Mobile,{GOOD}\nBo,Mobile,{GOOD_2}\n",
        error="no_header",
    )
    yield text_file(
        "labels-below-unknown-names.csv",
        f"Who,Kind,Where\nAda,Mobile,{GOOD}\nBo,Mail,{GOOD_2}\n",
        error="no_phone_column",
    )
    yield text_file(
        "salesforce.csv",
        '"First Name","Phone","Fax","Mobile","Mailing Country"\n'
        '"Ada","+852 2123 4567","","5123 4567","Hong Kong"\n'
        '"Bo","+852 2123 4568","","","Hong Kong"\n"Cy","","+85221234569","","Hong Kong"\n',
        phones=(GOOD, "+85221234568"),
        problems=((4, "no_phone_num"),),
        repaired=frozenset({"formatting", "region"}),
        warnings=frozenset({"other_column", "not_mobile"}),
    )
    yield text_file(
        "odoo.csv",
        '"id","Name","Phone","Mobile","Country"\n'
        f'"__export__.res_partner_1","Ada","+852 2123 4567","{GOOD}","Hong Kong"\n',
        phones=(GOOD,),
    )
    yield text_file(
        "mail-copies.csv",
        f"Name,Email,CC,Phone\nAda,a@x.y,boss@x.y,51234567\nBo,b@x.y,,{GOOD}\n",
        phones=(GOOD,),
        problems=((2, "no_country_code"),),
    )
    yield text_file(
        "dialled-abroad.csv",
        "phone,name\n001 65 8234 5678,a\n001-65-9234-5678,b\n0065 8234 5678,c\n"
        "001 852 5123 4567,d\n01185251234567,e\n0011 65 8234 5678,f\n",
        phones=("+6582345678", GOOD),
        problems=tuple((line, "dialled_abroad") for line in (2, 3, 6, 7)),
        repaired=frozenset({"formatting"}),
    )
    yield text_file(
        "area-and-slash.csv",
        "country_code;phone_num\n49;0151/23456789\n49;+49 151 / 23 45 67 89\n"
        "43;0664/1234567\n41;079/123 45 67\n852;51234567/8\n852;5123/456789012\n",
        phones=("+4915123456789", "+4915123456789", "+436641234567", "+41791234567"),
        problems=((6, "not_digits"), (7, "not_digits")),
        repaired=frozenset({"formatting", "country_code_repeated", "trunk_prefix"}),
    )
    yield text_file(
        "links-and-labels.csv",
        "phone\n85251234567@s.whatsapp.net\nhttps://wa.me/85251234567?text=hi\n"
        "tel:+852-5123-4567\nsip:+85251234567@x\nwhatsapp:+85251234567\nsms:+85251234567\n"
        "Mobile: +85251234567\n+85251234567 mobile\n++85251234567\n+00 852 51234567\n"
        "+852(0)51234567\n+85251234567 (Ada)\ntel:+852-5123-4567;ext=12\n(852) 5123 4567\n"
        "order 85251234567\nMobile: +85251234567 or +85251234568\n",
        phones=(GOOD,) * 12,
        problems=(
            (14, "extension"),
            (15, "no_country_code"),
            (16, "not_digits"),
            (17, "several_numbers"),
        ),
        repaired=frozenset({"prefix", "formatting", "trunk_prefix"}),
        warnings=frozenset({"words_beside"}),
    )
    yield text_file(
        "not-mobile.csv",
        _csv(
            "852,21234567,landline",
            "852,800123456,toll-free",
            "44,9012345678,premium",
            "33,810123456,shared cost",
            "881,612345678,satellite",
            "27,8169386324,no such number",
            "55,1161234567,no such number",
            "84,1201234567,no such number",
        ),
        phones=(
            *("+85221234567", "+852800123456", "+449012345678", "+33810123456"),
            *("+881612345678", "+278169386324", "+551161234567", "+841201234567"),
        ),
        warnings=frozenset({"not_mobile", "not_in_plan"}),
    )


def _json_lines() -> Iterator[OddFile]:
    row = '{"country_code": "852", "phone_num": "51234567"}'
    yield text_file(
        "rows.jsonl",
        f'{row}\n\n{{"phone_num": 51234568, "country_code": 852}}\n',
        phones=(GOOD, GOOD_2),
    )
    yield text_file("no-newline.jsonl", row, phones=(GOOD,))
    yield text_file(
        "broken.jsonl",
        f'{row}\n{{"country_code": \n[1, 2]\n"text"\n{{"phone_num": null}}\n{"[" * 60_000}\n'
        f'{{"country_code": 852, "phone_num": 8.52e10}}\n{row}\n',
        phones=(GOOD, GOOD),
        problems=(
            (2, "not_json"),
            (3, "not_an_object"),
            (4, "not_an_object"),
            (5, "no_phone_num"),
            (6, "not_json"),
            (7, "scientific"),
        ),
    )
    yield text_file(
        "name-twice.jsonl",
        f'{row}\n{row[:-1]}, "phone_num": "51234568"}}\n{row[:-1]}, "more": {{"a": 1, "a": 2}}}}\n',
        phones=(GOOD,),
        problems=((2, "name_twice"), (3, "name_twice")),
    )
    yield text_file("all-broken.jsonl", '{"country_code": 852, "phone\n', error="not_json")
    yield text_file("without-names.jsonl", "{}\n{}\n", error="no_phone_column")
    yield text_file("surrogates.jsonl", row[:-1] + ', "name": "\\ud800 \\u0000"}\n', phones=(GOOD,))
    yield text_file(
        "endless-number.jsonl",
        f'{row}\n{{"country_code":852,"phone_num":{"5" * 60_000}}}',
        phones=(GOOD,),
        problems=((2, "digits_lost"),),
    )
    yield text_file(
        "long-line.jsonl",
        f'{row}\n{{"x": "{"x" * 100_000}"}}\n{row}\n',
        phones=(GOOD, GOOD),
        problems=((2, "record_too_long"),),
    )
    yield text_file(
        "deeper.jsonl", row[:-1] + ', "more": {"a": [1, 2.50, true, null]}}', phones=(GOOD,)
    )
    yield text_file(
        "names-without-end.jsonl",
        row + "\n" + "".join(f'{{"n{i}": 1}}\n' for i in range(1200)),
        error="too_many_columns",
    )
    yield text_file("other-names.jsonl", '{"id": 1}\n', error="no_phone_column")
    yield text_file("array.json", f"[\n{row},\n{row}\n]\n", error="not_a_sheet")
    yield text_file("one-document.json", '{\n  "country_code": "852"\n}\n', error="not_a_sheet")


def _zip(**parts: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return file.getvalue()


def _no_sheets() -> Iterator[OddFile]:
    other = "not_a_sheet"
    yield byte_file("empty.csv", b"", error="empty")
    yield byte_file("only-end-mark.csv", b"\x1a", error="empty")
    yield byte_file("only-bom.csv", b"\xef\xbb\xbf", error="empty")
    yield byte_file("only-newlines.csv", b"\r\n\n\r" * 10, error="empty")
    ole = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600
    yield byte_file("old.xls", ole, error=other)
    yield byte_file(
        "password.xlsx",
        ole + b"\0" * 2_000_000 + "EncryptedPackage".encode("utf-16-le") + b"\0" * 99,
        error=other,
    )
    yield byte_file(
        "contacts.vcf",
        f"BEGIN:VCARD\r\nVERSION:3.0\r\nFN:Ada\r\nTEL;type=CELL:{GOOD}\r\nEND:VCARD\r\n".encode(),
        error=other,
    )
    name = "Ada Chan"
    yield byte_file(
        "~$customers.xlsx",
        bytes([len(name)])
        + name.encode().ljust(54)
        + bytes([len(name), 0])
        + name.ljust(54).encode("utf-16-le"),
        error=other,
    )
    yield byte_file(
        "numbers.numbers", _zip(**{"Index/Document.iwa": b"x", "preview.jpg": b""}), error=other
    )
    yield byte_file("web-page.xls", b"<html><table><tr><td>852</td></tr></table>", error=other)
    yield byte_file("xml.xml", b'<?xml version="1.0"?><a/>', error=other)
    yield byte_file("paper.pdf", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", error=other)
    yield byte_file("picture.csv", b"\x89PNG\r\n\x1a\n" + b"\0" * 99, error=other)
    yield byte_file("archive.zip", _zip(**{"a.csv": _csv(ROW).encode()}), error=other)
    yield byte_file(
        "open-document.ods",
        _zip(**{"mimetype": b"x", "content.xml": b""}),
        error=other,
    )
    yield byte_file(
        "cut.csv.gz", gzip.compress(_csv(ROW).encode() * 99, mtime=0)[:60], error="bad_gzip"
    )
    yield byte_file("nothing.csv.gz", gzip.compress(b"", mtime=0), error="empty")
