"""Cases of `benchmarks.fuzz_tables`: rows of numbers without a header, and tables of texts, held against pandas."""

import csv
import io
import json
import random
import unicodedata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import jaxrnn
from jaxrnn.foundation.errors import DataError

NUMBERS = ["0", "-0", "1", "1e-7", "+3", "12345.678", "-2.5E3", ".5", "5.", "3e38", "0.1", "1234567890123456789"]
LABELS = ["up", "1", "2.0000000e+00", "-1.5", "x y", "ü"]
WRITTEN_LABELS = {"2.0000000e+00": "2"}
PIECES = [*"aZ09.,;:'\"-_$€ß日\t\n\u00a0\u2003", "\r\n", "\U0001f600", "e\u0301", " ", "word", '""', "NaN"]


class Case(NamedTuple):
    """A file.

    Attributes:
      form: What it is.
      content: Its bytes.
      options: What `jaxrnn.read` is told.
      damage: What was done to it; empty if nothing.
    """

    form: str
    content: bytes
    options: dict[str, Any]
    damage: str


def draw_rows(dice: random.Random) -> Case:
    """Draws rows of numbers."""
    delimiter = dice.choice([",", ";", "\t", " "])
    where, missing = dice.choice(["first", "last", None]), dice.choice(["error", "mask"])
    row_end = dice.choice(["nan", None] if delimiter == " " else ["nan", "empty", None])
    fill = {"nan": ["NaN", "nan"], "empty": [""], None: []}[row_end]
    width = dice.randint(1, 12)
    lines = []
    for _ in range(dice.randint(1, 20)):
        cells = [dice.choice(NUMBERS) for _ in range(dice.randint(1, width))]
        for place in range(len(cells) - 1):  # not the last, which would end the row
            if missing == "mask" and dice.random() < 0.1:
                cells[place] = dice.choice(["NaN", "null"] if delimiter == " " else ["NaN", "null", ""])
        if fill and dice.random() < 0.8:
            cells += [dice.choice(fill)] * (width - len(cells))
        label = [dice.choice([label for label in LABELS if delimiter not in label])]
        cells = {"first": label + cells, "last": cells + label, None: cells}[where]
        between = dice.choice([" ", "  ", "    "]) if delimiter == " " else delimiter
        lines.append(between.join(cells))
    options = {"label_column": where, "row_end": row_end, "missing": missing, "header": False}
    options |= {"delimiter": delimiter} if dice.random() < 0.5 or delimiter == " " else {}
    if "delimiter" not in options and (len(lines[0]) and all(delimiter not in line for line in lines)):
        options["delimiter"] = delimiter
    if delimiter == "\t":
        options["delimiter"] = delimiter  # a label has a space
    text = dice.choice(["\n", "\r\n", "\r"]).join(lines) + dice.choice(["", "\n"])
    damage = "cell" if dice.random() < 0.3 else ""
    if damage:
        number = dice.choice(NUMBERS)
        text = text.replace(number, dice.choice(["oops", "1e999", "inf", "0x1", "1_0", "\u0664", '"1"2']), 1)
        damage = "cell" if number in "\n".join(lines) else ""
    return Case("rows", text.encode(), options, damage)


def rows_by_pandas(case: Case) -> tuple[list[list[float]], list[str]]:
    """Returns the numbers of every row, NaN where one is missing, and the labels."""
    import pandas as pd

    text = case.content.decode().replace("\r\n", "\n").replace("\r", "\n")
    delimiter = case.options.get("delimiter") or next(one for one in ",;\t " if one in text)
    lines = text.removesuffix("\n").split("\n")
    width = max(len(line.split() if delimiter == " " else line.split(delimiter)) for line in lines)
    frame = pd.read_csv(
        io.StringIO(text),
        header=None,
        names=range(width),
        sep=r"\s+" if delimiter == " " else delimiter,
        dtype=str,
        keep_default_na=False,
        skip_blank_lines=False,
        engine="python",
        quoting=csv.QUOTE_NONE,
    )
    rows, labels = [], []
    for line in frame.itertuples(index=False):
        cells = [cell for cell in line if isinstance(cell, str)]  # what pandas adds to a short row is none
        if case.options["label_column"] is not None:
            label = cells.pop(0 if case.options["label_column"] == "first" else -1)
            labels.append(WRITTEN_LABELS.get(label, label))
        end = {"nan": "nan", "empty": "", None: "\0"}[case.options["row_end"]]
        while cells and cells[-1].lower() == end:
            cells.pop()
        rows.append([np.nan if cell.lower() in ("nan", "null", "") else float(cell) for cell in cells])
    return rows, labels


def check_rows(case: Case, folder: Path) -> str:
    """Reads rows; returns "read" or "refused".

    Raises:
      AssertionError: A value is not where pandas has it, or whole rows are refused.
    """
    found = _read(case, folder)
    if found is None:
        return "refused"
    rows, labels = rows_by_pandas(case)
    assert found.lengths.tolist() == list(map(len, rows))
    flat = np.array([number for row in rows for number in row])
    values = found.steps["inputs"].values
    np.testing.assert_array_equal(values[:, 0], np.nan_to_num(flat, nan=0.0))
    if np.isnan(flat).any():
        np.testing.assert_array_equal(values[:, 1], np.isnan(flat))
    assert labels == (found.rows["labels"].texts() if labels else []), labels
    return "read"


def draw_texts(dice: random.Random) -> Case:
    """Draws a table of texts."""
    rows = [
        ["x" + "".join(dice.choice(PIECES) for _ in range(dice.randint(0, 12))), dice.choice(LABELS[:2]), str(number)]
        for number in dice.sample(range(100), dice.randint(1, 15))
    ]
    form = dice.choice(["text csv", "text tsv", "text jsonl"])
    names = ["review", "label", "key"]
    if form == "text jsonl":
        content = "\n".join(json.dumps(dict(zip(names, row, strict=True))) for row in rows).encode()
    else:
        out = io.StringIO(newline="")
        ending, quoting = dice.choice(["\n", "\r\n"]), dice.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
        delimiter = "," if form == "text csv" else "\t"
        csv.writer(out, delimiter=delimiter, lineterminator=ending, quoting=quoting).writerows([names, *rows])
        content = out.getvalue().encode()
    options: dict[str, Any] = {"text_column": "review", "label_column": "label"}
    options |= {"tokens": dice.choice(["character", "word", "byte"])}
    options |= {"id_column": "key"} if dice.random() < 0.5 else {}
    damage = "bytes" if dice.random() < 0.4 else ""
    if damage:
        at = dice.randrange(len(content))
        change = dice.choice([b"", b'"', b"\n", b",", b"\t", b"\xff", b"\0", b"\\"])
        content = content[:at] + change + content[at + dice.randint(0, 2) :]
    return Case(form, content, options, damage)


def words_of(text: str) -> list[str]:
    """Cuts a text as docs/data.md says, in plain Python."""
    return "".join(f" {one} " if unicodedata.category(one)[0] in "PS" else one for one in text).split()


def check_texts(case: Case, folder: Path) -> str:
    """Reads texts; returns "read" or "refused".

    Raises:
      AssertionError: A token is not where pandas has it, or a whole table is refused.
    """
    import pandas as pd

    found = _read(case, folder)
    if found is None:
        return "refused"
    if case.form == "text jsonl":
        frame = pd.DataFrame([json.loads(line) for line in case.content.split(b"\n") if line.strip()])
    else:
        frame = pd.read_csv(
            io.BytesIO(case.content), sep="," if case.form == "text csv" else "\t", dtype=str, keep_default_na=False
        )
    if "id_column" in case.options:
        numbers = pd.to_numeric(frame["key"], errors="coerce")
        is_whole = (numbers.notna() & (numbers.map(lambda number: f"{number:.0f}") == frame["key"])).all()
        frame = frame.assign(number=numbers if is_whole else frame["key"]).sort_values("number")
        assert found.rows["ids"].texts() == frame["key"].tolist()
    cut = {"character": list, "word": words_of, "byte": lambda text: [f"0x{byte:02x}" for byte in text.encode()]}
    expected: list[list[str]] = [cut[case.options["tokens"]](text) for text in frame["review"]]  # type: ignore[operator]
    assert found.lengths.tolist() == list(map(len, expected))
    assert found.steps["categories"].texts() == [token for text in expected for token in text]
    assert found.rows["labels"].texts() == frame["label"].tolist()
    return "read"


def _read(case: Case, folder: Path) -> jaxrnn.Sequences | None:
    """Reads a case, None if it is refused as it may be."""
    (folder / "rows").write_bytes(case.content)
    try:
        return jaxrnn.read(folder / "rows", **case.options)
    except DataError as error:
        if not case.damage or "; expected " not in str(error):
            raise AssertionError(f"refused, or by a message of another form: {error}") from error
        return None
