"""What a prepared data set of sequences holds; and what is forged or damaged is refused, whatever it is."""

import functools
import hashlib
import json
import operator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from series_tables import COLUMNS as SERIES_COLUMNS
from series_tables import HORIZON, write_series
from step_tables import ASKED, COLUMNS, write_steps

import jaxrnn
from jaxrnn import prepare
from jaxrnn.data.sequences import Field, Sequences
from jaxrnn.data.series.parts import first_steps
from jaxrnn.data.store import part_writer
from jaxrnn.data.store.dataset import Dataset, digest_of
from jaxrnn.data.store.form import ENDS, Form
from jaxrnn.data.store.sequence_writer import SequenceWriter
from jaxrnn.data.store.sharded_sequences import ShardedSequences
from jaxrnn.data.store.shards import shorten, write_shard
from jaxrnn.foundation.errors import DataError, UserError
from jaxrnn.settings.config import Config
from jaxrnn.training.disk_arranging import arrange_dataset


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("prepared")
    source = write_steps(place / "steps.csv", 60)
    assert prepare.main([str(source), *COLUMNS, *ASKED["classify"], f"--out={place / 'set'}", "--shard-rows=13"]) == 0
    return place / "set"


@pytest.fixture(scope="module")
def whole_series(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("prepared-series")
    flags = [*SERIES_COLUMNS, "--task=forecast", f"--horizon={HORIZON}", f"--out={place / 'set'}", "--shard-rows=13"]
    assert prepare.main([str(write_series(place / "series.csv", 30)), *flags]) == 0
    return place / "set"


@pytest.fixture
def prepared(whole, tmp_path) -> Path:
    return copy_of(whole, tmp_path / "set")


@pytest.fixture
def series(whole_series, tmp_path) -> Path:
    return copy_of(whole_series, tmp_path / "series")


def copy_of(whole: Path, target: Path) -> Path:
    """Copies a data set, to be damaged."""
    target.mkdir()
    for path in whole.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


def rewrite(path: Path, content: dict) -> None:
    (path / "dataset.json").write_text(json.dumps(content | {"sha256": digest_of(content)}))


def use(path: Path, task: str = "classify") -> None:
    """Does what training does before it compiles: opens, adapts, arranges, reads all."""
    dataset = Dataset(path)
    config = dataset.adapt(Config().replace_flat({"task": task, "data": str(path), "batch_size": 10}))
    arranged = [arrange_dataset(config, dataset)]
    if task == "forecast":
        arranged.append(arrange_dataset(config, dataset.refitted()))
    for part in (arranged[0].training, arranged[0].validation, arranged[-1].training):
        for numbers in (np.arange(3), np.array([-1, 0])):
            part.reading.pad([], 1, part.layout.parts[-1].length)
            part.reading._encode(numbers[numbers >= 0])  # type: ignore[attr-defined]


class TestForms:
    def test_every_kind_of_column_comes_back(self, tmp_path):
        generator = np.random.default_rng(0)
        lengths = np.array([2, 3, 1, 4])
        times = np.array("2024-01-01", "datetime64[us]") + np.arange(10) * np.timedelta64(1, "h")
        steps = {
            "inputs": Field(("a", "b"), generator.normal(size=(10, 2))),
            "categories": Field(("c",), generator.integers(0, 2, (10, 1)).astype(np.int32), (("x", "y"),)),
            "times": Field(("t",), times[:, None]),
        }
        rows = {
            "ids": Field(("id",), np.array(["a", "bé", "c\n", ""], object)[:, None]),
            "statics": Field(("s",), np.array([[1.5], [np.pi], [-0.0], [2**40]])),
            "labels": Field(("l",), np.array([[0], [1], [1], [0]], np.int32), (("no", "yes"),)),
        }
        sequences = Sequences.from_lengths(lengths, steps, rows)
        form = Form.of_sequences(sequences)
        form = Form.from_json(json.loads(json.dumps(form.to_json())))
        write_shard(tmp_path / "a.arrow", form.block(sequences))
        write_shard(tmp_path / "b.arrow", form.block(sequences.take([1, 0])))
        held = ShardedSequences([tmp_path / "a.arrow", tmp_path / "b.arrow"], form)
        assert held.whole() == Sequences.from_lengths(
            [2, 3, 1, 4, 3, 2],
            {name: field.take([*range(10), 2, 3, 4, 0, 1]) for name, field in steps.items()},
            {name: field.take([0, 1, 2, 3, 1, 0]) for name, field in rows.items()},
        )
        assert held.take(np.array([5, 2])) == sequences.take([0, 2])
        assert list(held.take(np.array([3]), without={"times", "ids"}).rows) == ["statics", "labels"]
        assert np.signbit(held.take(np.array([2])).rows["statics"].values).all()
        assert len(held.take(np.array([], np.int64))) == 0

    def test_a_cut_has_the_first_steps_of_some(self, series):
        stored = Dataset(series).all_rows()
        whole = stored.whole()
        numbers = np.array([20, 3, 17, 0])
        steps = np.array([2, 5, 1, 4])
        cut = stored.cut(numbers, steps)
        expected = first_steps(whole.take(numbers), steps)
        assert (len(cut), cut.num_steps, cut.num_values) == (4, 12, 12 * stored.form.width)
        assert cut.whole() == expected
        assert cut.take(np.array([3, 1])) == expected.take([3, 1])
        for num_values in (1, 40, 10**6):
            blocks = list(cut.blocks(num_values))
            assert [one for block in blocks for one in block] == list(expected)
        assert len(stored.cut(numbers[:0], steps[:0]).whole()) == 0
        assert ENDS not in whole.rows, "a matter of the store"

    def test_whole_numbers_keep_every_digit(self):
        for values in ([[2**62 + 1]], [[2**31 - 1]], [[-(2**31) - 1]], [[127, -128]], [[128]]):
            array = np.array(values, np.int64)
            short = shorten(array)
            assert short.dtype.kind == "i"
            np.testing.assert_array_equal(short.astype(np.int64), array)

    def test_a_shard_holds_so_many_values_at_most(self, tmp_path, monkeypatch):
        monkeypatch.setattr(part_writer, "MAX_SHARD_VALUES", 60)  # 20 steps of three numbers
        source = write_steps(tmp_path / "steps.csv", 40)
        assert prepare.main([str(source), *COLUMNS, *ASKED["classify"], f"--out={tmp_path / 'set'}"]) == 0
        dataset = Dataset(tmp_path / "set")
        sizes = [shard["values"] for shard in dataset.description["parts"]["training"]["shards"]]
        assert len(sizes) > 5
        width = dataset.sequences.form.width
        assert max(sizes) <= max(60 // width, 14)


class TestSeveralFiles:
    def writer(self, tmp_path: Path, task: str = "classify") -> SequenceWriter:
        return SequenceWriter(tmp_path, Config().replace_flat({"task": task, "split_seed": 0}), shard_rows=100)

    def texts(self, *words: str, labels: tuple[str, ...]) -> Sequences:
        return jaxrnn.read(list(words), tokens="character", labels=labels)

    def test_texts_have_one_number_in_all_files(self, tmp_path):
        config = Config().replace_flat({"task": "classify", "split": "given"})
        writer = SequenceWriter(tmp_path, config, shard_rows=2)
        first = self.texts("ca", "b", labels=("y", "z"))
        second = self.texts("dba", "a", labels=("x", "y"))
        writer.add("one", first)
        writer.add("two", second)
        writer.add("three", self.texts("e", labels=("w",)), "test")
        parts, described = writer.finish(lambda: None)
        paths = [tmp_path / shard["file"] for shard in parts["training"]["shards"]]
        held = ShardedSequences(paths, described.form).whole()
        assert [one.steps["categories"].texts() for one in held] == [list("ca"), ["b"], list("dba"), ["a"]]
        assert held.rows["labels"].texts() == ["y", "z", "x", "y"]
        counted = described.statistics.categories[0]
        assert dict(zip(counted.texts, counted.counts, strict=True)) == {"a": 3, "b": 2, "c": 1, "d": 1, "e": 0}
        assert list(counted.texts) == sorted(counted.texts)
        assert described.statistics.classes[1:] == (("w", "x", "y", "z"), (0, 1, 2, 1))

    def test_other_columns_are_refused(self, tmp_path):
        writer = self.writer(tmp_path)
        writer.add("one.csv", self.texts("ab", "b", labels=("y", "z")))
        with pytest.raises(DataError, match=r"two.csv: found inputs .*; expected categories .*, as one.csv has"):
            writer.add("two.csv", jaxrnn.read([[1.0, 2.0], [3.0]], labels=["y", "z"]))

    def test_an_id_of_two_files_is_refused(self, tmp_path):
        table = pa.table({"unit": ["a", "a", "b"], "x": [1.0, 2.0, 3.0], "side": ["l", "l", "r"]})
        writer = self.writer(tmp_path)
        writer.add("one.csv", jaxrnn.read(table, id_column="unit", label_column="side"))
        with pytest.raises(DataError, match=r"two.csv: found the id 'a', which one.csv has too"):
            writer.add("two.csv", jaxrnn.read(table, id_column="unit", label_column="side"))
        writer.add("test.csv", jaxrnn.read(table, id_column="unit", label_column="side"), "test")
        parts, described = writer.finish(lambda: None)
        assert parts["test"]["rows"] == 2
        assert described.shared_rows[1] == parts["training"]["rows"], "counted as what stands in the training part"

    @pytest.mark.parametrize(
        ("task", "complaint"),
        [
            ("tag", "found no label of every step"),
            ("classify", "found no label of a sequence"),
            ("regress", "found no number of a sequence to predict"),
            ("next", "sequence 1: found a single step"),
        ],
    )
    def test_what_is_asked_has_to_be_there(self, tmp_path, task, complaint):
        with pytest.raises(DataError, match=complaint):
            self.writer(tmp_path, task).add("one", jaxrnn.read([[1.0, 2.0], [3.0]]))

    def test_groups_stay_together(self, tmp_path):
        number = 40
        table = pa.table(
            {
                "unit": list(range(number)),
                "x": np.random.default_rng(0).normal(size=number),
                "person": [f"p{unit % 8}" for unit in range(number)],
                "side": [("l", "r")[unit % 2] for unit in range(number)],
            }
        )
        sequences = jaxrnn.read(
            table, id_column="unit", input_columns=["x"], group_column="person", label_column="side"
        )
        writer = self.writer(tmp_path)
        writer.add("one", sequences)
        parts, described = writer.finish(lambda: None)
        found = {}
        for name, part in parts.items():
            held = ShardedSequences([tmp_path / shard["file"] for shard in part["shards"]], described.form).whole()
            found[name] = set(held.rows["groups"].texts())
            assert len(set(held.group_ids().tolist())) == len(found[name])
        assert len(found["training"] | found["validation"] | found["test"]) == sum(map(len, found.values())) == 8


class TestDamage:
    def test_a_cut_and_a_flipped_shard(self, prepared):
        path = prepared / "training-00001.arrow"
        content = path.read_bytes()
        path.write_bytes(content[:-1])
        with pytest.raises(DataError, match=f"{path}: found {len(content) - 1} bytes; expected {len(content)}"):
            Dataset(prepared)
        for place in (200, len(content) // 2, len(content) - 20):
            flipped = bytearray(content)
            flipped[place] ^= 4
            path.write_bytes(bytes(flipped))
            with pytest.raises(DataError, match="SHA-256 differs"):
                Dataset(prepared)

    def test_shards_of_another_form_whose_sums_are_right(self, prepared, tmp_path):
        """Somebody else's shard, described as it should be."""
        from jaxrnn.data.store.shards import Block

        content = json.loads((prepared / "dataset.json").read_text())
        shard = content["parts"]["training"]["shards"][0]
        dataset = Dataset(prepared)
        form, part = dataset.sequences.form, dataset.parts["training"]
        good = form.block(part.take(np.arange(shard["rows"])))
        wrong_codes = {**good.steps, "steps.categories": good.steps["steps.categories"] + 100}
        narrow = {**good.steps, "steps.inputs": good.steps["steps.inputs"][:, :1]}
        flat = {**good.steps, "steps.inputs": good.steps["steps.inputs"][:, 0]}
        texts = {**good.steps, "steps.inputs": np.array(["a"] * len(good.steps["steps.inputs"]), object)}
        lacking = {name: values for name, values in good.steps.items() if name != "steps.inputs"}
        fewer = Block(good.lengths[:-1], {n: v[: -good.lengths[-1]] for n, v in good.steps.items()},
                      {n: v[:-1] for n, v in good.rows.items()})  # fmt: skip
        others = [good._replace(steps=steps) for steps in (wrong_codes, narrow, flat, texts, lacking)]
        path = prepared / shard["file"]
        for block in [*others, fewer, good._replace(rows={})]:
            path.unlink()
            write_shard(path, block)
            shard |= {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
            rewrite(prepared, content)
            with pytest.raises(DataError):
                read_all(prepared)

    def test_of_series_more_steps_than_there_are(self, series):
        """Somebody else's shard, which says that a part has them."""
        content = json.loads((series / "dataset.json").read_text())
        shard = content["parts"]["series"]["shards"][0]
        stored = Dataset(series).all_rows()
        ends, form = stored.read_rows(ENDS)[: shard["rows"]], stored.form
        first = stored.take(np.arange(shard["rows"]))
        path = series / shard["file"]
        for wrong in (ends + 1000, ends - 1000, ends[:, :3]):
            names = ("training", "refit", "validation", "test")[: wrong.shape[1]]
            with_ends = Sequences(first.offsets, first.steps, {**first.rows, ENDS: Field(names, wrong)})
            path.unlink()
            write_shard(path, form.block(with_ends))
            shard |= {
                "bytes": path.stat().st_size,
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            }
            rewrite(series, content)
            with pytest.raises(DataError, match="prepare the data again"):
                Dataset(series)

    @pytest.mark.parametrize("task", ["classify", pytest.param("forecast", marks=pytest.mark.slow)])
    def test_whatever_is_forged_in_the_description_is_one_error_or_nothing(self, request, task):
        """Every value of dataset.json is replaced by others, with its sum made right; nothing may escape."""
        prepared = request.getfixturevalue("series" if task == "forecast" else "prepared")
        content = json.loads((prepared / "dataset.json").read_text())
        use(prepared, task)
        paths = list(leaves(content))
        outcomes = []
        for number, path in enumerate(paths):
            for junk in (None, -1, "x", [], {}, 1e308, 10**30)[number % 3 :: 3]:
                place = functools.reduce(operator.getitem, path[:-1], content)
                true, place[path[-1]] = place[path[-1]], junk
                rewrite(prepared, content)
                outcomes.append(outcome_of(prepared, task))
                place[path[-1]] = true
        assert not any("\n" in outcome for outcome in outcomes)
        assert sum(map(bool, outcomes)) > 0.6 * len(outcomes), "most of them are refused"


def read_all(path: Path) -> None:
    use(path)
    Dataset(path).parts["training"].whole()


def outcome_of(path: Path, task: str) -> str:
    try:
        use(path, task)
    except UserError as error:
        return str(error)
    return ""


def leaves(tree, path=()):
    """Yields the path of every value of a tree, the inner ones too; of many shards those of the first and the last."""
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield (*path, key)
        if path[-1:] == ("shards",) and key not in (0, len(tree) - 1):
            continue
        if isinstance(value, dict | list) and len(value) < 40:
            yield from leaves(value, (*path, key))
