"""Which columns hold the number: many names, one meaning, or a clear refusal."""

from collections.abc import Sequence

import pytest

from producer.sheet import SheetError
from producer.sheet.columns import Columns, ColumnSearch, NamedColumns, Sample

FOUND = NamedColumns()


def find(*header: str, rows: Sequence[Sequence[str]] = (), asked: NamedColumns = FOUND) -> Columns:
    return ColumnSearch(header, 1, Sample(rows)).columns(asked)


@pytest.mark.parametrize(
    "name",
    ["phone_num", "PhoneNum", "PHONE NUMBER", "Phone No.", "phone", "Mobile", "mobile_number",
     "Mobile-Phone", "Tel.", "telephone", "Cell phone", "Handynummer", "Tel\u00e9fono",
     "\u624b\u673a\u53f7", "\u624b\u673a\u53f7\u7801\uff08\u5fc5\u586b\uff09", "\u7535\u8bdd",
     "\u8054\u7cfb\u7535\u8bdd", "\u96fb\u8a71\u865f\u78bc", "\u96fb\u8a71\u756a\u53f7",
     "\ufeffPhone Number (required)*", "\uff30\uff48\uff4f\uff4e\uff45",
     "T\u00e9l.", "Te\u0301le\u0301phone", "Tel.-Nr.", "Handy-Nr.",
     "N\u00b0 de t\u00e9l\u00e9phone", "N\u00ba tel", "Num\u00e9ro de mobile",
     "Tel\u00e9fono m\u00f3vil", "Registered Mobile", "GSM",
     "Customer Phone Number", "Customer\u2019s phone", "Contact Mobile No", "Phone 1", "Ph No",
     "\u7528\u6237\u624b\u673a\u53f7", "\u4f1a\u5458\u624b\u673a", "\u7535\u8bdd1",
     "\u6703\u54e1\u624b\u6a5f", "\u0422\u0435\u043b\u0435\u0444\u043e\u043d",
     "\uc804\ud654\ubc88\ud638", "\u643a\u5e2f\u96fb\u8a71", "S\u1ed1 \u0111i\u1ec7n tho\u1ea1i",
     "\u0e40\u0e1a\u0e2d\u0e23\u0e4c\u0e42\u0e17\u0e23"],
)  # fmt: skip
def test_a_number_is_found_by_many_names(name: str) -> None:
    assert find("id", "country_code", name).number == 2


@pytest.mark.parametrize(
    "name",
    ["country_code", "CountryCode", "COUNTRY CODE", "Dial code", "calling-code", "Country",
     "\u56fd\u5bb6\u7801", "\u533a\u53f7", "\u570b\u5bb6/\u5730\u5340\u4ee3\u78bc",
     "\u56fd\u5bb6\u4ee3\u7801", "L\u00e4ndervorwahl", "C\u00f3digo de Pa\u00eds",
     "Indicatif pays", "Ctry Code",
     "\u56fd\u9645\u7535\u8bdd\u533a\u53f7", "\u624b\u673a\u533a\u53f7"],
)  # fmt: skip
def test_a_country_code_is_found_by_many_names(name: str) -> None:
    assert find("phone_num", "x", name).country == 2


def texts_of(columns: Columns) -> tuple[str, ...]:
    return tuple(note.text for note in columns.notes)


def test_the_contracts_names_need_no_note_and_others_get_one() -> None:
    assert find("country_code", "phone_num").notes == ()
    assert texts_of(find("Country Code", "Mobile")) == (
        'column "Mobile" is read as the phone number',
        'column "Country Code" is read as the country code',
    )


def test_a_contracts_name_wins_over_others() -> None:
    found = find("mobile", "phone_num", "tel", "dial code", "country_code")

    assert (found.number, found.country) == (1, 4)
    assert texts_of(found) == (
        'the phone number is taken from "phone_num", not "mobile", "tel"',
        'the country code is taken from "country_code", not "dial code"',
    )


def test_a_name_without_a_counter_wins_over_those_with_one() -> None:
    assert find("Mobile 2", "Mobile", "country_code").number == 1
    assert find("phone", "phone 2", "phone 3", "country_code").number == 0


@pytest.mark.parametrize("name", ["msisdn", "E.164", "Phone (international)", "e164"])
def test_some_names_say_that_every_number_is_international(name: str) -> None:
    assert find(name).plus_optional == (name != "Phone (international)")


@pytest.mark.parametrize(
    ("header", "code", "told"),
    [
        (["id", "name"], "no_phone_column", '"id", "name"'),
        ([""], "no_phone_column", '""'),
        (["area code", "number"], "no_phone_column", '"area code", "number"'),
        (["prefix", "Vorwahl", "Phone of 20", "ph"], "no_phone_column", '"prefix", "Vorwahl"'),
        (["phone", "Tel"], "ambiguous_columns", '"phone", "Tel"'),
        (["Phone 1", "Phone 2"], "ambiguous_columns", '"Phone 1", "Phone 2"'),
        (["GSM", "Mobile"], "ambiguous_columns", '"GSM", "Mobile"'),
        (["phone", "Phone"], "ambiguous_columns", '"phone", "Phone"'),
        (["phone", "dial code", "cc"], "ambiguous_columns", '"dial code", "cc"'),
        (["852", "51234567"], "no_header", "holds data"),
    ],
)
def test_a_header_that_is_none_or_unclear_is_refused_with_what_was_found(
    header: list[str], code: str, told: str
) -> None:
    with pytest.raises(SheetError) as caught:
        find(*header)

    assert caught.value.code == code
    assert told in str(caught.value)
    assert "country_code and phone_num" in str(caught.value)


@pytest.mark.parametrize(
    ("header", "number", "others"),
    [
        (("Phone", "Mobile", "Fax"), 1, (0,)),
        (("phone", "mobile"), 1, (0,)),
        (("Home Phone", "Mobile Phone", "Work Phone"), 1, ()),
        (("Business Phone", "Primary Phone"), 1, ()),
        (("Home Phone", "Name"), 0, ()),
        (("Phone 1 - Type", "Phone 1 - Value"), 1, ()),
        (("Cell / WhatsApp", "Preferred contact"), 0, ()),
        (("\u7535\u8bdd", "\u624b\u673a"), 1, (0,)),
        (("Mobile", "phone_num"), 1, ()),
    ],
)
def test_the_mobile_number_comes_first_and_another_phone_helps_out(
    header: tuple[str, ...], number: int, others: tuple[int, ...]
) -> None:
    found = find(*header)

    assert (found.number, found.others) == (number, others)


def test_the_cells_decide_between_columns_of_such_names() -> None:
    assert find("Mobile", "Phone", rows=[["yes", "+85251234567"]]).number == 1
    assert find("Mobile", "Cell", rows=[["", "+85251234567"]]).number == 1
    assert find("CC", "Phone", rows=[["boss@x.y", "51234567"]]).country is None
    assert find("CC", "Phone", rows=[["852", "51234567"], ["?", ""]]).country == 0
    assert find("country_code", "Phone", rows=[["Atlantis", "51234567"]]).country == 0
    assert find("Mailing Country", "Phone", rows=[["Hong Kong", "51234567"]]).country == 0


def test_a_person_may_name_the_columns() -> None:
    asked = find(
        "Phone", "Mobile", "Country", "Dial code", asked=NamedColumns("phone", "Dial code")
    )

    assert (asked.number, asked.country, asked.others) == (0, 3, ())
    with pytest.raises(SheetError) as caught:
        find("Phone", "Mobile", asked=NamedColumns("Handy"))
    assert caught.value.code == "no_such_column"
    assert '"Phone", "Mobile"' in str(caught.value)


def test_every_column_is_listed_and_those_with_numbers_are_named() -> None:
    names = [f"column {number}" for number in range(90)]

    with pytest.raises(SheetError) as caught:
        find(*names, rows=[[*[""] * 50, "+85251234567"]])

    assert all(f'"{name}"' in str(caught.value) for name in names)
    assert 'numbers seem to be in "column 50"' in str(caught.value)
    assert caught.value.choices == ("phone_column",)


def test_a_refusal_tells_short_names_of_a_bounded_number_and_no_phone() -> None:
    with pytest.raises(SheetError) as many:
        find(*(f"column {'x' * 99}\n" for _ in range(5000)))
    with pytest.raises(SheetError) as data:
        find("Ada", "+85251234567")

    assert len(str(many.value)) < 8000
    assert str(many.value).isprintable()
    assert "51234567" not in str(data.value)
