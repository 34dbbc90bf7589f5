"""Rows of numbers without a header: the same rows in every form, and refused where they might be something else."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jaxrnn
from jaxrnn.foundation.errors import DataError, UserError

LENGTHS = [3, 5, 1, 4]
LABELS = ["2", "up", "2", "-1.5"]


def drawn() -> list[list[float]]:
    generator = np.random.default_rng(0)
    return [generator.normal(size=length).tolist() for length in LENGTHS]


def rows_of(delimiter: str, *, fill: str | None = None, label: str = "first", ending: str = "\n") -> str:
    lines = []
    for numbers, name in zip(drawn(), LABELS, strict=True):
        written = "2.0000000e+00" if name == "2" else name
        cells = [repr(number) for number in numbers]
        cells += [] if fill is None else [fill] * (max(LENGTHS) - len(cells))
        lines.append(delimiter.join([written, *cells] if label == "first" else [*cells, written]))
    return ending.join(lines) + ending


FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "commas": (rows_of(","), {}),
    "commas and spaces": (rows_of(" , ", ending=" \r\n"), {}),
    "tabs, filled with NaN": (rows_of("\t", fill="NaN"), {"row_end": "nan"}),
    "filled with nothing": (rows_of(",", fill="", ending="\r"), {"row_end": "empty"}),
    "runs of spaces": (rows_of("   ", ending="  \n  "), {}),
    "runs of spaces and tabs": (rows_of(" \t "), {"delimiter": " "}),
    "semicolons, decimal commas": (rows_of(";").replace(".", ","), {"decimal": ","}),
    "the label last": (rows_of(",", label="last"), {"label_column": "last"}),
    "the label last, behind NaN": (rows_of("\t", fill="nan", label="last"), {"label_column": "last", "row_end": "nan"}),
    "quotes": ('"' + rows_of('","', ending='"\n"')[:-1], {}),
    "comments": ("made here\n" + rows_of(",").replace("\n", "\n# and here\n"), {"comment": "#", "skip_lines": 1}),
    "no header, said so": (rows_of(","), {"header": False}),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("wrap", [bytes, gzip.compress, lambda content: b"\xef\xbb\xbf" + content])
def test_every_form_gives_the_same_sequences(form: str, wrap: Any, tmp_path: Path) -> None:
    text, options = FORMS[form]
    (tmp_path / "rows").write_bytes(wrap(text.encode().rstrip(b" ")))
    found = jaxrnn.read(tmp_path / "rows", **{"label_column": "first"} | options)
    assert [array[:, 0].tolist() for array in found.arrays()] == drawn()
    assert found.rows["labels"].texts() == LABELS
    assert found.steps["inputs"].names == ("values",)


def test_ragged_rows_without_options_are_what_read_sequences_reads(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    for number in range(20):
        lengths = generator.integers(1, 9, 30) + 1
        texts = [
            ",".join(
                str(generator.choice(["7", "-0", "+3", ".5", "1e-7", "12345.678", "3e38", "-2.5E3"]))
                for _ in range(length)
            )
            for length in lengths
        ]
        (tmp_path / f"{number}.csv").write_text("\n".join(texts))
        found, expected = jaxrnn.read(tmp_path / f"{number}.csv"), jaxrnn.read_sequences(tmp_path / f"{number}.csv")
        np.testing.assert_array_equal(found.ragged().values, expected.values)
        np.testing.assert_array_equal(found.offsets, expected.offsets)
        assert not found.rows


def test_labels_are_written_in_their_shortest_form(tmp_path: Path) -> None:
    pairs = {"1.0000000e+00": "1", "-0.0": "0", "+3": "3", "2.50": "2.5", "1e20": "1e+20"}
    as_they_are = ["007", "1e999", "good", "12345678901234567890", "1e2x", "\u0661.0"]
    pairs |= dict(zip(as_they_are, as_they_are, strict=True))
    (tmp_path / "rows").write_text("".join(f"{label},1\n" for label in pairs), encoding="utf-8")
    assert jaxrnn.read(tmp_path / "rows", label_column="first").rows["labels"].texts() == list(pairs.values())


def test_what_is_missing_inside_is_filled_or_marked(tmp_path: Path) -> None:
    (tmp_path / "rows").write_text("1,5,NaN,7,NaN\n2,,6,NaN,NaN\n")
    options: dict[str, Any] = {"label_column": "first", "row_end": "nan"}
    found = jaxrnn.read(tmp_path / "rows", missing="mask", **options)
    assert [array.tolist() for array in found.arrays()] == [[[5, 0], [0, 1], [7, 0]], [[0, 1], [6, 0]]]
    (tmp_path / "rows").write_text("1,5,NaN,7,NaN\n2,6\n")
    found = jaxrnn.read(tmp_path / "rows", missing="forward", **options)
    assert [array[:, 0].tolist() for array in found.arrays()] == [[5, 5, 7], [6]]


def test_a_label_of_that_name_in_a_header_is_a_column(tmp_path: Path) -> None:
    (tmp_path / "table").write_text("x,last\n4,a\n5,a\n")
    found = jaxrnn.read(tmp_path / "table", label_column="last")
    assert (found.arrays()[0].tolist(), found.rows["labels"].texts()) == ([[4], [5]], ["a"])
    (tmp_path / "table").write_text("0,1\n4,5\n")
    assert jaxrnn.read(tmp_path / "table", header=True).steps["inputs"].names == ("0", "1")
    assert jaxrnn.read(tmp_path / "table", input_columns="1", header=True).steps["inputs"].values.tolist() == [[5]]


FIRST: dict[str, Any] = {"label_column": "first"}
TELLING = range(10)
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("1,2\n4,5\n", {}, "FILE:1: found only numbers ('1', '2') where the names of columns should be, and as many in ev"),
    ("1,2\n4,5\n", {}, "give --no-header if each row is a sequence of one feature and nothing else, --label-column=fi"),
    (",0\n1821,269\n", {}, "FILE:1: found numbers ('0') among the names of columns"),
    ("good,1,2\nbad,3,4,5\n", {}, "FILE:1: found numbers ('1', '2') among the names of columns"),
    ("".join(f"{n + 3},{n / 7},0.5" + ",2.5" * (n % 3) + "\n" for n in TELLING), {},
     "FILE:1:1: found first numbers that count the rows; expected values; remove them if they are an index; give --no"),
    ("".join(f"{n % 3},{n / 7},0.5" + ",2.5" * (n % 3) + "\n" for n in TELLING), {},
     "FILE:1:1: found whole numbers first in every row, before others that are not; expected values; give --label-col"),
    ("".join(f"{n / 7},0.5" + ",2.5" * (n % 3) + f",{n % 3}\n" for n in TELLING), {},
     "FILE:1:3: found whole numbers last in every row, behind others that are not; expected values; give --label-colu"),
    ("1,2,3\n4,x\n", {}, "FILE:2:2: found 'x'; expected a number; mend it, or remove the row; if rows have a class"),
    ("1,2,3\n4,5 6\n", {}, "FILE:2:2: found '5 6'; expected a number"),
    ("1,2,0x10\n4,5\n", FIRST, "FILE:1:3: found '0x10'; expected a number"),
    ("1,2,1_0\n4,5\n", {}, "FILE:1:3: found '1_0'; expected a number"),
    ("1,2,inf\n4,5\n", {}, "FILE:1:3: found 'inf'; expected a number"),
    ("1,2,1e39\n4,5\n", {}, "FILE:1:3: found '1e39'; expected a number that float32 can hold"),
    ("time,v\n1,2\n", FIRST, "FILE:1:2: found 'v'; expected a number; mend it, or remove the row; if this line has th"),
    ("1,2,,\n4,5,6,\n", FIRST, "FILE:1:3: found '', the first of 3 missing values; expected a number; give --row-end="),
    ("1,2,NaN\n4,5\n", FIRST, "FILE:1:3: found 'NaN', the only one; expected a number; give --row-end=nan if it ends"),
    ("1,NaN,2\n4,5\n", FIRST, "FILE:1:2: found 'NaN', the only one; expected a number; give --missing=forward"),
    ("1,2,\n4,5\n", FIRST | {"row_end": "nan"}, "FILE:1:3: found '', the only one; expected a number"),
    ("1,2\n3,\n", FIRST | {"missing": "forward"}, "FILE:2:2: found a missing value before the first of its sequence"),
    ("a,1\nb\n", FIRST, "FILE:2: found no values; expected one at least"),
    ("a,1\nb,NaN,NaN\n", FIRST | {"row_end": "nan"}, "FILE:2: found no values; expected one at least"),
    ("a,1\n,2\n", FIRST, "FILE:2:1: found ''; expected a class or a number"),
    ("1,2,a\n3,b,\n", {"label_column": "last", "row_end": "empty"},
     "FILE:2:3: found ''; expected a class or a number last in the line, behind what fills it up"),
    ("a,1\nnan,2\n", FIRST, "FILE:2:1: found 'nan'; expected a class or a number"),
    ('a,1\n"b"c,2\n', FIRST, "FILE:2:1: found '\"b\"c'; expected a field without quotes in it"),
    ("1,2,3\n\n4,5\n", {}, "FILE:2:1: found a blank line; expected a row of numbers"),
    ("1,2,3\n   \n4,5\n", {}, "FILE:2:1: found a blank line; expected a row of numbers"),
    ("#\n1,2,3\n#\n\n4,5\n", {"comment": "#"}, "FILE:4:1: found a blank line; expected a row of numbers"),
    ("3,5;4,5\n1,5\n", {}, "FILE:1: found ',' and ';'; expected one of them between numbers; give --delimiter, and"),
    ("1 2\t3\n4\n", {}, "FILE:1: found tabs and spaces between numbers; expected one of them; give --delimiter=' ' fo"),
    ("", FIRST, "FILE: found an empty file; expected a row of numbers"),
    ("#a\n#b", {"comment": "#"}, "FILE: found an empty file; expected a header"),
    ("#a\n#b", {"comment": "#"} | FIRST, "FILE: found an empty file; expected a row of numbers"),
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


def test_what_is_refused_in_doubt_is_read_when_it_is_said(tmp_path: Path) -> None:
    for text, _, _ in REFUSED[:2] + REFUSED[4:7]:
        (tmp_path / "rows").write_text(text)
        found = jaxrnn.read(tmp_path / "rows", header=False)
        assert len(found) == text.count("\n")
        assert found.num_steps == text.count(",") + text.count("\n")


def test_options_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    (tmp_path / "rows").write_text("1,2\n3,4\n")
    for options, message in (
        ({"header": "yes"}, "header: got 'yes'; expected true, false or none"),
        ({"row_end": "zero"}, "row_end: got 'zero'; expected nan, empty or none"),
        ({"row_end": "nan", "header": True}, "header: got True; expected none: rows with an end of their own"),
        ({"row_end": "nan", "input_columns": "a"}, "input_columns: got 'a'; expected none, since the rows have no hea"),
        ({"header": False, "label_column": "a"}, "label_column: got 'a'; expected first or last, since the rows have"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=message):
            jaxrnn.read(tmp_path / "rows", **options)  # type: ignore[arg-type]
    (tmp_path / "rows").write_text('{"a": [1]}')
    with pytest.raises(UserError, match=r"row_end: got 'nan'; expected none: .* is no CSV or TSV"):
        jaxrnn.read(tmp_path / "rows", row_end="nan")
