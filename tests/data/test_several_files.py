"""Several files of one format, in a list or by a pattern, are read as one; complaints name the file."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jaxrnn
from jaxrnn.foundation.errors import DataError, UserError

COLUMNS: dict[str, Any] = {"id_column": "id", "time_column": "t"}


def write(folder: Path, *texts: str) -> None:
    for number, text in enumerate(texts):
        (folder / f"part{number}").write_text(text)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_id_may_run_over_several_files(here: Path) -> None:
    write(here, "id,t,x\nb,2,1\na,1,2\n", "x,id,t\n3,a,0\n4,b,1\n")
    whole = jaxrnn.read(pa.table({"id": list("baab"), "t": [2, 1, 0, 1], "x": [1.0, 2, 3, 4]}), **COLUMNS)
    for source in ("part?", ["part0", "part1"], [Path("part1"), "part0"], "p[a]rt*", here / "part*", "**/part*"):
        assert jaxrnn.read(source, **COLUMNS) == whole


def test_a_table_without_ids_is_a_sequence_for_each_file(here: Path) -> None:
    write(here, "t,file\n2,1\n1,2\n", "t,file\n1,3\n")
    found = jaxrnn.read("part*", time_column="t")
    assert found.rows["ids"].texts() == ["part0", "part1"]
    assert [array.tolist() for array in found.arrays()] == [[[2], [1]], [[3]]]
    found = jaxrnn.read(["part1"], time_column="t")
    assert (len(found), dict(found.rows)) == (1, {})


def test_rows_lists_and_texts_come_in_the_order_of_the_files(here: Path) -> None:
    write(here, "a,1,2\nb,3\n", "b,4\n")
    found = jaxrnn.read(["part1", "part0"], label_column="first")
    assert [array[:, 0].tolist() for array in found.arrays()] == [[4], [1, 2], [3]]
    assert (found.rows["labels"].texts(), set(found.rows)) == (["b", "a", "b"], {"labels"})
    write(here, '{"v": [1], "label": "x"}', '{"label": "y", "v": [2.5, 3]}')
    found = jaxrnn.read("part*")
    assert [array[:, 0].tolist() for array in found.arrays()] == [[1], [2.5, 3]]
    assert found.rows["labels"].texts() == ["x", "y"]
    write(here, "text,c\nab,1\n", "text,c\nc,2\n")
    found = jaxrnn.read("part*", text_column="text")
    assert [one.steps["categories"].texts() for one in found] == [["a", "b"], ["c"]]


def test_numbers_of_two_types_become_one(here: Path) -> None:
    for number, values in enumerate(([1, 2], [0.5])):
        pq.write_table(pa.table({"x": values}), here / f"part{number}")
    assert [array[:, 0].tolist() for array in jaxrnn.read("part*").arrays()] == [[1, 2], [0.5]]


def test_a_file_of_that_very_name_is_no_pattern(here: Path) -> None:
    (here / "a[1].csv").write_text("x\n4\n")
    (here / "a1.csv").write_text("x\n5\n")
    assert jaxrnn.read("a[1].csv").steps["inputs"].values.tolist() == [[4]]


REFUSED: list[tuple[tuple[str, ...], Any, dict[str, Any], str]] = [
    (("id,t,x\na,1,1\n", "id,t,x\na,1,2\n"), "part*", COLUMNS,
     "part1:2:2: found the time '1' of 'a' again, as in line 2 of 'part0'; expected each time"),
    (("id,t,x\na,1,1\n", "t,id,x\n2,a,z\n"), "part*", COLUMNS | {"input_columns": "x"},
     "part1:2:3: found 'z'; expected a number"),
    (("id,t,x\na,1,1\n", "x,t,id\nz,2,a\n"), "part*", COLUMNS | {"input_columns": "x"},
     "part1:2:1: found 'z'; expected a number"),
    (("id,x,c\na,1,l\n", "id,x,c\na,2,r\n"), "part*", {"id_column": "id", "label_column": "c"},
     "part1:2:3: found 'r' where line 2 of 'part0' of the same sequence has 'l'"),
    (('{"id":1,"v":[1]}', '\n{"id":1,"v":[2]}'), "part*", {}, "part1:2:1: found the id '1' again, as in line 1 of 'pa"),
    (('{"v":[1]}', '\n{"v":[2, null]}'), "part*", {}, "part1:2:1: found a missing value in 'v', the only one"),
    (('{"v":[1]}', '{"v":["a"]}'), "part*", {},
     "part1: found the column 'v' of type 'list<item: string>'; expected 'list<item: int64>', as in 'part0'"),
    (("x\n1\n", "y\n1\n"), "part*", {}, "part1: found other columns than in 'part0' ('y', 'x'); expected the same"),
    (("x\n1\n", '{"x":[1]}'), "part*", {}, "part1: found JSON Lines; expected a table of text, as 'part0' is"),
    (("x\n1\n", "1,2\n3\n"), "part*", {}, "part1: found rows without a header; expected a table of text, as"),
    (("x\n1\n", "x\n1\n"), "part*", {"target_columns": "y"}, "part0, part1: found no column 'y'"),
    (("x\n1\n",), ["part0", "part*"], {}, "part0: found the file twice; expected each once"),
    ((), "part*", {}, "part*: found no file that matches; expected one at least"),
    (("x\n1\n",), ["part0", "part1"], {}, "part1: found no such file"),
    (("x\n123\n", "x\n123\n"), "part*", {"max_bytes": 11}, "part1: found more than 11 bytes"),
    (("@relation a\n@horizon 3\n@data\n1,2\n", "@relation a\n@horizon 4\n@data\n1,2\n"), "part*", {},
     "part1: found the horizon '4'; expected '3', as in 'part0'"),
]  # fmt: skip


@pytest.mark.parametrize(("texts", "source", "options", "message"), REFUSED)
def test_what_does_not_fit_names_the_file(
    texts: tuple[str, ...], source: Any, options: dict[str, Any], message: str, here: Path
) -> None:
    write(here, *texts)
    with pytest.raises(DataError) as caught:
        jaxrnn.read(source, **options)
    assert message in str(caught.value)


def test_a_list_is_of_paths_alone(here: Path) -> None:
    write(here, "x\n1\n")
    with pytest.raises(UserError, match="source 1: got 'int'; expected a path, as others are"):
        jaxrnn.read(["part0", 3])
    with pytest.raises(UserError, match="labels: got 'some'; expected none: a table has them in its label_column"):
        jaxrnn.read("part0", labels=["a"])
