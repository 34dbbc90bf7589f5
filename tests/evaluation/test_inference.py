"""A trained model in use: the same figures and predictions whatever else is in the file."""

import gc
import math
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn.data.normalizer import Normalizer
from jaxrnn.data.ragged import Ragged
from jaxrnn.evaluation import value_programs
from jaxrnn.evaluation.trained_model import TrainedModel
from jaxrnn.models.model_state import split_model
from jaxrnn.models.next_value import build_model
from jaxrnn.runs.checkpoint import CheckpointError
from jaxrnn.settings.config import Config

# float32 and another order of the sums in a matmul of another size; predictions are of the order of 10.
TOLERANCE = {"rtol": 1e-5, "atol": 1e-4}


@pytest.fixture(scope="module")
def model(trained_run) -> TrainedModel:
    return TrainedModel.load(trained_run)


def make_rows(num_rows: int, lengths: tuple[int, int], seed: int = 0) -> Ragged:
    generator = np.random.default_rng(seed)
    return Ragged.from_rows([generator.normal(0, 20, generator.integers(*lengths)) for _ in range(num_rows)])


def small_model(**settings) -> TrainedModel:
    """A model with random parameters, for what does not depend on training."""
    from flax import nnx

    config = Config().replace_flat({"hidden_size": 5, **settings})
    _, params, other = split_model(build_model(config.model, nnx.Rngs(1)))
    return TrainedModel(config, Normalizer(2.0, 10.0), params, other)


class TestIndependenceOfRows:
    @pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
    def test_each_row_is_predicted_as_if_it_were_alone(self, cell):
        model = small_model(cell=cell)
        rows = make_rows(12, (1, 40))
        together = model.predict(rows, 3)
        alone = np.concatenate([model.predict(rows.take([number]), 3) for number in range(len(rows))])
        np.testing.assert_allclose(together, alone, **TOLERANCE)
        assert np.ptp(alone[:, 0]) > 1e-2, "all rows are predicted alike: this test would notice nothing"

    def test_order_of_rows(self, model):
        rows = make_rows(50, (2, 40))
        order = np.random.default_rng(1).permutation(50)
        np.testing.assert_allclose(model.predict(rows.take(order), 2), model.predict(rows, 2)[order], **TOLERANCE)
        straight, mixed = model.evaluate(rows), model.evaluate(rows.take(order))
        np.testing.assert_allclose(mixed.predicted, straight.predicted[order], **TOLERANCE)
        np.testing.assert_array_equal(mixed.actual, straight.actual[order])
        assert mixed.figures == pytest.approx(straight.figures, rel=1e-4)

    def test_chunk_boundaries(self, model, monkeypatch):
        rows = make_rows(23, (2, 40))
        whole, predicted = model.evaluate(rows), model.predict(rows, 2)
        for max_rows, max_values in ((1, 2**21), (3, 2**21), (8, 2**21), (4096, 64), (4096, 1)):
            monkeypatch.setattr(value_programs, "MAX_CHUNK_ROWS", max_rows)
            monkeypatch.setattr(value_programs, "MAX_CHUNK_VALUES", max_values)
            chunks = list(value_programs.chunk_rows(rows, model.normalizer, 1))
            assert sorted(np.concatenate([indices for indices, _ in chunks])) == list(range(23))
            assert max(len(indices) for indices, _ in chunks) <= max_rows
            np.testing.assert_allclose(model.predict(rows, 2), predicted, **TOLERANCE)
            again = model.evaluate(rows)
            np.testing.assert_allclose(again.predicted, whole.predicted, **TOLERANCE)
            assert again.figures == pytest.approx(whole.figures, rel=1e-4)

    def test_long_horizon_makes_small_chunks(self, model, monkeypatch):
        monkeypatch.setattr(value_programs, "MAX_CHUNK_VALUES", 100)
        chunks = list(value_programs.chunk_rows(make_rows(30, (2, 9)), model.normalizer, 1, 50))
        assert max(len(indices) for indices, _ in chunks) == 2

    def test_few_shapes_for_any_lengths(self, model):
        chunks = [bucket for _, bucket in value_programs.chunk_rows(make_rows(500, (1, 65)), model.normalizer, 1)]
        assert {bucket.values.shape[1] for bucket in chunks} <= {8, 16, 32, 64}
        assert all(math.log2(bucket.values.shape[0]).is_integer() for bucket in chunks)

    def test_rows_longer_than_any_in_training(self, model):
        long = np.sin(np.arange(700) / 5) * 20
        rows = Ragged.from_rows([[1.0, 2.0], long, [3.0, 5.0, 7.0]])
        predicted = model.predict(rows, 2)
        assert np.isfinite(predicted).all()
        np.testing.assert_allclose(predicted[1], model.predict(Ragged.from_rows([long]), 2)[0], **TOLERANCE)
        # What it remembers reaches back only so far: the last hundreds of values decide.
        np.testing.assert_allclose(
            predicted[1], model.predict(Ragged.from_rows([long[200:]]), 2)[0], rtol=1e-2, atol=1e-2
        )
        assert np.isfinite(list(model.evaluate(rows).figures.values())).all()


class TestPredict:
    def test_normalises_in_and_out(self, model):
        rows = make_rows(5, (3, 9))
        scaled = TrainedModel(
            model.config,
            Normalizer(model.normalizer.offset * 4 + 7, model.normalizer.scale * 4),
            model.params,
            model.other,
        )
        moved = Ragged(rows.values * 4 + 7, rows.offsets)
        np.testing.assert_allclose(scaled.predict(moved), model.predict(rows) * 4 + 7, rtol=1e-4, atol=1e-3)

    def test_horizon_feeds_predictions_back(self, model):
        rows = make_rows(6, (1, 12))
        predicted = model.predict(rows, 4)
        assert predicted.shape == (6, 4)
        assert predicted.dtype == np.float64
        grown = [list(row) for row in rows]
        for step in range(4):
            following = model.predict(Ragged.from_rows(grown))[:, 0]
            np.testing.assert_allclose(predicted[:, step], following, **TOLERANCE)
            for row, value in zip(grown, following, strict=True):
                row.append(value)

    def test_first_values_do_not_depend_on_the_horizon(self, model):
        rows = make_rows(6, (1, 12))
        np.testing.assert_allclose(model.predict(rows, 5)[:, :2], model.predict(rows, 2), **TOLERANCE)

    def test_evaluate_predicts_the_last_value_from_those_before(self, model):
        rows = make_rows(9, (2, 20))
        inputs = Ragged.from_rows([row[:-1] for row in rows])
        evaluation = model.evaluate(rows)
        np.testing.assert_allclose(evaluation.predicted, model.predict(inputs)[:, 0], **TOLERANCE)
        np.testing.assert_array_equal(evaluation.actual, [row[-1] for row in rows])

    def test_the_value_to_predict_is_not_seen(self, model):
        rows = make_rows(9, (2, 20))
        values = rows.values.copy()
        values[rows.offsets[1:] - 1] = 1e6
        changed = Ragged(values, rows.offsets)
        np.testing.assert_array_equal(model.evaluate(changed).predicted, model.evaluate(rows).predicted)

    def test_no_rows_and_bad_arguments(self, model):
        assert model.predict(Ragged.from_rows([]), 3).shape == (0, 3)
        with pytest.raises(ValueError, match="horizon: got 0; expected at least 1"):
            model.predict(make_rows(2, (2, 3)), 0)
        with pytest.raises(ValueError, match="got an empty row"):
            model.predict(Ragged.from_rows([[1.0], []]))

    @pytest.mark.parametrize("rows", [[], [[1.0, 2.0], [3.0]], [[]]])
    def test_rows_with_nothing_to_evaluate(self, model, rows):
        for method in (model.evaluate, model.evaluate_baselines):
            with pytest.raises(ValueError, match=r"rows: got .*; expected .*at least two values"):
                method(Ragged.from_rows(rows))

    def test_module_predicts_as_the_trained_model_does(self, model):
        rows = Ragged.from_rows([[1.0, 3.0, 5.0]])
        normalized = jnp.asarray(model.normalizer.normalize(rows.values), jnp.float32)
        module_says = model.model.predict_last(normalized[None], jnp.array([3]))
        np.testing.assert_allclose(
            model.normalizer.denormalize(np.asarray(module_says, np.float64)), model.predict(rows)[0], **TOLERANCE
        )


def plain_figures(predicted, actual, losses, epsilon: float) -> dict[str, float]:
    """The figures, a row at a time, in Python numbers."""
    pairs = [(float(p), float(y)) for p, y in zip(predicted, actual, strict=True)]
    n = len(pairs)
    return {
        "loss": sum(losses) / len(losses),
        "accuracy": 1 - sum(abs(y - p) / (abs(y) + epsilon) for p, y in pairs) / n,
        "mae": sum(abs(y - p) for p, y in pairs) / n,
        "rmse": math.sqrt(sum((y - p) ** 2 for p, y in pairs) / n),
        "within_half": sum(abs(y - p) <= 0.5 for p, y in pairs) / n,
    }


def plain_loss(kind: str, predicted: float, actual: float) -> float:
    error = abs(predicted - actual)
    if kind == "huber":
        return 0.5 * error**2 if error <= 1 else error - 0.5
    return error**2 if kind == "mse" else error


class TestFigures:
    @pytest.mark.parametrize("kind", ["mse", "mae", "huber"])
    @pytest.mark.parametrize("target", ["last", "every"])
    def test_figures_against_a_row_by_row_computation(self, kind, target):
        model = small_model(cell="gru", loss=kind, target=target, accuracy_epsilon=0.25)
        rows = make_rows(37, (2, 30))
        predicted = [model.predict(Ragged.from_rows([row[:-1]]))[0, 0] for row in rows]
        losses = []
        for row in rows:
            ends = range(1, len(row)) if target == "every" else [len(row) - 1]
            following = model.predict(Ragged.from_rows([row[:end] for end in ends]))[:, 0]
            scale = model.normalizer.scale
            losses += [plain_loss(kind, p / scale, row[e] / scale) for p, e in zip(following, ends, strict=True)]
        expected = plain_figures(predicted, [row[-1] for row in rows], losses, 0.25)
        assert model.evaluate(rows).figures == pytest.approx(expected, rel=1e-5)

    def test_baselines_by_hand(self):
        model = small_model(accuracy_epsilon=1.0)  # loss: mse of values divided by 10
        rows = Ragged.from_rows([[1.0, 3.0, 5.0], [4.0, 4.5], [0.0, 2.0, 4.0, -1.0]])
        # repeat_last predicts 3, 4, 4; continue_step 5, 4 (no step is known) and 6.
        repeat, go_on = [3.0, 4.0, 4.0], [5.0, 4.0, 6.0]
        actual = [5.0, 4.5, -1.0]
        expected = {
            "repeat_last": {
                "loss": (2**2 + 0.5**2 + 5**2) / 3 / 100,
                "accuracy": 1 - (2 / 6 + 0.5 / 5.5 + 5 / 2) / 3,
                "mae": 2.5,
                "rmse": math.sqrt((4 + 0.25 + 25) / 3),
                "within_half": 1 / 3,
            },
            "continue_step": {
                "loss": (0 + 0.5**2 + 7**2) / 3 / 100,
                "accuracy": 1 - (0 + 0.5 / 5.5 + 7 / 2) / 3,
                "mae": 2.5,
                "rmse": math.sqrt((0 + 0.25 + 49) / 3),
                "within_half": 2 / 3,
            },
        }
        figures = model.evaluate_baselines(rows)
        assert list(figures) == list(expected)
        for name, values in expected.items():
            assert figures[name] == pytest.approx(values, rel=1e-12)
        for name, guess in (("repeat_last", repeat), ("continue_step", go_on)):
            losses = [plain_loss("mse", p / 10, y / 10) for p, y in zip(guess, actual, strict=True)]
            assert figures[name] == pytest.approx(plain_figures(guess, actual, losses, 1.0), rel=1e-12)

    @pytest.mark.parametrize("kind", ["mse", "mae", "huber"])
    def test_baselines_of_many_rows(self, kind):
        model = small_model(loss=kind)
        rows = make_rows(200, (2, 6))
        assert (rows.lengths == 2).any()
        guesses = {
            "repeat_last": [row[-2] for row in rows],
            "continue_step": [row[-2] + (row[-2] - row[-3] if len(row) > 2 else 0) for row in rows],
        }
        actual = [row[-1] for row in rows]
        figures = model.evaluate_baselines(rows)
        for name, guess in guesses.items():
            losses = [plain_loss(kind, p / 10, y / 10) for p, y in zip(guess, actual, strict=True)]
            assert figures[name] == pytest.approx(plain_figures(guess, actual, losses, 0.005), rel=1e-9)

    def test_constant_step_is_foretold_exactly(self, model):
        rows = Ragged.from_rows([[1, 3, 5, 7], [9, 6, 3]])
        figures = model.evaluate_baselines(rows)["continue_step"]
        assert figures == {"loss": 0.0, "accuracy": 1.0, "mae": 0.0, "rmse": 0.0, "within_half": 1.0}


class TestLoad:
    def test_what_comes_back(self, trained_run, model):
        assert (model.step, model.metadata["epoch"]) == (1, 20)
        assert model.config.training.epochs == 20
        assert model.metadata["data"]["rows"] == 10000
        assert model.normalizer.scale > 0
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(model.params))

    @pytest.mark.slow
    def test_a_process_that_loads_again_and_again_does_not_grow(self, trained_run):
        rows, loads = Ragged.from_rows([[1.0, 2.0, 3.0]]), 4

        def held() -> int:
            gc.collect()
            return tracemalloc.get_traced_memory()[0]

        TrainedModel.load(trained_run).predict(rows)
        tracemalloc.start()
        try:
            TrainedModel.load(trained_run).predict(rows)
            before = held()
            for _ in range(loads):
                TrainedModel.load(trained_run).predict(rows)
            grown = (held() - before) / loads
        finally:
            tracemalloc.stop()
        # What stays, some 35 KB, TensorStore keeps of what Orbax asks it for to restore. Where every array is described
        # by it too, that is ten times as much.
        assert grown < 70_000

    def test_best_latest_and_step(self, trained_run, tmp_path):
        names = [trained_run, trained_run / "best", trained_run / "latest", trained_run / "checkpoints" / "1"]
        default, best, latest, step = (jax.tree.leaves(TrainedModel.load(name).params) for name in names)
        np.testing.assert_array_equal(default[0], best[0])
        for a, b in zip(latest, step, strict=True):
            np.testing.assert_array_equal(a, b)
        assert jax.tree.leaves(TrainedModel.load(str(trained_run)).params)[0].dtype == np.float32

    @pytest.mark.parametrize("name", ["missing", "missing/best", "5", "²", "empty", "file", "file/x", "x" * 300, ""])
    def test_nothing_there(self, tmp_path, monkeypatch, name):
        monkeypatch.chdir(tmp_path)
        for made in ("5", "²", "empty"):
            (tmp_path / made).mkdir()
        (tmp_path / "file").write_text("")
        with pytest.raises(CheckpointError):
            TrainedModel.load(name)
