"""YAML 1.2: what a text means, and which texts are refused."""

from __future__ import annotations

import math

import pytest

from hpc_search.config.nodes import Mapping, Scalar, Sequence, parse
from hpc_search.config.problems import Book
from hpc_search.config.scalars import resolve
from hpc_search.errors import ConfigError


def read(text: str | bytes) -> object:
    book = Book("f.yaml")
    node = parse(text.encode() if isinstance(text, str) else text, book)
    book.close()
    return plain(node)


def plain(node: object) -> object:
    match node:
        case Sequence(items=items):
            return [plain(item) for item in items]
        case Mapping(entries=entries):
            return {key.text: plain(value) for key, value in entries}
        case Scalar(value=value):
            return value
    raise TypeError(node)


def refused(text: str | bytes) -> str:
    with pytest.raises(ConfigError) as caught:
        read(text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E3", 1000.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("-2.5e+1", -25.0),
        ("010", 10),
        ("+3", 3),
        ("-0", 0),
        ("0o17", 15),
        ("0x1F", 31),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("yes", "yes"),
        ("off", "off"),
        ("1_000", "1_000"),
        ("1:30:00", "1:30:00"),
        ("2026-11-20", "2026-11-20"),
        ("0b11", "0b11"),
        ("1e", "1e"),
        ("-0x1", "-0x1"),
        (".", "."),
        ("inf", "inf"),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("\u0661", "\u0661"),
    ],
)
def test_plain_scalars_follow_the_core_schema_of_yaml_1_2(text: str, value: object) -> None:
    read_value = resolve(text)
    assert read_value == value
    assert type(read_value) is type(value)


def test_not_a_number_is_recognised() -> None:
    value = resolve(".NaN")
    assert isinstance(value, float)
    assert math.isnan(value)


def test_quoted_numbers_are_strings() -> None:
    assert read("[\"1\", '2', !!str 3, ! 4]") == ["1", "2", "3", "4"]


def test_surrogate_pairs_of_json_are_one_character() -> None:
    assert read('"\\ud83d\\ude00"') == "\U0001f600"


def test_aliases_stand_for_their_anchor() -> None:
    assert read("a: &x [1, 2]\nb: *x\n") == {"a": [1, 2], "b": [1, 2]}


def test_core_tags_are_understood() -> None:
    assert read("[!!float 3, !!int 3, !!null ~, !!seq [1], !!map {a: 1}]") == [3.0, 3, None, [1], {"a": 1}]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the file is empty"),
        ("# only a comment\n", "the file is empty"),
        ("---\n", "the file is empty"),
        ("--- a\n--- b\n", "f.yaml:2: a second YAML document begins here"),
        (b"\xff\xfea\x00", "byte 0xff at offset 0"),
        (b"a: 1\nb: \xe9\n", "f.yaml:2: the file is not UTF-8"),
        (b"a" * 1_000_001, "too large"),
        ("a:\n\tb: 1", "line 2, column 1: a tab stands where YAML allows only spaces"),
        ("a: [1, 2\nb: 3", "a list that begins with '[' is not closed (it began on line 1)"),
        ("a: {b: 1", "a mapping that begins with '{' is not closed"),
        ("a: b: c", "line 1, column 5: a colon stands where no key can be"),
        ("a: 'b", "a quoted text is not closed"),
        ("a: @b", "special in YAML"),
        ("a: \x07", "the character U+0007"),
        ('"\\UFFFFFFFF"', "not valid YAML"),
        ('"\\U00110000"', "not valid YAML"),
        ('"\\ud83d"', "lone surrogate"),
        (f"%YAML 1.{'9' * 5000}\n---\na", "not valid YAML"),
        ("a: 1\na: 2\n", "the key 'a' stands twice, on line 1 and on line 2"),
        ("1: a\n", 'write it in quotes: "1"'),
        ("true: a\n", "a key is not a string"),
        ("? [a]\n: 1\n", "a key is not a string"),
        ("<<: a\n", "merge keys"),
        ("!!python/object:os.system x", "unknown tag"),
        ("!mine {a: 1}", "unknown tag '!mine'"),
        ("!!int 1.5", "does not fit its value"),
        ("a: *b", "names no anchor before it"),
        ("&a [*a]", "stands inside what it names"),
        ("[" * 33 + "]" * 33, "nested deeper than 32 levels"),
        ("[" * 500_000, "nested deeper than 32 levels"),
        ("- &a 1\n" + "- *a\n" * 101, "more than 100 aliases"),
        ("[" + "1," * 100_001 + "]", "more than 100,000 values"),
    ],
)
def test_a_bad_text_is_refused_in_words(text: str | bytes, words: str) -> None:
    assert words in refused(text)


def test_a_bomb_of_aliases_is_refused_by_its_expanded_size() -> None:
    bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    for before, name in zip("abcdefg", "bcdefgh", strict=True):
        bomb += f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    assert "more than 100,000 values" in refused(bomb)


def test_depth_counts_through_aliases() -> None:
    deep = "[" * 20 + "]" * 20
    assert "nested deeper" in refused(f"a: &a {deep}\nb: {'[' * 15}*a{']' * 15}")


def test_all_duplicate_keys_are_told_at_once() -> None:
    assert refused("a: 1\na: 2\nb: 1\nb: 2\n").startswith("2 problems")


def test_a_flood_of_problems_ends_at_the_hundredth() -> None:
    assert refused("".join(f"{number}: x\n" for number in range(5000))).startswith("100 problems")
