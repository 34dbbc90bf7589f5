"""Files of Monash's archive: ids, times of every step, attributes, frequency and horizon."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jaxrnn
from jaxrnn.data.sequences import Schedule
from jaxrnn.foundation.errors import DataError

HEAD = """# made here
@relation made
@attribute series_name string
@attribute start_timestamp date
@attribute height numeric
@attribute state string
@frequency monthly
@horizon 6
@missing true
@equallength false
@data
"""
SERIES = """T2:2023-01-31 12-30-00:1.5:VIC:1,?,3,-4e2
T1:1999-12-01 00-00-00:-2:NSW:5,6
"""


def read(text: str, tmp_path: Path, **options: Any) -> jaxrnn.Sequences:
    (tmp_path / "made.tsf").write_text(text)
    return jaxrnn.read(tmp_path / "made.tsf", **options)


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_a_file_is_read_as_its_tags_say(ending: str, tmp_path: Path) -> None:
    (tmp_path / "made.tsf").write_bytes((HEAD + SERIES).replace("\n", ending).encode())
    found = jaxrnn.read(tmp_path / "made.tsf", missing="mask")
    assert found.rows["ids"].texts() == ["T1", "T2"]
    assert found.lengths.tolist() == [2, 4]
    assert found.steps["inputs"].values.tolist() == [[5, 0], [6, 0], [1, 0], [0, 1], [3, 0], [-400, 0]]
    assert found.rows["statics"].values.tolist() == [[-2], [1.5]]
    assert (found.rows["categories"].names, found.rows["categories"].texts()) == (("state",), ["NSW", "VIC"])
    assert found.schedule == Schedule(frequency="monthly", horizon=6)
    assert found.take([1]).schedule == found.schedule
    times = found.steps["times"].values[:, 0].astype("datetime64[m]").astype(str).tolist()
    assert times == [
        "1999-12-01T00:00",
        "2000-01-01T00:00",
        "2023-01-31T12:30",
        "2023-02-28T12:30",
        "2023-03-31T12:30",
        "2023-04-30T12:30",
    ]


@pytest.mark.parametrize(
    ("frequency", "second"),
    [
        ("4_seconds", "2024-02-29T23:50:04"),
        ("minutely", "2024-02-29T23:51:00"),
        ("10_minutes", "2024-03-01T00:00:00"),
        ("half_hourly", "2024-03-01T00:20:00"),
        ("hourly", "2024-03-01T00:50:00"),
        ("daily", "2024-03-01T23:50:00"),
        ("weekly", "2024-03-07T23:50:00"),
        ("quarterly", "2024-05-29T23:50:00"),
        ("yearly", "2025-02-28T23:50:00"),
    ],
)
def test_times_are_apart_as_the_frequency_says(frequency: str, second: str, tmp_path: Path) -> None:
    text = f"@attribute start_timestamp date\n@frequency {frequency}\n@data\n2024-02-29 23-50-00:1,2\n"
    found = read(text, tmp_path)
    assert found.steps["times"].values[1, 0] == np.datetime64(second)
    assert "ids" not in found.rows


def test_times_that_cannot_be_held_name_the_file(tmp_path: Path) -> None:
    text = "@attribute start_timestamp date\n@frequency 99999_years\n@data\n2024-02-29:1,2,3,4\n"
    with pytest.raises(DataError, match=r"made.tsf: times: found some 300051 years from 1970; expected at most 290000"):
        read(text, tmp_path)


def test_times_take_a_start_and_a_frequency(tmp_path: Path) -> None:
    found = read(HEAD.replace("@frequency monthly\n", "") + SERIES, tmp_path, missing="forward")
    assert set(found.steps) == {"inputs"}
    assert found.schedule == Schedule(horizon=6)
    found = read("@attribute name string\n@frequency daily\n@data\nb:1,2\na:3\n", tmp_path)
    assert (found.rows["ids"].texts(), set(found.steps)) == (["a", "b"], {"inputs"})
    found = read("@attribute name string\n@data\nb:1,2\nb:3\n", tmp_path)  # says not which is which
    assert (set(found.rows), found.rows["categories"].texts()) == ({"categories"}, ["b", "b"])


def test_the_caller_may_give_attributes_other_roles(tmp_path: Path) -> None:
    found = read(HEAD + SERIES, tmp_path, missing="mask", label_column="state", static_columns=())
    assert found.rows["labels"].texts() == ["NSW", "VIC"]
    assert "categories" not in found.rows
    found = read(HEAD + SERIES, tmp_path, missing="mask", id_column="state")
    assert found.rows["ids"].texts() == ["NSW", "VIC"]
    assert found.rows["categories"].texts() == ["T1", "T2"]


DATA = "@attribute series_name string\n@data\n"
REFUSED = [
    (HEAD + SERIES, "FILE:12:5: found a missing value in 'values', the only one"),
    (HEAD.replace("@missing true", "@missing false") + SERIES,
     "FILE:12:5: found '?' at step 2; expected a number, since @missing is false"),
    (HEAD.replace("@equallength false", "@equallength true") + SERIES,
     "FILE:13: found 2 values; expected 4 as in line 12, since @equallength is true"),
    (HEAD + SERIES.replace("12-01", "13-01"), "FILE:13:2: found '1999-13-01 00-00-00'; expected a time such as"),
    (HEAD + SERIES.replace("2023-01-31", "31.1.2023"), "FILE:12:2: found '31.1.2023 12-30-00'; expected a time such a"),
    (HEAD + SERIES.replace(":VIC", ""), "FILE:12: found 3 attributes; expected 4, as there are @attribute tags"),
    (HEAD + SERIES.replace("?", "2").replace(":-2:", ":x:"), "FILE:13:3: found 'x'; expected a number"),
    (HEAD + SERIES.replace("?", "2").replace("T1", "T2"), "FILE:13:1: found the id 'T2' again, as in line 12"),
    (DATA + "a:1,x\n", "FILE:3:2: found 'x' at step 2; expected a finite number, or ? for a missing one"),
    (DATA + "a:1\nb:2,,3\n", "FILE:4:2: found '' at step 2; expected a finite number"),
    (DATA + "a:\n", "FILE:3:2: found '' at step 1; expected a finite number"),
    (DATA + "a:1,nan\n", "FILE:3:2: found 'nan' at step 2; expected a finite number"),
    (DATA + "a:1,1e39\n", "FILE:3:2: found '1e39' at step 2; expected a finite number"),
    (DATA + "a:1,0x1\n", "FILE:3:2: found '0x1' at step 2; expected a finite number"),
    (DATA, "FILE: found no series; expected @data and a line a series"),
    ("@relation x\nhello\n", "FILE:2: found 'hello'; expected a tag, or @data before the first series"),
    ("@relation x\n@attribute target {1,2}\n", "FILE:2: found 'target {1,2}'; expected a name and a kind"),
    ("@attribute a string\n@attribute a string\n", "FILE:2: found the attribute 'a' again; expected names that differ"),
    ("@attribute a date\n@attribute b date\n", "FILE:2: found a second date, 'b'; expected one"),
    ("@relation x\n@frequency often\n", "FILE:2: found 'often'; expected such as yearly, monthly"),
    ("@relation x\n@frequency 0_minutes\n", "FILE:2: found '0_minutes'; expected such as yearly, monthly"),
    ("@relation x\n@horizon -3\n", "FILE:2: found '-3'; expected a whole number from 1"),
    ("@relation x\n@missing maybe\n", "FILE:2: found 'maybe'; expected true or false"),
    ("@relation x\n@season 3\n", "FILE:2: found '@season'; expected @relation, @attribute"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_what_cannot_be_read_names_its_place(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("FILE").write_text(text)
    with pytest.raises(DataError) as caught:
        jaxrnn.read("FILE")
    assert message in str(caught.value)
