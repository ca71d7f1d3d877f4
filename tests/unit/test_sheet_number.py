"""Numbers out of cells: damage is named, repaired without a doubt, and refused with one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.phone import PhoneNumber
from producer.sheet.columns import Columns, ColumnSearch, NamedColumns, Sample
from producer.sheet.number import NumberReader, Reading
from producer.sheet.spellings import calling_code_of_country


def columns_of(header: list[str]) -> Columns:
    return ColumnSearch(header, 1, Sample()).columns(NamedColumns())


TWO = columns_of(["country_code", "phone_num"])
ONE = columns_of(["phone"])
E164 = columns_of(["e164"])
RESIDENCE = columns_of(["Country", "Mobile"])


def read(*cells: str, columns: Columns = TWO, numeric: bool = False) -> Reading:
    return NumberReader(columns).read(list(cells), (1 << columns.number) if numeric else 0)


def codes(reading: Reading) -> tuple[str, ...]:
    return tuple(repair.code for repair in reading.repaired)


@pytest.mark.parametrize(
    ("code", "number", "repairs"),
    [
        ("852", "51234567", ()),
        ("+852", "51234567", ()),
        ("00852", "51234567", ()),
        (" 852 ", " 51234567 ", ()),
        ("852", "5123 4567", ("formatting",)),
        ("852", "5123-4567", ("formatting",)),
        ("852", "(51) 23.45.67", ("formatting",)),
        ("852", "\uff15\uff11\uff12\uff13\uff14\uff15\uff16\uff17", ("formatting",)),
        ("852.0", "51234567.0", ("decimal",)),
        ("852", "51234567,00", ("decimal",)),
        ("852", "51,234,567", ("thousands",)),
        ("852", "5.1234567E+07", ("exponent",)),
        ("852", "5,1234567e7", ("exponent",)),
        ("852", "'51234567", ("apostrophe",)),
        ("852", "\u201851234567\u2019", ("apostrophe",)),
        ("852", "tel:51234567", ("prefix",)),
        ("852", "+85251234567", ("country_code_repeated",)),
        ("852", "0085251234567", ("country_code_repeated",)),
        ("852", "85251234567", ("country_code_repeated",)),
        ("852", "+852 5123 4567", ("formatting", "country_code_repeated")),
        ("8.52E+02", "51234567", ("exponent",)),
        ("HK", "51234567", ("region",)),
        ("hk", "51234567", ("region",)),
        ("Hong Kong (+852)", "51234567", ("code_within_text",)),
        ("\u4e2d\u56fd\u9999\u6e2f+852", "51234567", ("code_within_text",)),
        ("", "+85251234567", ()),
        ("n/a", "0085251234567", ()),
        ("Atlantis", "+85251234567", ()),
        ("Hong Kong", "51234567", ("region",)),
        ("HONGKONG", "51234567", ("region",)),
        ("Hong Kong SAR, China", "51234567", ("region",)),
        ("\u4e2d\u56fd\u9999\u6e2f", "51234567", ("region",)),
        ("Hong Kong", "+85251234567", ("region", "country_code_repeated")),
        ("852", "01185251234567", ("country_code_repeated",)),
        ("852", "00185251234567", ("country_code_repeated",)),
        ("852", "Tel: 5123 4567", ("prefix",)),
    ],
)
def test_one_reading_is_repaired_and_named(
    code: str, number: str, repairs: tuple[str, ...]
) -> None:
    reading = read(code, number)

    assert reading.phone == PhoneNumber("852", "51234567")
    assert codes(reading) == repairs


@pytest.mark.parametrize(
    ("code", "number", "expected", "repairs"),
    [
        ("44", "07700900123", "+447700900123", ("trunk_prefix",)),
        (
            "44",
            "+44 (0)7700 900123",
            "+447700900123",
            ("formatting", "country_code_repeated", "trunk_prefix"),
        ),
        (
            "UK",
            "4407400123456",
            "+447400123456",
            ("region", "country_code_repeated", "trunk_prefix"),
        ),
        ("49", "0151 23456789", "+4915123456789", ("formatting", "trunk_prefix")),
        ("1", "14155550123", "+14155550123", ("trunk_prefix",)),
        ("39", "0612345678", "+390612345678", ()),
        ("225", "0701234567", "+2250701234567", ()),
        ("1242", "3591234", "+12423591234", ("area_in_code",)),
        ("1-242", "2423591234", "+12423591234", ("area_in_code",)),
        ("852", "18888888888", "+85218888888888", ()),
    ],
)
def test_zeros_and_codes_go_only_where_the_country_has_no_such_number(
    code: str, number: str, expected: str, repairs: tuple[str, ...]
) -> None:
    reading = read(code, number)

    assert reading.phone is not None
    assert (reading.phone.e164, codes(reading)) == (expected, repairs)


@pytest.mark.parametrize(
    ("code", "number", "fault"),
    [
        ("852", "", "no_phone_num"),
        ("852", "N/A", "no_phone_num"),
        ("852", "\\N", "no_phone_num"),
        ("852", "8.52E+10", "scientific"),
        ("852", "8,52E+10", "scientific"),
        ("852", "9E+07", "scientific"),
        ("852", "#N/A", "spreadsheet_error"),
        ("852", "#####", "spreadsheet_error"),
        ("852", "2024-11-04", "date"),
        ("852", "04/11/2024", "date"),
        ("852", "5-Nov", "date"),
        ("852", "51234567/51234568", "several_numbers"),
        ("852", "51234567, 51234568", "several_numbers"),
        ("852", "51234567 51234568", "several_numbers"),
        ("852", "51234567\n51234568", "several_numbers"),
        ("852", "51234567 or 51234568", "several_numbers"),
        ("852", "51234567 ext. 12", "extension"),
        ("852", "51234567\u8f6c12", "extension"),
        ("852", "51234567 (2)", "extension"),
        ("852", "5123 4567(12)", "extension"),
        ("852", "51234567-1", "extension"),
        ("852", "5123-4567-1", "extension"),
        ("852", "+852 51234567\u20131", "extension"),
        ("44", "07400 123456-2", "extension"),
        ("852", "-51233715", "computed"),
        ("852", "\u221251233715", "computed"),
        ("852", "- 5123 3715", "computed"),
        ("852", "--51233715", "computed"),
        ("852", "\uff0d\uff15\uff11\uff12\uff13\uff13\uff17\uff11\uff15", "computed"),
        ("852", "5123.456", "fraction"),
        ("852", "0.51234573", "fraction"),
        ("49", "0.15123456789", "fraction"),
        ("852", "0,51234573", "fraction"),
        ("852", "0", "zero"),
        ("852", "0.00", "zero"),
        ("852", "00000000", "zero"),
        ("0", "51234567", "country_not_a_code"),
        ("-852", "51234567", "country_not_a_code"),
        ("852", "ask Ada", "not_digits"),
        ("852", "5123,4567", "not_digits"),
        ("852", "5123\N{REPLACEMENT CHARACTER}4567", "not_digits"),
        ("852", "=51234567", "not_digits"),
        ("852", "1" * 33, "phone_num_length"),
        ("852", "+6581234567", "country_codes_differ"),
        ("852", "+86 138 0000 0000", "barred_country_code"),
        ("86", "13800000000", "barred_country_code"),
        ("+7", "9123456789", "barred_country_code"),
        ("999", "51234567", "unknown_country_code"),
        ("020", "51234567", "unknown_country_code"),
        ("999", "+85251234567", "unknown_country_code"),
        ("Atlantis", "51234567", "country_not_a_code"),
        ("Hong Kong / Macau", "51234567", "country_not_a_code"),
        ("Korea (North)", "51234567", "country_not_a_code"),
        ("Mainland", "51234567", "country_not_a_code"),
        ("China", "51234567", "barred_country_code"),
        ("852", "order 51234567", "not_digits"),
        ("", "001 65 8234 5678", "dialled_abroad"),
        ("65", "001 60 8234 5678", "dialled_abroad"),
        ("ZZ", "51234567", "country_not_a_code"),
        ("85251234567", "51234567", "country_code_length"),
        ("", "51234567", "no_country_code"),
        ("", "85251234567", "no_country_code"),
        ("225", "701234567", "leading_zero_lost"),
        ("1242", "+18093591234", "country_codes_differ"),
    ],
)
def test_what_is_not_certain_is_refused_by_name(code: str, number: str, fault: str) -> None:
    reading = read(code, number)

    assert (reading.fault.code if reading.fault is not None else "") == fault
    assert (reading.phone is None) == bool(fault)


@pytest.mark.parametrize(
    ("code", "number", "phone_num"),
    [
        ("852", "5123-456-7", "51234567"),
        ("852", "(51) 234-567", "51234567"),
        ("852", "5123456-7", "51234567"),
        ("45", "20-12-34-56", "20123456"),
        ("358", "040-123-456", "40123456"),
        ("852", "5123.4567", "51234567"),
    ],
)
def test_dashes_and_dots_that_only_group_the_digits_are_left_out(
    code: str, number: str, phone_num: str
) -> None:
    assert read(code, number).phone == PhoneNumber(code, phone_num)


@pytest.mark.parametrize("number", ["5123.4567", "5123456.7", "1.66e-05", "-51233715", "0"])
def test_a_number_cell_holds_no_dots_for_the_eye(number: str) -> None:
    assert read("852", number, numeric=True).phone is None


def test_a_zero_lost_in_a_number_cell_is_put_back() -> None:
    reading = read("225", "701234567", numeric=True)

    assert reading.phone == PhoneNumber("225", "0701234567")
    assert codes(reading) == ("leading_zero_restored",)


def test_digits_lost_in_a_number_cell_are_refused() -> None:
    reading = read("852", "1888888888800000", numeric=True)

    assert reading.fault is not None
    assert reading.fault.code == "digits_lost"
    assert read("852", "1888888888800000").fault is None


@pytest.mark.parametrize(
    ("code", "number", "doubt"),
    [
        ("852", "5123", "too_short"),
        ("852", "1888888888", "unusual_length"),
        ("852", "512345678", "not_in_plan"),
        ("852", "5123456", "not_in_plan"),
        ("852", "512345678901", "too_long"),
        ("49", "4915112345678", "country_code_perhaps_repeated"),
        ("852", "21234567", "not_mobile"),
        ("27", "8169386324", "not_in_plan"),
    ],
)
def test_a_doubt_is_told_and_the_number_kept(code: str, number: str, doubt: str) -> None:
    reading = read(code, number)

    assert reading.phone == PhoneNumber(code, number)
    assert [warning.code for warning in reading.warnings] == [doubt]


def test_a_number_alone_must_show_that_it_is_international() -> None:
    assert read("+852 5123 4567", columns=ONE).phone == PhoneNumber("852", "51234567")
    assert read("85251234567", columns=ONE).phone is None
    assert read("13012345678", columns=ONE).phone is None, "Chinese, or from Maryland"


def test_a_column_named_e164_needs_no_plus() -> None:
    assert read("85218888888888", columns=E164).phone == PhoneNumber("852", "18888888888")
    assert read("+85251234567", columns=E164).phone == PhoneNumber("852", "51234567")


def test_where_a_customer_lives_does_not_matter_to_an_international_number() -> None:
    for country in ("Hong Kong", "HK", "852", ""):
        assert read(country, "+6581234567", columns=RESIDENCE).phone == PhoneNumber(
            "65", "81234567"
        )
    assert read("SG", "81234567", columns=RESIDENCE).phone == PhoneNumber("65", "81234567")
    assert read("Singapore", "81234567", columns=RESIDENCE).phone == PhoneNumber("65", "81234567")
    assert read("Atlantis", "81234567", columns=RESIDENCE).phone is None


@pytest.mark.parametrize(
    ("name", "code"),
    [
        *[("United States", "1"), ("U.S.A.", "1"), ("UK", "44"), ("Great Britain", "44")],
        *[("UAE", "971"), ("Viet Nam", "84"), ("South Korea", "82"), ("Republic of Korea", "82")],
        *[("Korea, Republic of", "82"), ("Macau", "853"), ("Macao SAR", "853"), ("Türkiye", "90")],
        *[("Trinidad & Tobago", "1"), ("The Philippines", "63"), ("Deutschland", "49")],
        *[("C\u00f4te d\u2019Ivoire", "225"), ("\u53f0\u6e7e", "886"), ("Congo (Kinshasa)", "243")],
        *[("Virgin Islands", None), ("Asia", None), ("", None)],
    ],
)
def test_a_country_is_known_by_its_names_and_never_guessed_at(name: str, code: str | None) -> None:
    assert calling_code_of_country(name) == code


def test_many_different_country_cells_are_not_kept_for_ever() -> None:
    reader = NumberReader(TWO)

    for number in range(10_000):
        reader.read([f"x{number}", "51234567"])

    assert reader.read(["852", "51234567"]).phone == PhoneNumber("852", "51234567")
    assert reader._code_of.cache_info().currsize <= 4096


@given(st.text(max_size=12), st.text(max_size=40), st.booleans())
def test_any_cells_give_a_number_or_a_fault(code: str, number: str, numeric: bool) -> None:
    for columns in (TWO, RESIDENCE):
        reading = read(code, number, columns=columns, numeric=numeric)

        assert (reading.phone is None) != (reading.fault is None)


@given(
    st.sampled_from(["852", "+852", "44", "49", "1", "39", "225", "HK", ""]),
    st.text(alphabet="0123456789+-(). eE,'/\n", max_size=24),
)
def test_no_digit_is_made_up_but_a_zero_or_the_country_code(code: str, number: str) -> None:
    reading = read(code, number)

    if reading.phone is not None:
        digits = "".join(c for c in number if c.isdigit())
        assert reading.phone.phone_num in "0" + digits


@given(st.sampled_from(["852", "65", "44", "81"]), st.integers(0, 10**11))
def test_a_number_read_twice_is_the_same(code: str, number: int) -> None:
    first = read(code, str(number))

    if first.phone is not None:
        again = read(first.phone.country_code, first.phone.phone_num)
        assert again.phone == first.phone
