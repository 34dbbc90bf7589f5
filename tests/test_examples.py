"""The examples run from top to bottom, with fewer epochs, and say what they are there to say."""

import datetime
import importlib.util
import runpy

import matplotlib.image
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv

import jaxrnn

# A line of each that comes last, and how many epochs make it appear.
SAID = {
    "fit_dataframe": (2, "lives: ["),
    "machine_states": (2, "predicted "),
    "panel": (2, "shop00 2025-06-01 "),
    "sentiment": (2, "This book is not clever, it is tiresome. good with probability "),
    "vowels": (2, "by accuracy the model ("),
}


@pytest.fixture
def example(repository):
    def load(name: str) -> dict:
        return runpy.run_path(str(repository / "examples" / f"{name}.py"))

    return load


# Those that write files: they have tests of their own.
WRITING = ("gallery", "make_data")


def test_every_example_is_run(repository):
    names = sorted(path.stem for path in (repository / "examples").glob("*.py"))
    assert names == sorted([*SAID, *WRITING])


def test_the_files_are_those_that_their_script_makes(example, repository, tmp_path):
    example("make_data")["main"](tmp_path)
    kept = sorted((repository / "examples" / "data").iterdir())
    assert [path.name for path in kept] == sorted(path.name for path in tmp_path.iterdir())
    for path in kept:
        assert path.read_bytes() == (tmp_path / path.name).read_bytes(), path


@pytest.mark.slow
def test_the_gallery_shows_all_that_is_drawn(example, repository, tmp_path):
    example("gallery")["main"](tmp_path, epochs=2)
    kept = sorted(path.name for path in (repository / "docs" / "pictures").iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == kept
    page = (repository / "docs" / "gallery.md").read_text(encoding="utf-8")
    assert all(f"](pictures/{name})" in page for name in kept)


# One of a table every day: the others compile a network each, and call what this one calls.
EVERYDAY = ("fit_dataframe",)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in EVERYDAY else pytest.mark.slow) for name in sorted(SAID)]
)
def test_an_example_runs(name, example, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    epochs, said = SAID[name]
    example(name)["main"](epochs=epochs)
    assert said in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def without(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == package else find(name, *more))


def test_vowels_come_from_aeon_or_are_made(example, tmp_path, monkeypatch):
    names = example("vowels")
    directory = tmp_path / "aeon" / "datasets" / "data" / "JapaneseVowels"
    directory.mkdir(parents=True)
    (tmp_path / "aeon" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "aeon", raising=False)
    assert names["read_vowels"]() is None
    for part, row in (("TRAIN", "1,2:3,4:1\n"), ("TEST", "5:6:2\n")):
        text = "@problemName JapaneseVowels\n@univariate false\n@equalLength false\n@classLabel true 1 2\n@data\n"
        (directory / f"JapaneseVowels_{part}.ts").write_text(text + row)
    training, test = names["read_vowels"]()
    assert training.arrays()[0].tolist() == [[1, 3], [2, 4]]
    assert test.rows["labels"].texts() == ["2"]
    without("aeon", monkeypatch)
    assert names["read_vowels"]() is None
    made = names["make_vowels"](200, seed=1)
    assert made.arrays()[0].shape[1] == 12
    assert (made.lengths.min(), made.lengths.max()) == (7, 29)
    assert set(made.rows["labels"].texts()) == set("123456789")


def test_sentences_are_read_back(example, tmp_path):
    names = example("sentiment")
    names["write_sentences"](tmp_path / "sentences.csv")
    sentences = jaxrnn.read(tmp_path / "sentences.csv", text_column="sentence", label_column="meant")
    assert "".join(sentences[0].steps["categories"].texts()) == "The film was wonderful."
    counts = np.bincount(sentences.rows["labels"].values[:, 0])
    assert counts[0] == counts[1]


def test_a_dataframe_and_a_table_hold_the_same(example, monkeypatch):
    pytest.importorskip("pandas")
    names = example("fit_dataframe")
    columns = names["measure_batteries"](3, seed=0)
    frame = names["as_frame"](columns)
    without("pandas", monkeypatch)
    table = names["as_frame"](columns)
    assert type(frame).__module__.startswith("pandas")
    assert type(table).__module__.startswith("pyarrow")
    assert names["frame_columns"](frame) == names["frame_columns"](table)
    given = {"id_column": "battery", "time_column": "charge", "label_column": "life"}
    assert jaxrnn.read(frame, **given) == jaxrnn.read(table, **given)


@pytest.mark.slow
def test_forecasts_of_a_panel_are_drawn_behind_their_shops(example, tmp_path):
    names = example("panel")
    shops = csv.read_csv(names["DATA"])
    months = [datetime.date(2025, 1, 1), datetime.date(2025, 2, 1)]
    ahead = {"shop": ["shop00"] * 2, "month": months, "q0.1": [1.0, 2.0], "q0.5": [3.0, 4.0], "q0.9": [5.0, 6.0]}
    names["draw"](shops, pa.table(ahead), tmp_path / "drawn.png")
    empty = pa.table(ahead).slice(0, 0)
    names["draw"](shops, empty, tmp_path / "without.png")
    drawn, without = (matplotlib.image.imread(tmp_path / f"{name}.png") for name in ("drawn", "without"))
    assert drawn.std() > 0
    assert drawn.shape != without.shape or (drawn != without).any()
