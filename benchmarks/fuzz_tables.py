"""Reads random tables, rows without a header and tables of texts, whole and damaged; holds each value against pandas.

    python -m benchmarks.fuzz_tables --cases=100000 --seed=0
    python -m benchmarks.fuzz_tables --seed=0 --only=1234        # one case, shown

A case is a table of steps: ids that need quotes, times of three kinds, numbers in many forms, missing values,
categories and labels, in any order; written as CSV or TSV, as Parquet, Arrow IPC or a DataFrame. Half of them are
damaged: bytes changed, cut or doubled, cells of another kind, a row twice, a label that changes. A whole table must
give the sequences that pandas gives by groupby and sort_values, to the bit; a damaged one those, or a DataError; and
all of them the same where they are read as large files are. Every third case is of rows without a header, another third
of texts (`benchmarks.fuzz_rows`). Case N of a seed is always the same. Needs pandas. Exits with 1 if anything failed.
"""

import argparse
import csv
import io
import random
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

import jaxrnn
from benchmarks.fuzz_rows import check_rows, check_texts, draw_rows, draw_texts
from jaxrnn.data.readers import sources
from jaxrnn.data.readers.native import records
from jaxrnn.foundation.errors import DataError

IDS = ["7", "07", "12", "-3", 'a "b"', "c,d", "e;f", "tab\there", "two\nlines", "ü", "日本", "NA", "x y", "0.5"]
LABELS = ["left", "right", 'mid "dle"', "1", "2", "10"]
NUMBERS = ["0", "-0", "1", "1e-7", "+3", "12345.678", "-2.5E3", ".5", "5.", "3e38", "0.1", "1234567890123456789"]
MISSING = ["", "NA", "nan", "NaN", "null"]
FORMS = ["csv", "tsv", "semicolon", "parquet", "arrow", "frame"]


class Case(NamedTuple):
    """A table.

    Attributes:
      form: How it is held.
      header: The names of its columns.
      rows: Its cells as text.
      options: What `jaxrnn.read` is told.
      damage: What was done to it; empty if nothing.
    """

    form: str
    header: list[str]
    rows: list[list[str]]
    options: dict[str, Any]
    damage: str


def draw(seed: int, number: int) -> tuple[Case, random.Random]:
    """Draws case `number` of a seed, and the generator with which to damage its bytes."""
    dice = random.Random(f"{seed}:{number}")
    units = dice.sample(IDS, dice.randint(1, 6))
    labels = {unit: dice.choice(LABELS) for unit in units}
    num_inputs = dice.randint(1, 3)
    kind = dice.choice(["whole", "number", "date", "none"])
    missing = dice.choice(["error", "forward", "mask"])
    count = dice.randint(1, 40)
    hours = dice.sample(range(1000), count)
    rows = []
    seen: set[str] = set()
    for hour in hours:
        unit = dice.choice(units)
        time = {"whole": str(hour - 500), "number": repr(hour / 7), "none": "0"}.get(
            kind, f"20{hour // 100:02d}-{hour % 12 + 1:02d}-{hour % 28 + 1:02d} {hour % 24:02d}:{hour % 60:02d}:00"
        )
        cells = [dice.choice(NUMBERS) for _ in range(num_inputs)]
        if missing != "error" and dice.random() < 0.2 and (missing == "mask" or (unit in seen and kind == "none")):
            cells[dice.randrange(num_inputs)] = dice.choice(MISSING)
        seen.add(unit)
        rows.append([unit, time, *cells, dice.choice(LABELS), labels[unit]])
    if kind == "date":  # two of them may be the same
        rows = list({(row[0], row[1]): row for row in rows}.values())
    inputs = [f"x{number}" for number in range(num_inputs)]
    header = ["unit", "when", *inputs, "kind", "label"]
    options = {"id_column": "unit", "input_columns": inputs, "category_columns": "kind", "label_column": "label"}
    options |= {"missing": missing} | ({} if kind == "none" else {"time_column": "when"})
    damage = dice.choice(["bytes", "cell", "row", "label"]) if dice.random() < 0.5 else ""
    if damage == "cell":
        row = dice.choice(rows)
        row[dice.randrange(len(row))] = dice.choice(["", "oops", "1e999", "inf", "0x1", "1_0", "2024-13-01", "\u0664"])
    elif damage == "row":
        rows.insert(dice.randrange(len(rows) + 1), list(dice.choice(rows)))
    elif damage == "label":
        dice.choice(rows)[-1] = dice.choice(LABELS)
    return Case(dice.choice(FORMS), header, rows, options, damage), dice


def write(case: Case, dice: random.Random, folder: Path) -> Any:
    """Returns a path, or a DataFrame."""
    if case.form in ("parquet", "arrow", "frame"):
        import pandas as pd
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = dict(zip(case.header, map(list, zip(*case.rows, strict=True)), strict=True))
        if case.form == "frame":
            return pd.DataFrame(columns)
        table = pa.table(columns)
        out = io.BytesIO()
        if case.form == "parquet":
            pq.write_table(table, out, row_group_size=dice.randint(1, 30))
        else:
            with pa.ipc.new_stream(out, table.schema) as writer:
                writer.write_table(table)
        content = out.getvalue()
    else:
        delimiter = {"csv": ",", "tsv": "\t", "semicolon": ";"}[case.form]
        text = io.StringIO(newline="")
        csv.writer(
            text,
            delimiter=delimiter,
            quoting=dice.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
            lineterminator=dice.choice(["\n", "\r\n"]),
        ).writerows([case.header, *case.rows])
        content = (b"\xef\xbb\xbf" if dice.random() < 0.2 else b"") + text.getvalue().encode()
    if case.damage == "bytes":
        content = _damaged(content, dice)
    (folder / "rows").write_bytes(content)
    return folder / "rows"


def _damaged(content: bytes, dice: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(dice.randint(1, 3)):
        at = dice.randrange(len(changed)) if changed else 0
        what = dice.choice(["change", "cut", "double", "end"])
        if what == "change" and changed:
            changed[at] = dice.choice([0, 10, 34, 44, 59, 9, 255, dice.randrange(256)])
        elif what == "cut":
            del changed[at : at + dice.randint(1, 20)]
        elif what == "double":
            changed[at:at] = changed[at : at + dice.randint(1, 20)]
        else:
            del changed[at:]
    return bytes(changed)


def by_pandas(case: Case) -> dict[str, tuple[np.ndarray, list[str], str]]:
    """Returns inputs, categories and the label of every id."""
    import pandas as pd

    frame = pd.DataFrame(case.rows, columns=case.header)
    inputs = case.options["input_columns"]
    for name in inputs:
        texts = frame[name].str.strip()
        frame[name] = np.array([np.nan if text in MISSING else float(text) for text in texts])
    if "time_column" in case.options:
        when = frame["when"]
        frame["when"] = pd.to_datetime(when) if "-" in when[0][1:] and ":" in when[0] else when.map(float)
        frame = frame.sort_values("when", kind="stable")
    found = {}
    for unit, group in frame.groupby("unit", sort=False):
        values = group[inputs]
        if case.options["missing"] == "forward":
            values = values.ffill()
        elif case.options["missing"] == "mask":
            marks = [values[name].isna().astype(float).rename(f"{name} is missing") for name in inputs]
            values = pd.concat([values.fillna(0.0), *marks], axis=1)
        found[str(unit)] = values.to_numpy(np.float64), group["kind"].tolist(), group["label"].iloc[0]
    return found


def outcome(source: Any, options: dict[str, Any]) -> jaxrnn.Sequences | str:
    """Returns the sequences of a table, or why it was refused."""
    try:
        return jaxrnn.read(source, **options)
    except DataError as error:
        return str(error)


def check(case: Case, dice: random.Random, folder: Path) -> str:
    """Reads a case; returns "read" or "refused".

    Raises:
      AssertionError: A value is not where pandas has it, or a whole table is refused.
    """
    source = write(case, dice, folder)
    found = outcome(source, case.options)
    with (
        mock.patch.multiple(sources, LARGE_BYTES=0),
        mock.patch.multiple(records, FILE_BLOCK_BYTES=dice.randint(1, 99)),
    ):
        assert outcome(source, case.options) == found, "read in parts"
    if isinstance(found, str):
        if not case.damage or "; expected " not in found:
            raise AssertionError(f"refused, or by a message of another form: {found}")
        return "refused"
    if case.damage == "bytes":
        return "read"  # as something else than was written; nobody knows what
    expected = by_pandas(case)
    ids = found.rows["ids"].texts()
    assert set(ids) == set(expected), (ids, list(expected))
    kinds, at = found.steps["categories"].texts(), 0
    for unit, label, array in zip(ids, found.rows["labels"].texts(), found.arrays(), strict=True):
        values, categories, wanted = expected[unit]
        np.testing.assert_array_equal(array, values, err_msg=unit)
        assert kinds[at : at + len(array)] == categories, unit
        assert label == wanted, (unit, label, wanted)
        at += len(array)
    return "read"


def prepare(seed: int, number: int, folder: Path) -> tuple[Any, Callable[[], str]]:
    """Draws case `number` of a seed; returns it, and what checks it."""
    if number % 3 == 0:
        steps, dice = draw(seed, number)
        return steps, lambda: check(steps, dice, folder)
    dice = random.Random(f"{seed}:{number}")
    case = draw_rows(dice) if number % 3 == 1 else draw_texts(dice)
    return case, lambda: (check_rows if number % 3 == 1 else check_texts)(case, folder)


def main(argv: Sequence[str] | None = None) -> int:
    """Reads the cases and prints what came of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="one case, shown")
    arguments = parser.parse_args(argv)
    numbers = range(arguments.cases) if arguments.only is None else [arguments.only]
    tally: Counter = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for number in numbers:
            case, run = prepare(arguments.seed, number, Path(folder))
            if arguments.only is not None:
                print(case)
            try:
                outcome = run()
            except Exception:
                outcome = "FAILED"
                if tally["FAILED"] < 5:
                    print(f"case {number} of seed {arguments.seed}:\n{traceback.format_exc()}")
                tally["FAILED"] += 1
            tally[case.form, case.damage or "whole", outcome] += 1
    failed = tally.pop("FAILED", 0)
    for key, count in sorted(tally.items()):
        print(f"{key[0]:10} {key[1]:6} {key[2]:8} {count}")
    print(f"{len(numbers)} cases, {failed} failed")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
