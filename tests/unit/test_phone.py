"""Phone numbers: what is accepted, what is refused and why, and that none is ever shown in full."""

import copy
import pickle
from dataclasses import FrozenInstanceError
from functools import cache

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st
from phonenumbers import PhoneNumberType

from jobs.phone import (
    BARRED_COUNTRY_CODES,
    PhoneError,
    PhoneNumber,
    area_within_code_1,
    calling_code_of_region,
    plan_of,
    split_international,
    without_formatting,
)
from jobs.quotas import unfit_line

ALL_REGIONS = sorted(phonenumbers.SUPPORTED_REGIONS)
UNFIT_KINDS = (
    PhoneNumberType.FIXED_LINE,
    PhoneNumberType.TOLL_FREE,
    PhoneNumberType.PREMIUM_RATE,
    PhoneNumberType.SHARED_COST,
)


@cache
def mobile_examples() -> list[phonenumbers.PhoneNumber]:
    """Return one of each region; a test for each would cost as much as hundreds of other tests."""
    found = [
        example
        for region in ALL_REGIONS
        if (example := phonenumbers.example_number_for_type(region, PhoneNumberType.MOBILE))
    ]
    assert len(found) > 200
    return found


def fault_of(country_code: str, phone_num: str) -> str:
    with pytest.raises(PhoneError) as caught:
        PhoneNumber.parse(country_code, phone_num)
    return caught.value.code


def test_the_vendors_own_example_is_accepted_with_a_doubt() -> None:
    number = PhoneNumber.parse("852", "18888888888")

    assert (number.country_code, number.phone_num) == ("852", "18888888888")
    assert number.doubt is not None
    assert number.doubt.code == "not_in_plan"


def test_the_same_digits_written_in_any_way_are_the_same_number() -> None:
    plain = PhoneNumber.parse("852", "51234567")

    ways = [
        PhoneNumber.parse("+852", "5123 4567"),
        PhoneNumber.parse("00852", "5123-4567"),
        PhoneNumber.parse(" 852 ", "(5123) 4567\n"),
        PhoneNumber.parse("852", "51.23.45.67"),
        PhoneNumber.parse("852", "5123.4567"),
        PhoneNumber.parse("852", "\u202a5123\u00a04567\u202c"),
        PhoneNumber.parse("\uff0b\uff18\uff15\uff12", "\uff15\uff11\uff12\uff13\uff14567"),
        PhoneNumber.parse("852", "\u0665\u0661\u0662\u0663\u0664\u0665\u0666\u0667"),
        PhoneNumber.from_international("+852 5123 4567"),
        PhoneNumber.from_international("(+852) 5123-4567"),
        PhoneNumber.from_international("0085251234567"),
    ]

    assert set(ways) == {plain}
    assert plain.e164 == "+85251234567"


def test_an_international_number_is_split_at_its_calling_code() -> None:
    number = PhoneNumber.from_international("+852 1888 8888 88")

    assert (number.country_code, number.phone_num) == ("852", "1888888888")


def test_leading_zeros_of_a_number_are_kept() -> None:
    assert PhoneNumber.parse("225", "0701234567").phone_num == "0701234567"


@pytest.mark.parametrize(
    ("country_code", "phone_num", "fault"),
    [
        ("", "51234567", "no_country_code"),
        ("00", "51234567", "no_country_code"),
        ("020", "51234567", "unknown_country_code"),
        ("852", "", "no_phone_num"),
        ("852", " - ", "no_phone_num"),
        ("852", "5" * 33, "phone_num_length"),
        ("85251", "51234567", "country_code_length"),
        ("HK", "51234567", "not_digits"),
        ("852", "call me", "not_digits"),
        ("852", "51234567.0", "not_digits"),
        ("852", "8.52E+10", "not_digits"),
        ("852", "51234567/61234567", "not_digits"),
        ("852", "51234567\n61234567", "not_digits"),
        ("852", "51234567,61234567", "not_digits"),
        ("852", "5123\x004567", "not_digits"),
        ("852", "5123456\u00b2", "not_digits"),
        ("852", "+85251234567", "two_country_codes"),
        ("999", "51234567", "unknown_country_code"),
        ("1242", "1234567", "unknown_country_code"),
        ("7", "9123456789", "barred_country_code"),
        ("380", "501234567", "barred_country_code"),
        ("+86", "13800000000", "barred_country_code"),
        ("0086", "13800000000", "barred_country_code"),
    ],
)
def test_what_cannot_be_sent_is_refused_by_name(
    country_code: str, phone_num: str, fault: str
) -> None:
    assert fault_of(country_code, phone_num) == fault


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "no_phone_num"),
        ("51234567", "no_country_code"),
        ("+", "not_digits"),
        ("+852", "no_phone_num"),
        ("+999 1234", "unknown_country_code"),
        ("+86 138 0000 0000", "barred_country_code"),
        ("+852 5123 4567 ext 1", "not_digits"),
        ("+852+51234567", "not_digits"),
    ],
)
def test_international_text_that_is_no_number_is_refused_by_name(text: str, fault: str) -> None:
    with pytest.raises(PhoneError) as caught:
        PhoneNumber.from_international(text)

    assert caught.value.code == fault


@pytest.mark.parametrize("country_code", sorted(BARRED_COUNTRY_CODES))
def test_a_barred_country_is_named_with_a_remedy(country_code: str) -> None:
    with pytest.raises(PhoneError) as caught:
        PhoneNumber.parse(country_code, "501234567")

    assert f"country code {country_code} (" in str(caught.value)
    assert caught.value.fault.remedy


@pytest.mark.parametrize(
    ("country_code", "phone_num", "doubt"),
    [
        ("852", "5123", "too_short"),
        ("852", "512345678901", "too_long"),
        ("852", "5123456789", "unusual_length"),
        ("852", "512345678", "not_in_plan"),
        ("852", "5123456", "not_in_plan"),
        ("65", "12345678", "not_in_plan"),
        ("49", "0" * 16, "too_long"),
    ],
)
def test_a_number_that_its_country_does_not_have_is_a_doubt_and_no_refusal(
    country_code: str, phone_num: str, doubt: str
) -> None:
    number = PhoneNumber.parse(country_code, phone_num)

    assert number.doubt is not None
    assert number.doubt.code == doubt


@pytest.mark.parametrize(
    ("country_code", "phone_num", "kind"),
    [
        ("852", "21234567", "landline"),
        ("44", "2071234567", "landline"),
        ("852", "800123456", "toll-free number"),
        ("44", "9012345678", "premium-rate number"),
        ("33", "810123456", "shared-cost number"),
        ("881", "612345678", "satellite phone"),
        ("870", "301234567", "satellite phone"),
        ("800", "12345678", "toll-free number"),
    ],
)
def test_a_number_that_takes_no_sms_is_a_doubt_that_names_its_kind(
    country_code: str, phone_num: str, kind: str
) -> None:
    doubt = PhoneNumber.parse(country_code, phone_num).doubt

    assert doubt is not None
    assert doubt.code == "not_mobile"
    assert kind in doubt.message


@pytest.mark.parametrize(
    ("country_code", "phone_num"),
    [("27", "8169386324"), ("55", "1161234567"), ("84", "1201234567"), ("852", "99000000")],
)
def test_a_number_of_the_right_length_that_nobody_has_is_a_doubt(
    country_code: str, phone_num: str
) -> None:
    doubt = PhoneNumber.parse(country_code, phone_num).doubt

    assert doubt is not None
    assert doubt.code == "not_in_plan"


def test_no_mobile_number_is_doubtful() -> None:
    for example in mobile_examples():
        national = phonenumbers.national_significant_number(example)

        assert PhoneNumber(str(example.country_code), national).doubt is None, example


@pytest.mark.parametrize("text", ["001 65 8234 5678", "0011 65 8234 5678"])
def test_what_may_be_dialled_to_two_countries_is_refused(text: str) -> None:
    with pytest.raises(PhoneError) as caught:
        PhoneNumber.from_international(text)

    assert caught.value.code == "dialled_abroad"


def test_what_is_dialled_with_001_to_one_country_only_is_read() -> None:
    assert PhoneNumber.from_international("001 852 5123 4567").e164 == "+85251234567"
    assert PhoneNumber.from_international("001 415 555 0123").e164 == "+14155550123"


def test_a_doubt_says_which_lengths_the_country_has() -> None:
    doubt = PhoneNumber.parse("852", "5123456789").doubt

    assert doubt is not None
    assert doubt.message == (
        "a number of 10 digits is of an unusual length for country code 852, "
        "whose numbers have 5 to 9 or 11"
    )


def test_a_number_shows_its_country_code_and_last_two_digits_only() -> None:
    number = PhoneNumber.parse("852", "51234588")

    assert number.masked == "+852 ******88"
    assert repr(number) == str(number) == f"{number}" == number.masked


@pytest.mark.parametrize("phone_num", ["1", "12", "1234"])
def test_a_very_short_number_shows_no_digit_at_all(phone_num: str) -> None:
    assert PhoneNumber("852", phone_num).masked == "+852 ******"


def test_a_number_accepted_before_stays_readable_when_its_code_is_abolished() -> None:
    assert PhoneNumber("999", "51234567").masked == "+999 ******67"


@pytest.mark.parametrize(
    ("country_code", "phone_num"),
    [("", "1"), ("852", ""), ("85252", "1"), ("852", "5" * 33), ("8x2", "1"), ("852", "\u0665")],
)
def test_the_constructor_refuses_anything_but_digits_of_the_right_number(
    country_code: str, phone_num: str
) -> None:
    with pytest.raises(PhoneError):
        PhoneNumber(country_code, phone_num)


def test_a_number_never_changes_and_survives_copy_and_pickle() -> None:
    number = PhoneNumber.parse("852", "51234567")

    with pytest.raises(FrozenInstanceError):
        number.phone_num = "1"  # type: ignore[misc]
    assert copy.deepcopy(number) == number
    assert pickle.loads(pickle.dumps(number)) == number  # noqa: S301 - made one line above


def test_an_error_survives_pickle() -> None:
    with pytest.raises(PhoneError) as caught:
        PhoneNumber.parse("86", "13800000000")

    again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - made one line above
    assert (str(again), again.code) == (str(caught.value), caught.value.code)


@given(
    st.text(max_size=6) | st.just("852"),
    st.text(alphabet="0123456789 +-().eE/x\u0665", max_size=40),
)
def test_any_text_gives_a_number_or_a_phone_error_without_the_number(
    country_code: str, phone_num: str
) -> None:
    digits = "".join(c for c in phone_num if c.isdigit())
    try:
        number = PhoneNumber.parse(country_code, phone_num)
    except PhoneError as error:
        shown = f"{error!r} {error}"
    else:
        assert number.phone_num.isdigit()
        assert number.phone_num == without_formatting(phone_num)
        shown = f"{number!r} {number}"
    assert len(digits) < 5 or digits not in shown


@given(st.text(max_size=40))
def test_any_international_text_gives_a_number_or_a_phone_error(text: str) -> None:
    try:
        number = PhoneNumber.from_international(text)
    except PhoneError:
        return
    assert PhoneNumber.from_international(number.e164) == number


@given(st.sampled_from(ALL_REGIONS), st.integers(0, 10**12))
def test_international_form_comes_back_as_the_same_number(region: str, national: int) -> None:
    code = calling_code_of_region(region)
    assert code is not None
    if code in BARRED_COUNTRY_CODES:
        return

    number = PhoneNumber.parse(code, str(national))

    assert PhoneNumber.from_international(number.e164) == number


def test_every_regions_example_number_fits_the_plan_of_its_calling_code() -> None:
    for example in mobile_examples():
        national = phonenumbers.national_significant_number(example)
        plan = plan_of(str(example.country_code))

        assert plan is not None, example
        assert plan.matches(national), example
        assert split_international(f"{example.country_code}{national}") == (plan, national)


def test_no_calling_code_begins_with_another_one() -> None:
    codes = [str(code) for code in phonenumbers.COUNTRY_CODE_TO_REGION_CODE]

    assert not [(a, b) for a in codes for b in codes if a != b and b.startswith(a)]


@pytest.mark.parametrize(("code", "area"), [("1242", "242"), ("1809", "809"), ("1876", "876")])
def test_an_area_joined_to_code_1_is_told_apart(code: str, area: str) -> None:
    assert area_within_code_1(code) == area


@pytest.mark.parametrize("code", ["", "1", "242", "1415", "1999", "8521"])
def test_other_codes_hold_no_area(code: str) -> None:
    assert area_within_code_1(code) is None


def test_what_is_refused_to_events_for_its_kind_of_line_is_doubtful_in_a_batch() -> None:
    examples = [
        example
        for region in ALL_REGIONS
        for kind in UNFIT_KINDS
        if (example := phonenumbers.example_number_for_type(region, kind))
    ]
    parts = [
        (str(each.country_code), phonenumbers.national_significant_number(each))
        for each in examples
    ]
    satellites = [PhoneNumber("870", "773111632"), PhoneNumber("881", "612345678")]
    numbers = [*(PhoneNumber(*each) for each in parts), *satellites]

    refused = {number: unfit_line(number) for number in numbers if unfit_line(number)}

    assert set(refused.values()) == {
        "landline",
        "premium-rate",
        "satellite",
        "shared-cost",
        "toll-free",
    }
    doubts = {number: number.doubt.message for number in refused if number.doubt}
    assert [kind for number, kind in refused.items() if kind not in doubts.get(number, "")] == []
