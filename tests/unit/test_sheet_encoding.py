"""Encodings: proved, or recognised and said, or refused; never nonsense in silence."""

import io

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from producer.sheet import SheetError, open_sheet

CHINESE = ["\u5f20\u4f1f", "\u738b\u82b3", "\u674e\u5a1c", "\u5218\u6d0b", "\u9648\u9759",
           "\u6768\u52c7", "\u9ec4\u654f", "\u5468\u6770", "\u6df1\u5733\u6709\u9650\u516c\u53f8",
           "A\u5ea7", "iPhone\u624b\u673a"]  # fmt: skip
WESTERN = ["M\u00fcller", "Garc\u00eda", "Concei\u00e7\u00e3o", "Fran\u00e7ois", "Stra\u00dfe",
           "\u00c5se", "Zo\u00eb", "CONCEI\u00c7\u00c3O", "\u00e9l\u00e8ve",
           "Nu\u00f1ez \u20ac 5"]  # fmt: skip


def names_of(content: bytes) -> list[str]:
    with open_sheet("-", stdin=io.BytesIO(content)) as sheet:
        return [row.cells[1] for row in sheet]


def encoded(names: list[str], codec: str) -> bytes:
    rows = "".join(f"+8525{number:07d},{name}\n" for number, name in enumerate(names))
    return f"phone,name\n{rows}".encode(codec)


TEXTS = st.lists(
    st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\",'=\u2028\u2029"),
            max_size=12).filter(lambda text: text.strip("+-@\uff1d\uff0b\uff0d\uff20") == text),
    min_size=1, max_size=6,
)  # fmt: skip


@given(TEXTS, st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]))
def test_any_text_in_unicode_comes_back_as_it_was(names: list[str], codec: str) -> None:
    assert names_of(encoded(names, codec)) == names


@given(TEXTS)
def test_utf_16_without_a_mark_comes_back_as_it_was(names: list[str]) -> None:
    assume(sum(map(len, names)) < 40)

    for codec in ("utf-16-le", "utf-16-be"):
        assert names_of(encoded(names, codec)) == names


LONG = "\u9999\u6e2f\u4e00\u767e\u865f\u570b\u969b\u4e8c\u671f\u5716\u6dfa\u6c34" * 40


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("letters", [1, 30, 100, 400])
def test_utf_16_without_a_mark_is_recognised_by_its_signs(codec: str, letters: int) -> None:
    names = [LONG[:letters]] * 20

    assert names_of(encoded(names, codec)) == names


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
def test_a_zero_behind_the_text_hides_no_utf_16(codec: str) -> None:
    names = ["Ada", "Grace"] * 20

    assert names_of(encoded(names, codec) + "\0".encode(codec)) == names


def test_zero_bytes_in_a_code_page_do_not_make_it_utf_16() -> None:
    for name in ("Jos\u00e9", "Ren\u00e9e"):
        for zeros in range(1, 5):
            for header in ("phone,name", "phone,names"):
                rows = f"+85251234567,{name}{chr(0) * zeros}\n" * 20

                assert names_of(f"{header}\n{rows}".encode("cp1252")) == [name] * 20


@given(st.lists(st.sampled_from(CHINESE), min_size=1, max_size=30))
def test_chinese_names_of_old_files_come_back_as_they_were(names: list[str]) -> None:
    assume(any(name in CHINESE[:9] for name in names))

    assert names_of(encoded(names, "gb18030")) == names


TRADITIONAL = ["\u9673\u5927\u6587", "\u9ec3\u66c9\u660e", "\u9f94\u5982\u5fc3",
               "\u5289\u5fb7\u83ef", "\u912d\u79c0\u6587",
               "\u9280\u9264\u7063\u8ed2\u5c3c\u8a69\u9053"]  # fmt: skip


@given(st.lists(st.sampled_from(TRADITIONAL), min_size=3, max_size=30, unique=True))
def test_traditional_names_of_old_files_come_back_as_they_were(names: list[str]) -> None:
    content = encoded(names, "gb18030")
    assume(not fits(content, "big5hkscs"))

    assert names_of(content) == names


def fits(content: bytes, codec: str) -> bool:
    try:
        content.decode(codec)
    except UnicodeDecodeError:
        return False
    return True


def test_names_of_both_scripts_come_back_as_they_were() -> None:
    names = TRADITIONAL + CHINESE

    assert names_of(encoded(names, "gb18030")) == names


@given(st.lists(st.sampled_from(WESTERN), min_size=1, max_size=30))
def test_western_names_of_old_files_come_back_as_they_were(names: list[str]) -> None:
    assert names_of(encoded(names, "cp1252")) == names


@pytest.mark.parametrize(
    ("codec", "name"),
    [
        ("cp1251", "\u0418\u0432\u0430\u043d \u041f\u0435\u0442\u0440\u043e\u0432\u0438\u0447"),
        ("big5", "\u9673\u5c0f\u660e\u8a31\u529f\u84cb"),
        ("big5", "\u7f85\u5bb6\u82f1"),
        ("big5", "\u9673\u5c0f\u660e \u674e\u570b\u83ef \u4f55\u7f8e\u9e97"),
        ("shift_jis", "\u5c71\u7530\u592a\u90ce\u30ab\u30bf\u30ab\u30ca"),
        ("cp1256", "\u0645\u062d\u0645\u062f \u0639\u0644\u064a"),
        ("cp874", "\u0e2a\u0e21\u0e0a\u0e32\u0e22 \u0e43\u0e08\u0e14\u0e35\u0e21\u0e32\u0e01"),
    ],
)
def test_other_old_encodings_are_refused_not_turned_into_nonsense(codec: str, name: str) -> None:
    with pytest.raises(SheetError) as caught:
        names_of(encoded([name] * 20, codec))

    assert caught.value.code == "encoding_unclear"
    assert caught.value.line == 2
    assert '"CSV UTF-8" or .xlsx, or name its encoding, such as gb18030' in str(caught)
    assert caught.value.choices == ("encoding",)


def test_a_guess_is_said() -> None:
    with open_sheet("-", stdin=io.BytesIO(encoded(CHINESE, "gb18030"))) as sheet:
        assert "GB18030 (Chinese): if names look wrong" in sheet.notes[0].text
        assert sheet.notes[0].choice == "encoding"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("rows", [3, 60_000])
def test_a_bad_byte_is_found_wherever_it_stands(end: str, rows: int) -> None:
    good = ("phone,name\n" + "+85251234567,\u5f20\n" * rows).replace("\n", end).encode()

    with pytest.raises(SheetError) as caught:
        names_of(good + b"+85251234567,\xe5\xbc" + end.encode())

    assert caught.value.code == "bad_bytes"
    assert caught.value.line == rows + 2
    assert f"offset {len(good) + 13}" in str(caught.value)


def test_a_letter_cut_by_the_end_of_a_chunk_is_whole() -> None:
    for shift in range(4):
        head = f"phone,name{'x' * shift}\n".encode()
        name = "\U00020000" * 1000
        row = f"+85251234567,{name}\n".encode()
        content = head + row * ((1 << 21) // len(row))

        assert set(names_of(content)) == {name}


def test_a_line_break_cut_by_the_end_of_a_chunk_counts_once() -> None:
    head = b"phone,name\r\n+85251234567,"
    cell = b"x" * ((1 << 20) - 1 - len(head))

    with pytest.raises(SheetError) as caught:
        names_of(head + cell + "\r\n+85251234567,\u5f20\u5f20\r\n".encode() + b"\xff\r\n")

    assert (caught.value.code, caught.value.line) == ("bad_bytes", 4)
