"""Texts as sequences of characters, words or bytes, whatever holds them."""

import csv
import io
import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jaxrnn
from jaxrnn.data.readers.tokens import tokenise
from jaxrnn.foundation.errors import DataError, UserError

REVIEWS = ['Good, "very"\ngood', "ü日本、e\u0301 \U0001f600!", "don't\tstop  (3.5%)", "a_b\u00a0c\u2003d $5"]
FEELINGS = ["pos", "neg", "pos", "7"]
COLUMNS: dict[str, Any] = {"text_column": "review", "label_column": "feeling", "static_columns": "stars"}


def table() -> pa.Table:
    return pa.table({"review": REVIEWS, "feeling": FEELINGS, "stars": [1.0, 2.0, 3.0, 4.5], "key": list("abcd")})


def text_of(delimiter: str) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter)
    writer.writerows([table().column_names, *(row.values() for row in table().to_pylist())])
    return out.getvalue().encode()


def parquet() -> bytes:
    out = io.BytesIO()
    columns = [table().column(0).dictionary_encode(), *table().columns[1:]]
    pq.write_table(pa.table(columns, names=table().column_names), out, row_group_size=2)
    return out.getvalue()


def json_lines() -> bytes:
    return "\n".join(map(json.dumps, table().to_pylist())).encode()


FORMS = {"csv": lambda: text_of(","), "tsv": lambda: text_of("\t"), "json lines": json_lines, "parquet": parquet}


def words_of(text: str) -> list[str]:
    """The rule of the documentation, in plain Python."""
    apart = "".join(f" {one} " if unicodedata.category(one)[0] in "PS" else one for one in text)
    return apart.split()


TOKENS: dict[str, Any] = {
    "character": list,
    "word": words_of,
    "byte": lambda text: [f"0x{byte:02x}" for byte in text.encode()],
}


def texts_of(sequences: jaxrnn.Sequences) -> list[list[str]]:
    return [one.steps["categories"].texts() for one in sequences]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("tokens", TOKENS)
def test_every_file_gives_the_same_tokens(form: str, tokens: Any, tmp_path: Path) -> None:
    (tmp_path / "texts").write_bytes(FORMS[form]())
    found = jaxrnn.read(tmp_path / "texts", tokens=tokens, **COLUMNS)
    assert texts_of(found) == [TOKENS[tokens](text) for text in REVIEWS]
    assert found.rows["labels"].texts() == FEELINGS
    assert found.rows["statics"].values[:, 0].tolist() == [1, 2, 3, 4.5]
    field = found.steps["categories"]
    assert (field.names, field.values.dtype) == (("review",), np.int32)
    listed = jaxrnn.read(REVIEWS, tokens=tokens, labels=FEELINGS)
    assert listed.steps["categories"].vocabulary == field.vocabulary
    assert (texts_of(listed), listed.rows["labels"].texts()) == (texts_of(found), FEELINGS)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_dataframes_are_read_too(library: str) -> None:
    frame = pytest.importorskip(library).DataFrame(table().to_pydict())
    found = jaxrnn.read(frame, **COLUMNS)
    assert texts_of(found) == [list(text) for text in REVIEWS]


def test_texts_come_in_the_order_of_their_ids() -> None:
    shuffled = table().take([2, 0, 3, 1])
    found = jaxrnn.read(shuffled, id_column="key", **COLUMNS)
    assert texts_of(found) == [list(text) for text in REVIEWS]
    assert found.rows["ids"].texts() == list("abcd")
    assert found.rows["labels"].texts() == FEELINGS
    assert texts_of(jaxrnn.read(shuffled, **COLUMNS))[0] == list(REVIEWS[2])


def test_vocabularies_are_sorted_and_that_of_bytes_is_whole() -> None:
    assert jaxrnn.read(["ba", "ab"], tokens="character").steps["categories"].vocabulary == (("a", "b"),)
    (vocabulary,) = jaxrnn.read(["A"], tokens="byte").steps["categories"].vocabulary
    assert (len(vocabulary), vocabulary[0x41]) == (256, "0x41")


@pytest.mark.parametrize("tokens", TOKENS)
def test_random_texts_are_cut_as_plain_python_cuts_them(tokens: Any) -> None:
    generator = np.random.default_rng(3)
    letters = [*"aZ09 \t\n.,;'\"-_$€ß日é\u0301\u00a0\u2028", "\U0001f600", "word", "  "]
    texts = ["x" + "".join(generator.choice(letters, generator.integers(0, 30))) for _ in range(500)]
    codes, vocabulary, lengths = tokenise(pa.array(texts, pa.large_string()).slice(3), tokens)
    expected = [TOKENS[tokens](text) for text in texts[3:]]
    assert lengths.tolist() == list(map(len, expected))
    assert [vocabulary[code] for code in codes] == [token for one in expected for token in one]


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("a,b\nx,1\n,2\n", {"text_column": "a"}, "FILE:3:1: found no character in ''; expected a text; fill it in"),
    ('a,b\n"x\ny",1\n"  ",2\n', {"text_column": "a", "tokens": "word"}, "FILE:4:1: found no word in '  '; expected a "),
    ('a,b\n"x" y,1\n', {"text_column": "a"}, "FILE:2: found a cell that cannot be read ('\"x\" y,1\\n'); expected cel"),
    ('a,b\nx,"1\n', {"text_column": "a"}, "FILE:2: found a cell that cannot be read"),
    ('a\tb\n5" x\t1\n"y\nz" \t2\n', {"text_column": "a"}, "FILE:3: found a cell that cannot be read"),
    ("a,b\nx,1\n", {"text_column": "c"}, "FILE: found no column 'c'; expected one of 'a', 'b'; mend --text-column"),
    ("a,b\nx,1\ny,1\n", {"text_column": "a", "id_column": "b"}, "FILE:3:2: found the id '1' again, as in line 2"),
    ('{"a":"x"}\n{"a":null}\n', {"text_column": "a"}, "FILE:2:1: found no text; expected one; fill it in"),
    ('{"a":5}\n', {"text_column": "a"}, "FILE: found the column 'a' of type 'int64'; expected texts; mend --text-colu"),
    ('{"a":"\\ud800"}\n', {"text_column": "a"}, "FILE:1: found no JSON"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "options", "message"), REFUSED)
def test_what_cannot_be_read_names_its_place(
    text: str, options: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("FILE").write_bytes(text.encode())
    with pytest.raises(DataError) as caught:
        jaxrnn.read("FILE", **options)
    assert message in str(caught.value)


def test_lines_are_counted_behind_cells_of_any_length(tmp_path: Path) -> None:
    (tmp_path / "texts").write_text('a,b\n"' + "long\n" * 100_000 + '",1\n,2\n')
    with pytest.raises(DataError, match="texts:100003:1: found no character in ''"):
        jaxrnn.read(tmp_path / "texts", text_column="a")


def test_a_quote_within_a_cell_is_a_character_of_it(tmp_path: Path) -> None:
    (tmp_path / "texts").write_text('a\tb\nof 5" or\tx\n6"\ty\n"7"""\tz\n')
    found = jaxrnn.read(tmp_path / "texts", text_column="a", label_column="b")
    assert ["".join(text) for text in texts_of(found)] == ['of 5" or', '6"', '7"']


def test_options_that_do_not_fit_are_refused() -> None:
    for source, options, message in (
        (table(), COLUMNS | {"input_columns": "stars"}, "input_columns: .* expected none beside text_column"),
        (table(), COLUMNS | {"each_step_has_a_label": True}, "each_step_has_a_label: .* expected none beside text_col"),
        (table(), COLUMNS | {"tokens": "letter"}, "tokens: got 'letter'; expected character, word or byte"),
        (table(), {"tokens": "word", "input_columns": "stars"}, "tokens: got 'word'; expected none without text_colum"),
        (["good", 3], {"tokens": "word"}, "text 1: got 'int'; expected a text, since tokens"),
        (["good", " "], {"tokens": "word"}, "text 1: got ' '; expected one word at least"),
        (["good", "\ud800"], {"tokens": "word"}, "text 1: got half of a surrogate pair; expected Unicode"),
        ([], {"tokens": "word"}, "source: got 'no texts'; expected at least one"),
        (["good"], {"tokens": "word", "ids": [1, 2]}, "ids: got '2'; expected 1, one for each array or text"),
        (["good"], {"labels": [1]}, "labels: got 'some'; expected none: .* if the list holds texts, give tokens"),
        (["good"], {"tokens": "word", "label_column": "a"}, "columns: got 'a'; expected none: arrays have no names"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=message):
            jaxrnn.read(source, **options)
    offsets = np.array([0, 1], np.int32)
    broken = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(offsets), pa.py_buffer(b"\xff")])
    with pytest.raises(DataError, match="the table: found text that is not UTF-8 in 'a'"):
        jaxrnn.read(pa.table({"a": broken}), text_column="a")
    with pytest.raises(DataError, match="good: found no such file"):
        jaxrnn.read(["good"])
