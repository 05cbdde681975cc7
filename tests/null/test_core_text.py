"""Text nodes and templates of the core pack."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodegraph import File, Invalid
from nodes.core import text
from nodes.core.templates import fill


def test_joining():
    assert text.concatenate_text("a", "b") == "ab"
    assert text.concatenate_text("a", "b", ", ") == "a, b"
    assert text.join_text(["a fox", " ", "", "oil painting"]) == "a fox, oil painting"
    assert text.join_text(["a", ""], "-", skip_empty=False) == "a-"
    assert text.join_text([]) == ""


def test_templates():
    assert (
        text.format_text("a {colour} fox, {strength:.2f}, {count:03}, {on}", colour="red", strength=0.5, count=7, on=True)
        == "a red fox, 0.50, 007, True"
    )
    assert text.format_text("{{literally}}") == "{literally}"
    assert text.format_text("no fields", unused=1) == "no fields"


@given(st.text())
def test_text_without_braces_is_its_own_template(given):
    plain = given.replace("{", "").replace("}", "")
    assert fill(plain, {}) == plain


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("{fox}", "without a value"),
        ("{", "is no template"),
        ("a } b", "is no template"),
        ("{}", "has a field ''"),
        ("{0}", "has a field '0'"),
        ("{colour.__class__}", "has a field 'colour.__class__'"),
        ("{colour[0]}", "has a field"),
        ("{colour!r}", "has a field"),
        ("{colour:{width}}", "has a field"),
        ("{colour:99999999999}", "too wide"),
        pytest.param(f"{{colour:{'1' * 5000}}}", "too wide", id="more digits than int takes"),
        ("{colour:.2f}", "does not fit 'red'"),
    ],
)
def test_a_wrong_template_is_invalid(template, told):
    with pytest.raises(Invalid, match=told) as caught:
        text.format_text(template, colour="red")
    assert caught.value.port == "template"


@pytest.mark.parametrize(("form", "value"), [("c", 0x110000), ("c", -1), ("c", 0xD800), ("f", 10**400)])
def test_a_number_beyond_its_format_is_invalid(form, value):
    with pytest.raises(Invalid, match=rf"{{n:{form}}} does not fit"):
        text.format_text(f"{{n:{form}}}", n=value)


def test_a_missing_field_names_the_known_ones():
    with pytest.raises(Invalid) as caught:
        text.format_text("{color}", colour="red", size=1)
    assert caught.value.fix == "known fields: {colour}, {size}"


def test_splitting():
    assert text.split_text("a\n\n b \n") == ["a", "b"]
    assert text.split_text("a,,b", ",", keep_empty=True) == ["a", "", "b"]
    assert text.split_text("a , b", ",", strip=False) == ["a ", " b"]


def test_replacing():
    assert text.replace_text("a.b.c", ".", "-") == "a-b-c"
    assert text.replace_text("Fox fox", "fox", r"\1", ignore_case=True) == r"\1 \1"
    assert text.replace_text("fox 12", r"(\w+) (\d+)", r"\2 \1", regex=True) == "12 fox"


@pytest.mark.parametrize(
    ("find", "replacement", "port"),
    [
        ("(", "", "find"),
        ("a{99999999999}", "", "find"),
        pytest.param(f"a{{{'9' * 5000}}}", "", "find", id="more digits than int takes"),
        pytest.param("(" * 3000 + ")" * 3000, "", "find", id="too deep"),
        ("(a)", r"\2", "replacement"),
        ("a", r"\g<x>", "replacement"),
    ],
)
def test_a_wrong_regular_expression_is_invalid(find, replacement, port):
    with pytest.raises(Invalid) as caught:
        text.replace_text("aaa", find, replacement, regex=True)
    assert caught.value.port == port


def test_finding():
    assert text.find_text("a1 b22", r"([a-z])(\d+)") == ["a1", "b22"]
    assert text.find_text("a1 b22", r"([a-z])(\d+)", 2) == ["1", "22"]
    assert text.find_text("ab", "(x)?a", 1) == [""]
    with pytest.raises(Invalid, match="has no group 3"):
        text.find_text("a", "(a)", 3)


def test_case_length_and_white_space():
    assert text.strip_text("  a \n") == "a"
    assert text.strip_text("xxaxx", "x") == "a"
    cases = {case: text.change_case("a RED fox", case) for case in ("lower", "upper", "title", "sentence")}
    assert cases == {"lower": "a red fox", "upper": "A RED FOX", "title": "A Red Fox", "sentence": "A red fox"}
    assert text.text_length("füchse") == 6


@pytest.mark.parametrize(
    ("number", "decimals", "told"), [(7.0, None, "7"), (7.5, None, "7.5"), (7, 2, "7.00"), (0.1, None, "0.1"), (2.675, 1, "2.7")]
)
def test_numbers_to_text(number, decimals, told):
    assert text.number_to_text(number, decimals) == told


def test_text_to_numbers():
    assert text.text_to_number(" 1e-3 ") == 0.001
    assert text.text_to_integer("-42") == -42
    for spelled in ("seven", "nan", "-inf", "1e999"):
        with pytest.raises(Invalid, match=f"'{spelled}' is no finite number"):
            text.text_to_number(spelled)
    with pytest.raises(Invalid, match=r"'7\.5' is no whole number"):
        text.text_to_integer("7.5")


def test_text_files(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_bytes("\ufeff# prompts\r\na füchs\r\n\r\n  an owl  \r\n".encode())
    file = File.at(path)
    assert text.load_text(file) == "# prompts\na füchs\n\n  an owl  \n"
    assert text.load_lines(file) == ["a füchs", "an owl"]
    assert text.load_lines(file, comment="")[0] == "# prompts"


def test_a_text_file_that_cannot_be_read_is_invalid(tmp_path):
    path = tmp_path / "bytes.txt"
    path.write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(Invalid, match="is no text in utf-8"):
        text.load_text(File.at(path))
    path.write_bytes(b"a fox +2AA-")
    with pytest.raises(Invalid, match="is no text in utf-7"):  # it spells half a character
        text.load_text(File.at(path), "utf-7")
    with pytest.raises(Invalid, match="no encoding 'utf-9'"):
        text.load_text(File.at(path), "utf-9")
    with pytest.raises(Invalid, match=r"no encoding 'a\\x00b'"):
        text.load_text(File.at(path), "a\0b")
    with pytest.raises(Invalid, match="cannot be read"):
        text.load_text(File(str(tmp_path / "none.txt")))
    with pytest.raises(Invalid, match="bytes"):
        text.load_text(File(str(path), size=1 << 30))
