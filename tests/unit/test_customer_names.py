"""Which columns of a file say how its customers are called."""

from __future__ import annotations

import pytest

from producer.customers import naming_columns


@pytest.mark.parametrize(
    ("header", "named"),
    [
        (["No.", "Partner name", "Region", "Phone"], ["Partner name"]),
        (["#", "City", "Phone"], ["City"]),
        (["序号", "商户名称 Merchant", "手机号"], ["商户名称 Merchant"]),
        (["No", "姓名", "国家码", "手机号"], ["姓名"]),
        (["id", "name", "country_code", "phone_num"], ["name"]),
        (["id", "city", "phone"], ["id"]),
        (["customer no", "first name", "last name", "phone"], [0, 1, 2]),
        (["客户编号", "company", "phone"], ["客户编号", "company"]),
        (["country_code", "phone_num", "plan"], ["plan"]),
        (["No.", "phone"], []),
    ],
)
def test_customers_are_called_by_name_and_never_by_a_running_number(
    header: list[str], named: list[str | int]
) -> None:
    wanted = [each if isinstance(each, int) else header.index(each) for each in named]
    assert naming_columns(header) == wanted
