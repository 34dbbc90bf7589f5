"""The estimators are scikit-learn's: its own checks, its searches and pipelines, on sequences of unequal lengths."""

import pickle
import tomllib
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

from jaxrnn.foundation.errors import UserError
from jaxrnn.sklearn import SequenceClassifier, SequenceRegressor

PADDED = {"batching": "pad", "schedule": "constant"}  # one program for all parts of as many sequences, and all epochs
SMALL = {
    "cell": "rnn", "hidden_size": 8, "readout": "last", "learning_rate": 0.03, "epochs": 60, "random_state": 0,
    "settings": PADDED,
}  # fmt: skip


def waves(number: int = 40, *, seed: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    """Sequences of 5 to 12 steps and two features that rise or fall, and how steeply."""
    generator = np.random.default_rng(seed)
    slopes = generator.uniform(-1, 1, number)
    lengths = generator.integers(5, 13, number)
    rows = [
        np.stack([slope * np.arange(n), generator.normal(size=n)], 1) for slope, n in zip(slopes, lengths, strict=True)
    ]
    return rows, slopes


def as_objects(rows: list[np.ndarray]) -> np.ndarray:
    held = np.empty(len(rows), object)
    held[:] = rows
    return held


ROWS, SLOPES = waves()
LABELS = np.where(SLOPES > 0, "up", "down")


# Checks that train a model of their own sizes on what the two estimators read and check by the same code.
FOR_ONE_OF_BOTH = (
    "check_dtype_object",
    "check_dont_overwrite_parameters",
    "check_estimators_dtypes",
    "check_estimators_nan_inf",
    "check_estimators_overwrite_params",
    "check_fit_idempotent",
    "check_n_features_in_after_fitting",
    "check_pipeline_consistency",
    "check_positive_only_tag_during_fit",
)


def own_checks():
    """Yields scikit-learn's checks of both estimators, some of them of the first alone."""
    left_out = set()
    for estimator in (SequenceClassifier(**SMALL), SequenceRegressor(**SMALL)):
        for number, (made, check) in enumerate(estimator_checks_generator(estimator)):
            name = check.func.__name__
            if isinstance(estimator, SequenceRegressor) and name in FOR_ONE_OF_BOTH:
                left_out.add(name)
                continue
            yield pytest.param(made, check, id=f"{type(estimator).__name__}-{number}-{name}")
    assert left_out == set(FOR_ONE_OF_BOTH), "scikit-learn has renamed some"


# No check is expected to fail: what scikit-learn checks are tables, which are sequences of equal lengths.
@pytest.mark.slow
@pytest.mark.parametrize(("estimator", "check"), list(own_checks()))
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    ("estimator", "recipe"),
    [(SequenceClassifier, "classify"), pytest.param(SequenceRegressor, "regress", marks=pytest.mark.slow)],
)
def test_without_arguments_a_model_is_the_recipes(estimator, recipe, repository):
    written = tomllib.loads((repository / "configs" / f"{recipe}.toml").read_text(encoding="utf-8"))
    defaults = estimator().get_params()
    assert {key: defaults[key] for key in written if key in defaults} == {
        key: value for key, value in written.items() if key in defaults
    }
    X, y = [row[:5] for row in ROWS], LABELS if recipe == "classify" else SLOPES  # of one length: one bucket
    fitted = estimator(epochs=1, random_state=7).fit(X, y).model_.config.to_flat()
    assert {key: fitted[key] for key in written} == written | {"epochs": 1}
    assert fitted["seed"] == 7


class TestUnequalLengths:
    @pytest.mark.parametrize("labels", [LABELS, LABELS == "up", np.where(LABELS == "up", 11, 2), list(LABELS)])
    def test_classes_keep_their_type(self, labels):
        classifier = SequenceClassifier(**SMALL).fit(ROWS, labels)
        np.testing.assert_array_equal(classifier.classes_, np.unique(labels))
        predicted = classifier.predict(ROWS)
        assert predicted.dtype == np.asarray(labels).dtype
        assert (predicted == np.asarray(labels)).mean() > 0.9
        assert classifier.n_features_in_ == 2
        new, slopes = waves(20, seed=1)
        assert classifier.score(new, np.unique(labels)[(slopes > 0).astype(int)]) > 0.8

    def test_what_holds_the_sequences_changes_nothing(self):
        classifier = SequenceClassifier(**SMALL).fit(ROWS, LABELS)
        expected = classifier.predict_proba(ROWS)
        np.testing.assert_array_equal(classifier.predict_proba(as_objects(ROWS)), expected)
        np.testing.assert_array_equal(classifier.predict_proba([row.tolist() for row in ROWS]), expected)
        again = clone(classifier).fit(as_objects(ROWS), LABELS)
        np.testing.assert_array_equal(again.predict_proba(tuple(ROWS)), expected)
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(again)).predict_proba(ROWS), expected)

    @pytest.mark.slow
    def test_several_targets(self):
        y = np.stack([SLOPES, -2 * SLOPES + 1, SLOPES**2], axis=1)
        regressor = SequenceRegressor(**SMALL).fit(ROWS, y)
        assert regressor.predict(ROWS[:3]).shape == (3, 3)
        assert regressor.score(ROWS, y) > 0.7
        column = SequenceRegressor(**SMALL).fit(ROWS, y[:, :1])
        assert column.predict(ROWS[:3]).shape == (3, 1)
        flat = SequenceRegressor(**SMALL).fit(ROWS, y[:, 0])
        np.testing.assert_array_equal(flat.predict(ROWS), column.predict(ROWS)[:, 0])

    def test_three_dimensions_are_a_list_of_two(self):
        generator = np.random.default_rng(0)
        X = generator.normal(size=(30, 6, 2))
        y = X[:, :, 0].mean(axis=1) > 0
        of_array = SequenceClassifier(**SMALL).fit(X, y)
        of_list = SequenceClassifier(**SMALL).fit(list(X), y)
        assert of_array.n_features_in_ == of_list.n_features_in_ == 2
        np.testing.assert_array_equal(of_array.predict_proba(X), of_list.predict_proba(list(X)))
        assert of_array.predict(ROWS).shape == (40,)
        with pytest.raises(ValueError, match="found 3 features a step; expected 2"):
            of_array.predict(np.zeros((2, 6, 3)))

    def test_a_table_is_sequences_of_one_number_a_step(self):
        X = np.random.default_rng(0).normal(size=(30, 6))
        y = X.mean(axis=1)
        of_table = SequenceRegressor(**SMALL).fit(X, y)
        assert of_table.n_features_in_ == 6
        np.testing.assert_array_equal(of_table.predict(X), of_table.predict(X[:, :, None]))
        assert of_table.predict([[0.5, 0.2], [0.1]]).shape == (2,)
        of_unequal = SequenceRegressor(**SMALL).fit(
            [row[:length] for row, length in zip(X, [3, 6] * 15, strict=True)], y
        )
        assert of_unequal.n_features_in_ == 1
        assert of_unequal.predict(X).shape == (30,)

    def test_a_class_that_only_validates_has_probability_0(self):
        labels = LABELS.copy()
        labels[0] = "odd"
        classifier = SequenceClassifier(**SMALL, validation_fraction=0.8)
        fitted = classifier.set_params(epochs=1).fit(ROWS, labels)
        assert fitted.model_.classes == ("0", "2")
        probabilities = fitted.predict_proba(ROWS)
        assert (probabilities[:, list(fitted.classes_).index("odd")] == 0).all()
        np.testing.assert_allclose(probabilities.sum(axis=1), 1)


class TestTools:
    @pytest.mark.slow
    def test_cross_validation_and_search(self):
        classifier = SequenceClassifier(**SMALL)
        assert cross_val_score(classifier, ROWS, LABELS, cv=2).mean() > 0.7
        assert cross_val_predict(classifier, as_objects(ROWS), LABELS, cv=2, method="predict_proba").shape == (40, 2)
        grid = {"hidden_size": np.array([1, 8]), "learning_rate": np.array([0.03])}
        search = GridSearchCV(classifier, grid, cv=2).fit(ROWS, LABELS)
        assert search.best_estimator_.predict(ROWS[:2]).shape == (2,)

    @pytest.mark.slow
    def test_pipelines(self):
        def doubled(rows):
            return [2 * row for row in rows]

        steps = [("double", FunctionTransformer(doubled)), ("rnn", SequenceRegressor(**SMALL))]
        pipeline = Pipeline(steps).set_params(rnn__loss="huber").fit(ROWS, SLOPES)
        assert pipeline.score(ROWS, SLOPES) > 0.8
        X = np.random.default_rng(0).normal(size=(30, 6))
        table = make_pipeline(StandardScaler(), SequenceClassifier(**SMALL)).fit(X, X[:, 0] > 0)
        assert table.score(X, X[:, 0] > 0) > 0.9

    def test_a_meta_estimator(self):
        three = np.digitize(SLOPES, [-0.3, 0.3])
        assert OneVsRestClassifier(SequenceClassifier(**SMALL)).fit(ROWS, three).predict(ROWS).shape == (40,)


class TestSettings:
    def test_any_other_key_of_the_configuration(self):
        given = {"optimizer": "adamw", "weight_decay": 0.01, "batching": "pad"}
        flat = SequenceClassifier(**SMALL).set_params(settings=given).fit(ROWS, LABELS).model_.config.to_flat()
        assert {key: flat[key] for key in given} == given

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"hidden_size": 4}, "argument of the estimator"),
            ({"seed": 4}, "give random_state"),
            ({"split_fractions": (0.5, 0.5, 0)}, "give validation_fraction"),
            ({"task": "tag"}, "the estimator decides it"),
            ({"hiden": 4}, "unknown key"),
        ],
    )
    def test_keys_that_are_refused(self, settings, message):
        with pytest.raises(UserError, match=message):
            SequenceClassifier(**SMALL).set_params(settings=settings).fit(ROWS, LABELS)

    def test_random_states(self):
        few = SMALL | {"epochs": 1}

        def seed(state):
            return SequenceClassifier(**(few | {"random_state": state})).fit(ROWS, LABELS).model_.config.training.seed

        assert seed(np.int64(5)) == 5
        assert seed(np.random.RandomState(1)) == seed(np.random.RandomState(1)) != seed(np.random.RandomState(2))
        np.random.seed(3)  # noqa: NPY002 - what scikit-learn's None stands for
        assert seed(None) != seed(None)

    @pytest.mark.slow
    def test_an_ensemble_with_validation(self):
        regressor = SequenceRegressor(**SMALL, ensemble=2, validation_fraction=0.25).fit(ROWS, SLOPES)
        assert regressor.model_.num_members == 2
        assert regressor.score(ROWS, SLOPES) > 0.5
        with pytest.raises(UserError, match="validation_fraction: got 1"):
            clone(regressor).set_params(validation_fraction=1).fit(ROWS, SLOPES)


class TestRefused:
    def test_numbers_that_are_no_sequences(self):
        with pytest.raises(ValueError, match=r"array 0: got .shape"):
            SequenceClassifier(**SMALL).fit([1.0, 2.0], [0, 1])

    def test_another_number_of_labels(self):
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            SequenceClassifier(**SMALL).fit(ROWS, LABELS[:-1])

    def test_missing_values(self):
        with pytest.raises(ValueError, match=r"array 1: got .NaN"):
            SequenceClassifier(**SMALL).fit([[0.0, 1.0], [0.0, np.nan]], [0, 1])


@pytest.mark.parametrize("X", [["good film", "bad film"] * 3, [Path("a.csv")] * 6, [b"a", b"b"] * 3])
def test_texts_are_not_taken_for_paths(X):
    with pytest.raises(ValueError, match=r"X: sequence 0: got 'a text'; expected \(length, features\)"):
        SequenceClassifier(epochs=1).fit(X, [0, 1] * 3)


def test_answers_and_settings_that_cannot_be():
    X = [np.ones(3)] * 4
    with pytest.raises(ValueError, match=r"y: got .*one class, .*'a'.*; expected two or more to tell apart"):
        SequenceClassifier(epochs=1).fit(X, ["a"] * 4)
    with pytest.raises(ValueError, match="y: got classes of several types"):
        SequenceClassifier(epochs=1).fit(X, np.array(["a", None, "b", "b"], object))
    with pytest.raises(ValueError, match="settings: got 'x'; expected a dictionary"):
        SequenceClassifier(epochs=1, settings="x").fit(X, ["a", "b"] * 2)
