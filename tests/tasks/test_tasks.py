"""Losses and figures of the tasks, on the device and on the host, against scikit-learn and plain loops."""

import dataclasses

import jax
import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn import metrics as oracle

from jaxrnn.data.encoding import Encoded, Encoding, Sizes
from jaxrnn.data.normalizer import Normalizer
from jaxrnn.data.scaling import Scaling
from jaxrnn.settings.config import Config
from jaxrnn.settings.task_config import FIGURES_OF_TASK, TASKS, task_of_figures
from jaxrnn.tasks import verdict
from jaxrnn.tasks.classes import figures_of_confusion
from jaxrnn.tasks.task import sequence_task_of, told_of

CLASSES = ("a", "b", "c", "d")
COUNTS = (7, 1, 2, 10)
WEIGHTS = np.array([20 / (4 * count) for count in COUNTS])


def config_of(task: str, **settings: object) -> Config:
    return Config().replace_flat({"task": task, **settings})


def encoding_of(classes: bool = True) -> Encoding:
    if classes:
        return Encoding(classes=CLASSES, class_counts=COUNTS)
    targets = Scaling(("x", "y"), (Normalizer(3.0, 2.0), Normalizer(-1.0, 0.5)))
    return Encoding(targets=targets, target_medians=(3.5, -1.0), target_means=(3.0, -1.0))


def rows_of(lengths: np.ndarray, targets: np.ndarray, *, every: bool = False) -> Encoded:
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    nothing = np.zeros((offsets[-1], 0), np.float32)
    return Encoded(offsets, nothing, nothing.astype(np.int32), np.zeros((len(lengths), 0), np.float32), targets, every)


def measured(config, encoding, outputs, targets, lengths, batches=3):
    """Sums in several batches, as training does, and computes the figures, in one program."""
    task = sequence_task_of(config, Sizes(outputs=outputs.shape[-1]))
    told = told_of(config, encoding)

    def run(outputs, targets, lengths):
        totals = task.zero(len(lengths))
        loss, weight = 0.0, 0.0
        for part in range(batches):
            chosen = slice(part, None, batches)
            (total, number), sums = task.measure(outputs[chosen], targets[chosen], lengths[chosen], told)
            totals, loss, weight = totals + sums, loss + total, weight + number
        return loss / weight, task.compute(totals, told)

    return jax.tree.map(float, jax.jit(run)(outputs, targets, lengths))


@pytest.mark.parametrize("class_weights", ["none", "balanced"])
def test_figures_of_classes_are_scikit_learns(class_weights):
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(60, 4)).astype(np.float32)
    targets = generator.integers(0, 3, 60).astype(np.int32)  # one class is not there
    lengths = np.full(60, 5, np.int32)
    lengths[50:] = 0  # rows that fill a batch
    config = config_of("classify", class_weights=class_weights)
    loss, figures = measured(config, encoding_of(), logits, targets, lengths)
    known, chosen = targets[:50], logits[:50].argmax(axis=1)
    each = -log_softmax(logits[:50].astype(np.float64), axis=1)[np.arange(50), known]
    weights = WEIGHTS[known] if class_weights == "balanced" else np.ones(50)
    assert loss == pytest.approx(figures["loss"]) == pytest.approx((weights * each).sum() / weights.sum(), rel=1e-5)
    assert figures["accuracy"] == pytest.approx(oracle.accuracy_score(known, chosen), rel=1e-6)
    assert figures["macro_f1"] == pytest.approx(oracle.f1_score(known, chosen, average="macro"), rel=1e-6)
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        balanced = oracle.balanced_accuracy_score(known, chosen)
    assert figures["balanced_accuracy"] == pytest.approx(balanced, rel=1e-6)
    assert figures["log_loss"] == pytest.approx(each.mean(), rel=1e-5)
    assert set(figures) == set(FIGURES_OF_TASK["classify"])
    # The same on the host.
    probabilities = np.exp(log_softmax(logits[:50].astype(np.float64), axis=1))
    host = verdict.measure(probabilities, rows_of(lengths[:50], known), encoding_of(), config)
    assert np.isnan(host.pop("roc_auc"))  # of a class that is not there
    assert host == pytest.approx(figures, rel=1e-5)


def test_roc_auc_is_scikit_learns():
    generator = np.random.default_rng(0)
    for number in (2, 4):
        probabilities = generator.dirichlet(np.ones(number), 40)
        targets = np.arange(40, dtype=np.int32) % number
        encoding = Encoding(classes=CLASSES[:number], class_counts=COUNTS[:number])
        found = verdict.measure(probabilities, rows_of(np.ones(40, int), targets), encoding, config_of("classify"))
        scores = probabilities[:, 1] if number == 2 else probabilities
        assert found["roc_auc"] == pytest.approx(oracle.roc_auc_score(targets, scores, multi_class="ovr"))


def test_figures_of_tags_count_steps():
    generator = np.random.default_rng(1)
    lengths = np.array([4, 1, 6, 0, 3, 6], np.int32)
    logits = generator.normal(size=(6, 6, 4)).astype(np.float32)
    targets = np.full((6, 6), -1, np.int32)
    counts = np.arange(6)[None] < lengths[:, None]
    targets[counts] = generator.integers(0, 4, counts.sum())
    targets[1, 0] = logits[1, 0].argmax()  # a whole row that is right
    loss, figures = measured(config_of("tag"), encoding_of(), logits, targets, lengths)
    known, chosen = targets[counts], logits[counts].argmax(axis=1)
    each = -log_softmax(logits[counts].astype(np.float64), axis=1)[np.arange(len(known)), known]
    assert loss == pytest.approx(each.mean(), rel=1e-5)
    assert figures["accuracy"] == pytest.approx((known == chosen).mean(), rel=1e-6)
    assert figures["macro_f1"] == pytest.approx(oracle.f1_score(known, chosen, average="macro"), rel=1e-6)
    ends = np.cumsum(lengths[lengths > 0])
    right = [part.all() for part in np.split(chosen == known, ends[:-1])]
    assert figures["rows_right"] == pytest.approx(np.mean(right))
    assert 0 < np.mean(right) < 1
    probabilities = np.exp(log_softmax(logits[counts].astype(np.float64), axis=1))
    host = verdict.measure(
        probabilities, rows_of(lengths[lengths > 0], known, every=True), encoding_of(), config_of("tag")
    )
    assert host == pytest.approx(figures, rel=1e-5)


@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
def test_figures_of_numbers_are_scikit_learns_in_the_datas_units(loss):
    generator = np.random.default_rng(2)
    outputs, targets = generator.normal(size=(2, 30, 2)).astype(np.float32)
    lengths = np.full(30, 3, np.int32)
    lengths[25:] = 0
    config, encoding = config_of("regress", loss=loss), encoding_of(classes=False)
    value, figures = measured(config, encoding, outputs, targets, lengths)
    scales, offsets = encoding.targets.scales, encoding.targets.offsets
    predicted, actual = (values[:25].astype(np.float64) * scales + offsets for values in (outputs, targets))
    assert figures["mae"] == pytest.approx(oracle.mean_absolute_error(actual, predicted), rel=1e-5)
    assert figures["rmse"] == pytest.approx(oracle.root_mean_squared_error(actual, predicted), rel=1e-5)
    assert figures["r2"] == pytest.approx(oracle.r2_score(actual, predicted), rel=1e-4)
    assert value == pytest.approx(figures["loss"])
    host = verdict.measure(predicted, rows_of(lengths[:25], targets[:25]), encoding, config)
    assert host == pytest.approx(figures, rel=1e-4)


def test_numbers_of_another_shape_are_refused():
    task = sequence_task_of(config_of("regress"), Sizes(outputs=1))
    with pytest.raises(ValueError, match=r"got outputs \(3, 1\), targets \(3,\)"):
        task.measure(np.zeros((3, 1)), np.zeros(3), np.ones(3, np.int32), {})


class TestVerdict:
    def test_a_constant_that_is_better_is_named(self):
        targets = np.array([0] * 8 + [3] * 2, np.int32)
        wrong = np.tile([0.1, 0.2, 0.3, 0.4], (10, 1))
        rows, encoding, config = rows_of(np.ones(10, int), targets), encoding_of(), config_of("classify")
        against = verdict.baselines(rows, dataclasses.replace(encoding, class_counts=(17, 1, 1, 1)), config)
        judged = verdict.judge_predictions(
            wrong,
            rows,
            encoding,
            figure="accuracy",
            figures=verdict.measure(wrong, rows, encoding, config),
            groups=np.arange(10),
            against=against,
        )
        assert judged.against_baselines["worse_than"] == ["most_frequent"]
        assert "by accuracy the model (0.2) is worse than the baseline most_frequent (0.8)" in judged.notes[1]

    def test_baselines_of_numbers_are_constants(self):
        encoding, config = encoding_of(classes=False), config_of("regress")
        actual = np.array([[3.0, -1.0], [5.0, -1.5], [4.0, 0.0]])
        targets = ((actual - encoding.targets.offsets) / encoding.targets.scales).astype(np.float32)
        found = verdict.baselines(rows_of(np.ones(3, int), targets), encoding, config)
        for name, constant in (("training_mean", [3.0, -1.0]), ("training_median", [3.5, -1.0])):
            assert found[name]["mae"] == pytest.approx(np.abs(actual - constant).mean(), rel=1e-5)

    def test_classes_that_training_has_not_seen_are_wrong_and_said(self):
        targets = np.array([0, 1, -1, -1], np.int32)
        sure = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0]], float)
        rows, config = rows_of(np.ones(4, int), targets), config_of("classify")
        figures = verdict.measure(sure, rows, encoding_of(), config)
        assert figures["accuracy"] == 0.5
        assert figures["log_loss"] == pytest.approx(0)
        against = verdict.baselines(rows, encoding_of(), config)
        judged = verdict.judge_predictions(
            sure, rows, encoding_of(), figure="accuracy", figures=figures, groups=np.arange(4), against=against
        )
        assert "2 rows have a class that no training row has: they count as wrong" in judged.notes

    def test_copies_count_once_in_the_interval(self):
        targets = np.zeros(40, np.int32)
        taken = np.where(np.arange(40) < 20, 0, 1)
        rows, config = rows_of(np.ones(40, int), targets), config_of("classify")
        against = verdict.baselines(rows, encoding_of(), config)
        spans = []
        for groups in (np.arange(40), np.arange(40) // 20):
            judged = verdict.judge_predictions(
                np.eye(4)[taken],
                rows,
                encoding_of(),
                figure="accuracy",
                figures=against["most_frequent"],
                groups=groups,
                against=against,
            )
            spans.append(judged.interval["high"] - judged.interval["low"])
        assert spans[1] == 1.0 > 2 * spans[0]


def test_the_steps_of_a_sequence_are_drawn_together():
    """Four sequences of 50 steps, each right or wrong as a whole, are four draws and not 200."""
    lengths = np.full(4, 50)
    taken = np.repeat([0, 1, 0, 1], 50)
    rows, config = rows_of(lengths, np.zeros(200, np.int32), every=True), config_of("tag")
    against = verdict.baselines(rows, encoding_of(), config)
    judged = verdict.judge_predictions(
        np.eye(4)[taken], rows, encoding_of(), figure="accuracy", figures=against["most_frequent"],
        groups=np.arange(4), against=against,
    )  # fmt: skip
    assert judged.interval["distinct_rows"] == 4
    assert (judged.interval["low"], judged.interval["high"]) == (0.0, 1.0)


def test_a_confusion_matrix_of_no_rows_of_a_class():
    counts = np.array([[2, 1, 0], [0, 0, 0], [0, 0, 3]])
    figures = figures_of_confusion(counts)
    true, chosen = [0, 0, 0, 2, 2, 2], [0, 0, 1, 2, 2, 2]
    assert figures["macro_f1"] == pytest.approx(oracle.f1_score(true, chosen, average="macro"))
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        assert figures["balanced_accuracy"] == pytest.approx(oracle.balanced_accuracy_score(true, chosen))


def test_figures_name_their_task():
    for task in TASKS:
        assert task_of_figures(FIGURES_OF_TASK[task]) == task
    assert task_of_figures([]) == task_of_figures(["loss", "unknown"]) == "next"
