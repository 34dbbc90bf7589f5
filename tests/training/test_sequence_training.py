"""Sequences of several features, texts and classes: encoded, read by the model, trained; against plain loops."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from flax import nnx

import jaxrnn
from jaxrnn.data.encoding import Encoding
from jaxrnn.data.sequence_parts import SequenceParts, shares_of, split_sequences
from jaxrnn.data.sequences import Field, Sequences
from jaxrnn.data.step_batches import arrange_steps, pack_steps, pad_steps
from jaxrnn.foundation.errors import DataError, UserError
from jaxrnn.models.model_state import new_model, parameter_structs, split_model
from jaxrnn.models.objective import sequence_loss_and_sums
from jaxrnn.runs.checkpoint import named_leaves
from jaxrnn.settings.config import Config
from jaxrnn.tasks.task import sequence_task_of, told_of
from jaxrnn.training.compilation import CompilationCounter

FEATURES = ["speed", "load"]
SMALL = {"cell": "gru", "hidden_size": 5, "epochs": 2, "batch_size": 8, "batching": "pad", "bidirectional": True}
SMALL |= {"learning_rate": 0.03, "schedule": "constant"}  # whatever the epochs, the programs are the same


def config_of(task: str, **settings: object) -> Config:
    return Config().replace_flat({"task": task, **SMALL, **settings})


def table(number: int = 24, seed: int = 0) -> pa.Table:
    """Makes a long table: two features, a category, a static, and a state at every step; "left" sequences rise."""
    generator = np.random.default_rng(seed)
    columns: dict[str, list] = {name: [] for name in ("unit", "hour", *FEATURES, "gear", "mass", "side", "state")}
    for unit in range(number):
        length = int(generator.integers(3, 9))
        side = ("left", "right")[unit % 2]
        slope = 1.0 if side == "left" else -1.0
        for hour in range(length):
            gear = ("low", "mid", "high")[int(generator.integers(3))]
            values = (unit, hour, slope * hour + generator.normal() / 4, generator.normal(), gear, unit / 8, side)
            for name, value in zip(columns, (*values, "up" if generator.random() < 0.5 else "down"), strict=True):
                columns[name].append(value)
    return pa.table(columns)


ROLES = {
    "id_column": "unit",
    "time_column": "hour",
    "input_columns": FEATURES,
    "category_columns": ["gear"],
    "static_columns": ["mass"],
}


@pytest.fixture(scope="module")
def sequences() -> Sequences:
    return jaxrnn.read(table(), label_column="side", **ROLES)


class TestModel:
    @pytest.mark.parametrize("readout", ["last", "mean", "max", "every"])
    def test_padding_and_neighbours_change_nothing(self, sequences, readout):
        task = "tag" if readout == "every" else "classify"
        config = config_of(task, **({} if task == "tag" else {"readout": readout}))
        given = jaxrnn.read(table(), label_column="state", each_step_has_a_label=True, **ROLES)
        encoding = Encoding.fit(given if task == "tag" else sequences, config)
        model = new_model(config, nnx.Rngs(0), encoding.sizes)
        rows = encoding.encode(sequences, task, with_targets=False)
        batch = pad_steps(rows, np.arange(6), 10, 8)
        run = jax.jit(lambda *read: model(*read))
        together = run(batch.inputs, batch.categories, batch.statics, batch.lengths)
        # An oracle without padding: one sequence at a time, layer and head by themselves.
        for number in range(6):
            steps = slice(rows.offsets[number], rows.offsets[number + 1])
            length = int(rows.lengths[number])
            embedded = np.asarray(model.embeddings[0].weight.get_value())[rows.categories[steps, 0]]
            mass = np.tile(rows.statics[number], (length, 1))
            read = np.concatenate([rows.inputs[steps], embedded, mass], axis=1)
            outputs, _ = model.rnn(jnp.asarray(read, jnp.float32)[None])
            outputs = np.asarray(outputs[0])
            half = outputs.shape[1] // 2
            if readout == "last":
                features = np.concatenate([outputs[-1, :half], outputs[0, half:]])
            elif readout == "every":
                features = outputs
            else:
                features = outputs.mean(axis=0) if readout == "mean" else outputs.max(axis=0)
            kernel, bias = (np.asarray(leaf.get_value()) for leaf in (model.linear.kernel, model.linear.bias))
            found = together[number, :length] if readout == "every" else together[number]
            np.testing.assert_allclose(found, features @ kernel + bias, rtol=2e-5, atol=2e-6)

    def test_parameters_have_the_shapes_that_are_told_without_building_them(self, sequences):
        config = config_of("classify", num_layers=2)
        sizes = Encoding.fit(sequences, config).sizes
        params = split_model(new_model(config, nnx.Rngs(0), sizes))[1]
        built = {name: leaf.shape for name, leaf in named_leaves(params).items()}
        assert built == {name: leaf.shape for name, leaf in parameter_structs(config, sizes).items()}

    def test_categories_that_training_has_not_seen_are_zeros(self, sequences):
        config = config_of("classify")
        encoding = Encoding.fit(sequences, config)
        model = new_model(config, nnx.Rngs(0), encoding.sizes)
        assert not np.asarray(model.embeddings[0].weight.get_value())[0].any()
        other = table().set_column(4, "gear", pa.array(["reverse"] * table().num_rows))
        codes = encoding.encode(jaxrnn.read(other, **ROLES), "classify", with_targets=False).categories
        assert not codes.any()


class TestEncoding:
    def test_numbers_come_from_the_training_rows_alone(self, sequences):
        config = config_of("classify")
        training = sequences.take(np.arange(0, 16))
        encoding = Encoding.fit(training, config)
        values = training.steps["inputs"].values
        np.testing.assert_allclose(encoding.inputs.offsets, values.mean(axis=0))
        np.testing.assert_allclose(encoding.inputs.scales, values.std(axis=0))
        rows = encoding.encode(training, "classify")
        np.testing.assert_allclose(rows.inputs.mean(axis=0), 0, atol=1e-6)
        assert encoding.classes == ("left", "right")
        assert encoding.class_counts == (8, 8)
        assert Encoding.from_json(json.loads(json.dumps(encoding.to_json()))) == encoding

    def test_columns_are_found_by_their_names_in_any_order(self, sequences):
        config = config_of("classify")
        encoding = Encoding.fit(sequences, config)
        turned = jaxrnn.read(table(), label_column="side", **{**ROLES, "input_columns": FEATURES[::-1]})
        both = [encoding.encode(given, "classify") for given in (sequences, turned)]
        np.testing.assert_array_equal(both[0].inputs, both[1].inputs)

    def test_what_is_missing_is_named(self, sequences):
        encoding = Encoding.fit(sequences, config_of("classify"))
        lacking = jaxrnn.read(table().drop_columns(["load"]), **{**ROLES, "input_columns": ["speed"]})
        with pytest.raises(DataError, match="found the input columns speed; expected 'load' too"):
            encoding.encode(lacking, "classify", with_targets=False)
        with pytest.raises(DataError, match=r"found no label of a sequence; .* --label-column"):
            encoding.encode(jaxrnn.read(table(), **ROLES), "classify")
        with pytest.raises(DataError, match="found no label of every step"):
            Encoding.fit(sequences, config_of("tag"))

    def test_one_class_is_refused(self, sequences):
        with pytest.raises(DataError, match="found 1 class in the training rows, 'left'; expected two or more"):
            Encoding.fit(sequences.take(np.arange(0, 24, 2)), config_of("classify"))

    def test_the_most_frequent_categories_are_kept(self):
        texts = ["aab", "abc", "aabbd", "cab"]
        given = jaxrnn.read(texts, tokens="character", labels=["x", "y", "x", "y"])
        encoding = Encoding.fit(given, config_of("classify", max_tokens=2))
        assert encoding.categories[0][1] == ("a", "b")
        codes = encoding.encode(given, "classify").categories[:, 0]
        assert codes.tolist() == [1, 1, 2, 1, 2, 0, 1, 1, 2, 2, 0, 0, 1, 2]

    def test_words_in_the_place_of_numbers_are_refused(self, sequences):
        with pytest.raises(DataError, match="column 'side': found 'left'; expected a number with task = regress"):
            Encoding.fit(sequences, config_of("regress"))

    def test_targets_that_change_within_a_sequence_are_refused(self):
        given = jaxrnn.read(table(), **{**ROLES, "input_columns": ["speed"]}, target_columns=["load"])
        with pytest.raises(DataError, match="sequence 0: found target columns whose values change"):
            Encoding.fit(given, config_of("regress"))

    def test_values_beyond_float32_are_refused_by_column(self, sequences):
        config = config_of("classify", normalizer="none")
        fields = dict(sequences.steps)
        values = np.array(fields["inputs"].values)
        values[3, 1] = 1e39
        given = Sequences(sequences.offsets, fields | {"inputs": Field(tuple(FEATURES), values)}, sequences.rows)
        with pytest.raises(DataError, match="column 'load': found a value of 1e\\+39"):
            Encoding.fit(given, config).encode(given, "classify")


def test_padding_is_undone(sequences):
    rows = Encoding.fit(sequences, config_of("classify")).encode(sequences, "classify")
    seen = []
    for indices, batch in arrange_steps(rows, max_buckets=3, batch_size=5):
        assert len(batch.lengths) % 5 == 0
        for place, number in enumerate(indices):
            steps = slice(rows.offsets[number], rows.offsets[number + 1])
            np.testing.assert_array_equal(batch.inputs[place, : rows.lengths[number]], rows.inputs[steps])
            assert not batch.inputs[place, rows.lengths[number] :].any()
            assert batch.targets[place] == rows.targets[number]
        assert (batch.targets[len(indices) :] == -1).all()
        seen += indices.tolist()
    assert sorted(seen) == list(range(len(sequences)))


@pytest.mark.parametrize("task", ["classify last", "classify mean", "regress max", "tag every"])
def test_packed_sequences_are_worth_what_padded_ones_are(task):
    """Loss, figures and gradients, of sequences of one step too, and of rows that only fill a batch up."""
    kind, readout = task.split()
    config = config_of(kind, **({} if kind == "tag" else {"readout": readout}))
    label = {"classify": {"label_column": "side"}, "regress": {"label_column": "unit_again"}}.get(
        kind, {"label_column": "state", "each_step_has_a_label": True}
    )
    content = table()
    content = content.append_column("unit_again", content.column("unit"))
    kept = (np.asarray(content["unit"]) > 2) | (np.asarray(content["hour"]) == 0)
    given = jaxrnn.read(content.filter(pa.array(kept)), **label, **ROLES)
    assert given.lengths.min() == 1
    encoding = Encoding.fit(given, config)
    rows = encoding.encode(given, kind)
    padded = pad_steps(rows, np.arange(len(rows)), 8, len(rows) + 3)
    packed, num_rows, batch_rows = pack_steps(rows, batch_size=len(rows))
    assert len(packed.inputs) % batch_rows == 0
    assert num_rows < len(rows)
    whole, told = sequence_task_of(config, encoding.sizes), told_of(config, encoding)
    graphdef, params = nnx.split(new_model(config, nnx.Rngs(0), encoding.sizes))

    @jax.jit
    def worth(params, padded, packed):
        def loss_of(params, batch):
            (loss, weight), sums = sequence_loss_and_sums(nnx.merge(graphdef, params), batch, whole, told, config)
            return loss / weight, whole.compute(whole.zero(1) + sums, told)

        return [jax.value_and_grad(loss_of, has_aux=True)(params, batch) for batch in (padded, packed)]

    one, other = worth(params, padded, packed)
    for left, right in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(left, right, rtol=2e-4, atol=2e-6)


class TestSplit:
    def test_shares(self):
        def shares(**settings):
            return tuple(round(share, 6) for share in shares_of(config_of("classify", **settings).data))

        assert shares() == (0.6, 0.2, 0.2)
        assert shares(test_data="x") == shares(split="given") == (1, 0, 0)
        assert shares(test_data="x", split_fractions=[0.5, 0.3, 0.2]) == (0.625, 0.375, 0)
        assert shares(split_fractions=[0.8, 0.2, 0.0]) == (0.8, 0.2, 0)

    def test_parts_hold_every_sequence_once(self, sequences):
        parts = split_sequences(config_of("classify"), sequences)
        numbers = [part.numbers for part in parts]
        assert sorted(np.concatenate(numbers)) == list(range(24))
        for part in parts:
            assert part.sequences == sequences.take(part.numbers)
        assert parts.shared_rows() == (0, 0)

    @pytest.mark.parametrize("split", ["grouped", "hashed"])
    def test_copies_stay_together(self, sequences, split):
        twice = sequences.take(np.arange(48) % 24)
        parts = split_sequences(config_of("classify", split=split), twice)
        assert parts.shared_rows() == (0, 0)
        assert split_sequences(config_of("classify", split="random"), twice).shared_rows() != (0, 0)

    @pytest.mark.parametrize("split", ["grouped", "hashed"])
    def test_groups_stay_together(self, split):
        people = pa.array([f"person {unit // 3}" for unit in table().column("unit").to_pylist()])
        given = jaxrnn.read(
            table().append_column("person", people), label_column="side", group_column="person", **ROLES
        )
        parts = split_sequences(config_of("classify", split=split, seed=3), given)
        held = [set(part.sequences.rows["groups"].texts()) for part in parts]
        assert sum(map(len, held)) == len(set.union(*held)) == 8

    def test_a_share_of_0_is_no_part(self, sequences):
        parts = split_sequences(config_of("classify", split_fractions=[1.0, 0.0, 0.0]), sequences)
        assert len(parts.training.sequences) == 24
        assert parts[1:] == (None, None)
        assert isinstance(parts, SequenceParts)


@pytest.fixture(scope="module")
def model(sequences):
    settings = SMALL | {"epochs": 30}
    return jaxrnn.fit(sequences, task="classify", progress=False, **settings)


class TestFit:
    def test_it_learns(self, model, sequences):
        assert model.evaluate(sequences)["accuracy"] > 0.9
        history = model.metadata["history"]
        assert [line["epoch"] for line in history] == list(range(1, 31))
        assert history[-1]["training"]["loss"] < history[0]["training"]["loss"]

    def test_saved_and_loaded_it_is_the_same(self, model, sequences, tmp_path):
        model.save(tmp_path / "model")
        loaded = jaxrnn.load(tmp_path / "model")
        np.testing.assert_array_equal(loaded.predict_proba(sequences), model.predict_proba(sequences))
        assert loaded.encoding == model.encoding
        with pytest.raises(UserError, match="is there already and is never overwritten"):
            model.save(tmp_path / "model")

    def test_a_second_fit_of_other_data_of_the_same_sizes_compiles_nothing(self, model):
        del model
        settings = SMALL | {"epochs": 30}
        other = jaxrnn.read(table(), label_column="side", **ROLES)
        values = np.array(other.steps["inputs"].values) * 3 + 1
        steps = dict(other.steps) | {"inputs": Field(tuple(FEATURES), values)}
        with CompilationCounter() as counter:
            jaxrnn.fit(Sequences(other.offsets, steps, other.rows), task="classify", progress=False, **settings)
        assert counter.count == 0

    def test_predictions_need_no_labels_and_say_what_is_wrong(self, model, sequences):
        unlabelled = jaxrnn.read(table(), **ROLES)
        np.testing.assert_array_equal(model.predict(unlabelled), model.predict(sequences))
        assert set(model.predict(unlabelled)) <= {"left", "right"}
        np.testing.assert_allclose(model.predict_proba(unlabelled).sum(axis=1), 1)
        with pytest.raises(ValueError, match="horizon: got 2; expected none with task = classify"):
            model.predict(unlabelled, horizon=2)
        with pytest.raises(DataError, match="expected 'load' too"):
            model.predict(jaxrnn.read(table().drop_columns(["load"]), **{**ROLES, "input_columns": ["speed"]}))

    def test_validation_rows_choose_the_epoch(self, sequences):
        model = jaxrnn.fit(
            sequences.take(np.arange(16)), validation=sequences.take(np.arange(16, 24)), task="classify",
            progress=False, **(SMALL | {"epochs": 4, "monitor": "balanced_accuracy", "patience": 3}),
        )  # fmt: skip
        lines = model.metadata["history"]
        best = max(lines, key=lambda line: line["validation"]["balanced_accuracy"])
        assert model.metadata["epoch"] == best["epoch"]

    def test_settings_are_checked(self, sequences):
        with pytest.raises(UserError, match="hiden_size: unknown key; did you mean hidden_size"):
            jaxrnn.fit(sequences, task="classify", hiden_size=3)
        with pytest.raises(UserError, match=r"split_fractions: got 0\.2; expected a test share of 0"):
            jaxrnn.fit(sequences, task="classify", split_fractions=(0.6, 0.2, 0.2))
        with pytest.raises(UserError, match="patience: got 3; expected 0 without validation rows"):
            jaxrnn.fit(sequences, task="classify", patience=3)
        with pytest.raises(UserError, match="monitor: got 'mae'; expected one of loss, accuracy, balanced_accuracy"):
            jaxrnn.fit(sequences, task="classify", monitor="mae")

    def test_a_run_directory_is_written_where_it_is_asked_for(self, sequences, tmp_path):
        model = jaxrnn.fit(sequences, task="classify", run_dir=tmp_path / "run", progress=False, **SMALL)
        assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 2
        loaded = jaxrnn.load(tmp_path / "run")
        np.testing.assert_array_equal(loaded.predict_proba(sequences), model.predict_proba(sequences))

    @pytest.mark.slow
    def test_an_ensembles_mean_predicts(self, sequences):
        model = jaxrnn.fit(sequences, task="classify", ensemble=2, progress=False, **SMALL)
        assert model.num_members == 2
        each = [model.member(number).predict_proba(sequences) for number in range(2)]
        np.testing.assert_allclose(model.predict_proba(sequences), np.mean(each, axis=0), atol=1e-6)
        alone = jaxrnn.fit(sequences, task="classify", seed=1, split_seed=0, progress=False, **SMALL)
        np.testing.assert_allclose(each[1], alone.predict_proba(sequences), atol=1e-5)

    @pytest.mark.slow
    def test_next_values_of_rows(self):
        rows = [[step * float(number) for number in range(9)] for step in range(1, 13)]
        model = jaxrnn.fit(rows, hidden_size=5, epochs=3, batch_size=6, progress=False)
        assert model.predict(jaxrnn.Ragged.from_rows([[1.0, 2.0]]), horizon=2).shape == (1, 2)
        assert model.evaluate(jaxrnn.Ragged.from_rows(rows))["mae"] > 0


FORMS = ["shuffled CSV", "TSV", "Parquet", "lists", "JSON Lines"]


@pytest.mark.parametrize("form", FORMS)
def test_what_holds_the_data_changes_nothing(sequences, form, tmp_path):
    """All arrays that training reads are the same to the bit, and so the training is."""
    plain = table()
    if form == "shuffled CSV":
        order = np.random.default_rng(1).permutation(plain.num_rows)
        write_csv(plain.take(order), tmp_path / "data", ",")
    elif form == "TSV":
        write_csv(plain, tmp_path / "data", "\t")
    elif form == "Parquet":
        pq.write_table(plain, tmp_path / "data")
    else:
        grouped = plain.group_by("unit", use_threads=False).aggregate(
            [(name, "list") for name in ("hour", *FEATURES, "gear")] + [("mass", "max"), ("side", "max")]
        )
        names = ["unit", "hour", *FEATURES, "gear", "mass", "side"]
        lists = grouped.rename_columns(
            [name.removesuffix("_list").removesuffix("_max") for name in grouped.column_names]
        )
        lists = lists.select(names)
        if form == "lists":
            pq.write_table(lists, tmp_path / "data")
        else:
            (tmp_path / "data").write_text("".join(json.dumps(row) + "\n" for row in lists.to_pylist()))
    found = jaxrnn.read(tmp_path / "data", label_column="side", **ROLES)
    config = config_of("classify")
    mine, others = (Encoding.fit(given, config) for given in (sequences, found))
    assert mine == others
    for left, right in zip(
        jax.tree.leaves(vars(mine.encode(sequences, "classify"))),
        jax.tree.leaves(vars(others.encode(found, "classify"))),
        strict=True,
    ):
        np.testing.assert_array_equal(left, right)


def write_csv(content: pa.Table, path, delimiter: str) -> None:
    from pyarrow import csv

    csv.write_csv(content, path, csv.WriteOptions(delimiter=delimiter))


@pytest.fixture(scope="module")
def given() -> Sequences:
    generator = np.random.default_rng(0)
    arrays = []
    for _ in range(30):
        slope, start = generator.uniform(0.5, 2.0), generator.normal()
        steps = np.arange(generator.integers(2, 9))
        arrays.append(np.stack([start + slope * steps, generator.normal(size=len(steps))], axis=1))
    return jaxrnn.read(arrays)


class TestNextOfSeveral:
    """The next values of sequences of several features: the last step is predicted from those before it."""

    def test_the_last_step_is_what_is_predicted(self, given):
        config = config_of("next", bidirectional=False)
        encoding = Encoding.fit(given, config)
        rows = encoding.encode(given, "next")
        targets, scaling = np.asarray(rows.targets), encoding.targets
        assert rows.lengths.tolist() == (given.lengths - 1).tolist()
        for number, array in enumerate(given.arrays()):
            steps = slice(rows.offsets[number], rows.offsets[number + 1])
            np.testing.assert_allclose(rows.inputs[steps] * scaling.scales + scaling.offsets, array[:-1], atol=1e-5)
            np.testing.assert_allclose(targets[number] * scaling.scales + scaling.offsets, array[-1])
            before = rows.before[number] * scaling.scales + scaling.offsets
            np.testing.assert_allclose(before[0], array[-2])
            np.testing.assert_allclose(before[1], array[-3] if len(array) > 2 else [np.nan] * 2)
        each = encoding.encode(given, "next", every=True)
        expected = np.concatenate([array[1:] for array in given.arrays()])
        np.testing.assert_allclose(np.asarray(each.targets) * scaling.scales + scaling.offsets, expected, atol=1e-12)
        np.testing.assert_array_equal(each.of_last_targets().targets, targets)
        whole = encoding.encode(given, "next", with_targets=False)
        assert whole.lengths.tolist() == given.lengths.tolist()

    @pytest.mark.slow
    def test_a_useless_feature_is_no_harm(self, given):
        """The features are those of a line and of noise: nothing is better than the line's step and the mean."""
        settings = {"hidden_size": 16, "epochs": 150, "learning_rate": 0.02, "batch_size": 30, "batching": "pad"}
        settings["progress"] = False
        line = Sequences(given.offsets, {"inputs": Field(("0",), given.steps["inputs"].values[:, :1])})
        wide = Sequences(given.offsets, dict(given.steps) | {"targets": line.steps["inputs"]})
        alone, beside = jaxrnn.fit(line, **settings), jaxrnn.fit(wide, **settings)
        error = alone.evaluate(line)["mae"], beside.evaluate(wide)["mae"]
        against = beside.evaluate(wide).baselines
        assert against["continue_step"]["mae"] < against["repeat_last"]["mae"]
        assert max(error) < 0.5 * against["repeat_last"]["mae"]
        assert beside.predict(wide).shape == (30, 1)
        assert beside.evaluate(wide)["within_half"] > 0.5

    @pytest.mark.parametrize(
        ("batching", "target"),
        [
            ("bucket", "every"),
            ("pack", "every"),
            pytest.param("bucket", "last", marks=pytest.mark.slow),
            pytest.param("pack", "last", marks=pytest.mark.slow),
        ],
    )
    def test_figures_are_the_same_on_the_device_and_on_the_host(self, given, target, batching):
        rows, settings = (given.take(np.arange(24)), given.take(np.arange(24, 30))), {"hidden_size": 4, "epochs": 2}
        settings |= {"target": target, "batching": batching, "batch_size": 8, "progress": False}
        model = jaxrnn.fit(rows[0], validation=rows[1], **settings)
        best = model.metadata["history"][model.metadata["epoch"] - 1]["validation"]
        assert dict(model.evaluate(rows[1])) == pytest.approx(best, rel=1e-4)

    def test_every_step_teaches(self, given):
        """The loss of every step is the mean over steps; the next values alone are predicted, and measured."""
        settings = {"hidden_size": 4, "epochs": 1, "batch_size": 30, "learning_rate": 1e-9, "progress": False}
        model = jaxrnn.fit(given, target="every", **settings)
        scaling, squares, last = model.encoding.targets, [], []
        for length in np.unique(given.lengths):
            alike = [array for array in given.arrays() if len(array) == length]
            for step in range(1, length):
                predicted = model.predict(jaxrnn.read([array[:step] for array in alike]))
                error = predicted - np.stack([array[step] for array in alike])
                squares.append(((error / scaling.scales) ** 2).mean(axis=1))
                if step == length - 1:
                    last.append(abs(error).mean(axis=1))
        figures = model.evaluate(given)
        assert figures["loss"] == pytest.approx(np.concatenate(squares).mean(), rel=1e-4)
        assert figures["mae"] == pytest.approx(np.concatenate(last).mean(), rel=1e-4)
        assert model.metadata["history"][0]["training"]["loss"] == pytest.approx(figures["loss"], rel=1e-4)

    def test_what_cannot_be_is_refused(self, given):
        with pytest.raises(DataError, match="sequence 1: found a single step; expected two or more"):
            jaxrnn.fit([np.ones((2, 2)), np.ones((1, 2))], progress=False)
        with pytest.raises(UserError, match="--tbptt: got 3; expected 0 where columns are named"):
            jaxrnn.fit(given, target="every", tbptt=3, progress=False)
