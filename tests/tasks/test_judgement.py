"""What stands beside the figures: intervals, baselines in words, rows that rule the accuracy, rows seen in training."""

import json
import math
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from made_models import make_model

import jaxrnn
from jaxrnn import eval as eval_command
from jaxrnn import train
from jaxrnn.tasks.bootstrap import MAX_GROUPS, mean_error_interval
from jaxrnn.tasks.figures import ACCURACY_NOTE
from jaxrnn.tasks.judgement import (
    compare_with_baselines,
    describe_interval,
    describe_near_zero,
    judge,
    leakage_warning,
    single_step_warning,
    weigh_near_zero,
)


def draw_clusters(generator, num_clusters: int, copies: int) -> tuple[np.ndarray, np.ndarray]:
    """Errors of mean 1, each in as many copies, and the numbers of the originals."""
    error = generator.exponential(size=num_clusters)
    return np.repeat(error, copies), np.repeat(np.arange(num_clusters), copies)


class TestInterval:
    def test_holds_the_true_mean_as_often_as_it_says(self):
        generator = np.random.default_rng(0)
        held, held_by_rows = 0, 0
        for _ in range(200):
            error, ids = draw_clusters(generator, 80, 8)
            interval = mean_error_interval(error, ids, num_resamples=1000)
            held += interval["low"] <= 1 <= interval["high"]
            interval = mean_error_interval(error, np.arange(len(error)), num_resamples=300)
            held_by_rows += interval["low"] <= 1 <= interval["high"]
        assert 0.89 <= held / 200 <= 0.99
        assert held_by_rows / 200 < 0.7, "copies drawn one by one pass for knowledge"

    def test_copies_do_not_narrow_it(self):
        once = mean_error_interval(*draw_clusters(np.random.default_rng(1), 100, 1))
        tenfold = mean_error_interval(*draw_clusters(np.random.default_rng(1), 100, 10))
        assert tenfold == pytest.approx(once)

    def test_agrees_with_scipy(self):
        stats = pytest.importorskip("scipy.stats")
        error = np.random.default_rng(2).exponential(size=400)
        ours = mean_error_interval(error, np.arange(400))
        theirs = stats.bootstrap(
            (error,), np.mean, method="percentile", n_resamples=4000, rng=np.random.default_rng(3)
        ).confidence_interval
        width = theirs.high - theirs.low
        assert ours["low"] == pytest.approx(theirs.low, abs=0.1 * width)
        assert ours["high"] == pytest.approx(theirs.high, abs=0.1 * width)

    def test_weighs_a_row_by_its_copies(self):
        error, ids = np.array([1.0] * 98 + [5.0, 6.0]), np.array([7] * 98 + [-3, 12])
        interval = mean_error_interval(error, ids, confidence=0.9)
        assert interval["distinct_rows"] == 3
        assert interval["low"] == pytest.approx((98 + 98 + 5) / 197)  # all three the same: one draw of 27
        assert interval["high"] == pytest.approx(17 / 3)  # 6, 6 and 5, in 3 of 27 draws; 6 three times in one of 27

    def test_same_seed_same_interval_and_another_seed_another(self):
        error = np.random.default_rng(4).exponential(size=50)
        assert mean_error_interval(error, np.arange(50)) == mean_error_interval(error, np.arange(50))
        assert mean_error_interval(error, np.arange(50)) != mean_error_interval(error, np.arange(50), seed=1)

    def test_many_rows_take_little_time_and_memory(self):
        error = np.random.default_rng(5).exponential(size=300_000)
        tracemalloc.start()
        begin = time.process_time()
        interval = mean_error_interval(error, np.arange(len(error)))
        seconds = time.process_time() - begin
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert seconds < 5
        assert peak < 100 * 2**20
        expected = 2 * 1.96 * error.std() / math.sqrt(len(error))
        assert interval["high"] - interval["low"] == pytest.approx(expected, rel=0.1), "dealing keeps the variance"
        assert interval["distinct_rows"] == 300_000 > MAX_GROUPS

    @pytest.mark.parametrize(
        ("error", "ids", "reason"),
        [
            ([1.0, 1.0], [0, 0], "1 distinct row"),
            ([1.0, math.inf], [0, 1], "not finite"),
            ([1.0, math.nan, 2.0], [0, 1, 2], "not finite"),
        ],
    )
    def test_no_interval_where_there_is_none(self, error, ids, reason):
        interval = mean_error_interval(np.array(error), np.array(ids))
        assert math.isnan(interval["low"])
        assert math.isnan(interval["high"])
        assert reason in describe_interval(interval)

    def test_wrong_arguments(self):
        with pytest.raises(ValueError, match="shape"):
            mean_error_interval(np.ones((3, 1)), np.arange(3))
        with pytest.raises(ValueError, match="confidence"):
            mean_error_interval(np.ones(3), np.arange(3), confidence=95)


class TestBaselines:
    def test_worse_than_one_and_better_than_the_other(self):
        said = compare_with_baselines(0.2, {"repeat_last": 3.17, "continue_step": 0.0})
        assert said["worse_than"] == ["continue_step"]
        assert said["better_than"] == ["repeat_last"]
        assert said["sentence"] == (
            "by mae the model (0.2) is worse than the baseline continue_step (0, exact on these rows) and better than"
            " the baseline repeat_last (3.17)"
        )

    def test_worse_than_both(self):
        said = compare_with_baselines(5.0, {"repeat_last": 3.17, "continue_step": 1.0})
        assert said["worse_than"] == ["repeat_last", "continue_step"]
        assert "worse than the baselines repeat_last (3.17) and continue_step (1)" in said["sentence"]
        assert said["sentence"].endswith("needs no training predicts these rows as well or better")

    def test_better_than_both(self):
        said = compare_with_baselines(0.5, {"repeat_last": 3.17, "continue_step": 1.0})
        assert said["better_than"] == ["repeat_last", "continue_step"]
        assert "worse" not in said["sentence"]
        assert "needs no training" not in said["sentence"]

    def test_equal_is_neither(self):
        said = compare_with_baselines(0.0, {"repeat_last": 1.0, "continue_step": 0.0})
        assert (said["better_than"], said["worse_than"]) == (["repeat_last"], [])
        assert said["equal_to"] == ["continue_step"]

    def test_not_finite_is_worse_than_all(self):
        said = compare_with_baselines(math.nan, {"repeat_last": 1.0, "continue_step": 0.0})
        assert said["worse_than"] == ["repeat_last", "continue_step"]
        assert "(not finite) is worse" in said["sentence"]


class TestNearZero:
    def test_rows_at_zero_are_weighed(self):
        actual = np.array([0.0, 10.0, -10.0, 0.4])
        error = np.array([0.05, 0.05, 0.05, 0.0])
        weighed = weigh_near_zero(error, actual, accuracy_epsilon=0.005)
        assert (weighed["rows"], weighed["of_rows"]) == (2, 4)
        relative = error / (abs(actual) + 0.005)
        assert weighed["share_of_error"] == pytest.approx(10 / relative.sum())
        assert weighed["share_of_error"] > 0.99
        assert weighed["accuracy_without"] == pytest.approx(1 - 0.05 / 10.005)
        assert "2 of 4 rows end within 0.5 of 0 and make 99.9% of" in describe_near_zero(weighed)

    def test_none_all_and_exact(self):
        far = weigh_near_zero(np.ones(3), np.full(3, 9.0), accuracy_epsilon=0.005)
        assert describe_near_zero(far) == ""
        near = weigh_near_zero(np.ones(3), np.zeros(3), accuracy_epsilon=0.005)
        assert near["accuracy_without"] is None
        assert near["share_of_error"] == 1
        exact = weigh_near_zero(np.zeros(3), np.zeros(3), accuracy_epsilon=0.005)
        assert exact["share_of_error"] is None
        assert describe_near_zero(exact) == "accuracy: 3 of 3 rows end within 0.5 of 0"


def test_judgement_holds_all_of_them():
    predicted, actual = np.array([1.0, 2.5, 0.1]), np.array([1.0, 2.0, 0.0])
    figures = {"mae": float(np.abs(predicted - actual).mean())}
    baselines = {"repeat_last": {"mae": 1.0}, "continue_step": {"mae": 0.0}}
    judgement = judge(figures, baselines, predicted, actual, np.arange(3), accuracy_epsilon=0.005)
    near, interval, against = judgement.notes()
    assert near.startswith("accuracy: 1 of 3 rows")
    assert interval.startswith("mae: 95% interval 0")
    assert against.startswith("by mae the model (0.2) is worse than the baseline continue_step")


def test_leakage_is_counted_or_not_spoken_of():
    assert leakage_warning(0, 0) == ""
    assert "warning: 0 validation and 1,234 test rows also stand in the training part" in leakage_warning(0, 1234)
    assert "warning: 7 validation and 0 test rows" in leakage_warning(7, 0)


def rows_twice(path: Path) -> tuple[Path, int]:
    path.write_text("".join(f"{i},{i + 1},{i + 2}\n" for i in range(-20, 20)) * 2)
    return path, 80


def run_training(path: Path, run_dir: Path, split: str) -> None:
    flags = ["--config=smoke", "--hidden-size=3", "--epochs=2", f"--data={path}", f"--split={split}"]
    assert train.main([*flags, f"--run-dir={run_dir}"]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("split", ["tutorial", "random", "grouped"])
def test_train_and_eval_say_it_all(tmp_path, capsys, split):
    path, _ = rows_twice(tmp_path / "twice.csv")
    run_training(path, tmp_path / "run", split)
    trained = capsys.readouterr()
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert set(summary["test"]) == {"loss", "accuracy", "mae", "rmse", "within_half"}

    # Rows seen in training.
    shared = summary["shared_rows"]
    warning = (
        f"warning: {shared['validation']} validation and {shared['test']} test rows also stand in the training part"
    )
    if split == "grouped":
        assert shared == {"validation": 0, "test": 0}
        assert "warning" not in trained.err
    else:
        assert 0 < shared["validation"] <= 16
        assert 0 < shared["test"] <= 16
        assert warning in trained.err

    # An untrained model: worse than the rule that is exact on these rows.
    assert summary["against_baselines"]["worse_than"][-1] == "continue_step"
    interval = summary["test_mae_interval"]
    assert 0 < interval["low"] <= summary["test"]["mae"] <= interval["high"]
    assert interval["confidence"] == 0.95
    assert interval["distinct_rows"] < 80 / 2
    notes = [
        ACCURACY_NOTE.format(epsilon=0.005),
        summary["against_baselines"]["sentence"],
        describe_interval(interval),
        describe_near_zero(summary["accuracy_near_zero"]),
    ]
    for note in notes:
        assert note in trained.out

    assert eval_command.main([f"--checkpoint={tmp_path / 'run'}"]) == 0
    evaluated = capsys.readouterr()
    for note in notes:
        assert note in evaluated.out
    assert (warning in evaluated.err) == (split != "grouped")

    assert eval_command.main([f"--checkpoint={tmp_path / 'run'}", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["mae_interval"] == interval
    for key in ("against_baselines", "accuracy_near_zero", "shared_rows"):
        assert result[key] == summary[key]

    # The whole file holds the rows that were trained on, whatever the split.
    assert eval_command.main([f"--checkpoint={tmp_path / 'run'}", f"--data={path}", "--json"]) == 0
    evaluated = capsys.readouterr()
    assert "is the data that the model was trained on" in evaluated.err
    assert "shared_rows" not in json.loads(evaluated.out)
    (tmp_path / "other.csv").write_text("1,2,3\n4,5,6\n")
    assert eval_command.main([f"--checkpoint={tmp_path / 'run'}", f"--data={tmp_path / 'other.csv'}"]) == 0
    assert "warning" not in capsys.readouterr().err


@pytest.mark.parametrize("column", ["group", None])
def test_an_interval_says_whether_groups_were_drawn(column):
    homes = [f"home {number % 3}" for number in range(12)]
    table = pa.table(
        {
            "id": np.repeat(np.arange(12), 2),
            "x0": np.arange(24.0),
            "kind": np.repeat(["no", "yes"] * 6, 2),
            "group": np.repeat(homes, 2),
        }
    )
    model = make_model({"task": "classify", "cell": "rnn", "hidden_size": 2}, inputs=1, categories=(), statics=0)
    given = {"id_column": "id", "input_columns": "x0", "label_column": "kind", "group_column": column}
    evaluation = model.evaluate(jaxrnn.read(table, **given))
    said = "4,000 bootstrap resamples of the " + ("3 groups" if column else "12 distinct rows")
    assert said in evaluation.verdict.notes[0]
    assert evaluation.verdict.interval["distinct_rows"] == (3 if column else 12)
    assert evaluation.verdict.interval.get("drawn") == ("groups" if column else None)
    one = model.evaluate(jaxrnn.read(table.slice(0, 2), **given))
    assert one.verdict.notes[0] == "accuracy has no confidence interval: 1 " + ("group" if column else "distinct row")


def test_sequences_of_a_single_step_are_told():
    for task in ("classify", "regress", "tag"):
        assert "every sequence has a single step" in single_step_warning((1,), task)
        assert not single_step_warning((1, 2), task)
    assert not single_step_warning((1,), "next")
    assert not single_step_warning((), "classify")
