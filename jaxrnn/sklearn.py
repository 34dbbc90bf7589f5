"""Estimators of scikit-learn over `jaxrnn.fit`, for pipelines, searches and cross-validation.

from jaxrnn.sklearn import SequenceClassifier
SequenceClassifier(epochs=50).fit(sequences, labels).predict(others)
"""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_consistent_length, check_is_fitted, check_random_state
from sklearn.utils.validation import validate_data as validated

from jaxrnn.commands.fitting import fit
from jaxrnn.data.sequences import INPUTS, LABELS, TARGETS, Field, Sequences
from jaxrnn.data.tables.reading import read
from jaxrnn.evaluation.trained_model import TrainedModel
from jaxrnn.settings.checking import require

# Arguments of the estimators that are no settings of their names, and settings that have such an argument.
_NO_SETTINGS = ("settings", "random_state", "validation_fraction", "verbose")
_SAID_OTHERWISE = {"seed": "random_state", "split_fractions": "validation_fraction", "progress": "verbose"}
_NOT_TO_BE_SAID = ("task", "config", "run_dir", "validation", "train")


class _SequenceEstimator(BaseEstimator):
    """What both estimators have: how sequences are read, and how they are learned from."""

    model_: TrainedModel
    n_features_in_: int
    random_state: Any
    settings: dict[str, Any] | None
    validation_fraction: float
    verbose: bool

    def _read(self, X: Any) -> Sequences:
        """Reads sequences that are to be predicted from."""
        if _is_list(X):
            return _read_list(X)
        if getattr(X, "ndim", 2) == 3:
            return _read_list(check_array(X, allow_nd=True, dtype="numeric"))
        X = validated(self, X, reset=False) if self._fitted_on_table else check_array(X, dtype="numeric")
        return _read_list(X)

    def _read_both(self, X: Any, y: Any, **checks: Any) -> tuple[Sequences, NDArray[Any]]:
        """Reads sequences to learn from, with their answers."""
        if _is_list(X):
            y = validated(self, y=y, **checks)
            check_consistent_length(X, y)
            sequences = _read_list(X)
            # Lists of equally many numbers are a table too.
            self._fitted_on_table = all(np.ndim(row) == 1 for row in X) and len(set(sequences.lengths)) == 1
        else:
            self._fitted_on_table = getattr(X, "ndim", 2) != 3
            X, y = validated(self, X, y, allow_nd=not self._fitted_on_table, dtype="numeric", **checks)
            sequences = _read_list(X)
        features = len(sequences.steps[INPUTS].names)
        self.n_features_in_ = int(sequences.lengths[0]) if self._fitted_on_table else features
        return sequences, y

    def _fit(self, sequences: Sequences, task: str) -> None:
        settings = {key: value for key, value in self.get_params(deep=False).items() if key not in _NO_SETTINGS}
        given = self.settings or {}
        require(isinstance(given, Mapping), "settings", given, "a dictionary of keys of the configuration")
        for key, value in given.items():
            require(key not in settings, f"settings: {key}", value, "no such key: it is an argument of the estimator")
            argument = _SAID_OTHERWISE.get(key)
            require(argument is None, f"settings: {key}", value, f"no such key: give {argument}")
            require(key not in _NOT_TO_BE_SAID, f"settings: {key}", value, "no such key: the estimator decides it")
            settings[key] = value
        share = self.validation_fraction
        require(0 <= share < 1, "validation_fraction", share, "0 or more, less than 1")
        if share:
            settings["split_fractions"] = (1 - share, share, 0.0)
        settings = {key: _as_plain(value) for key, value in settings.items()}
        self.model_ = fit(sequences, task=task, seed=_seed_of(self.random_state), progress=self.verbose, **settings)


class SequenceClassifier(ClassifierMixin, _SequenceEstimator):
    """Tells the class of a sequence, of any length.

    Everywhere `X` is a list or an object array of (length, features) or (length,) arrays, or an array (sequences,
    length, features). A table, (samples, features), is taken as samples of `features` steps with one number each.

    Args:
      cell: "rnn", "lstm" or "gru".
      hidden_size: Hidden units of a layer.
      num_layers: Layers stacked.
      bidirectional: Read from both ends.
      readout: What is read of the layer: "last", or the "mean" or "max" of all outputs.
      dropout: Between layers, at training only.
      class_weights: "balanced" weighs every class alike in the loss, however many sequences it has; or "none".
      epochs: How often all sequences are gone through, at most.
      batch_size: Sequences of a batch.
      learning_rate: At the start; it falls to 0.
      validation_fraction: The share of the sequences that do not train but say which epoch is best; 0 takes the last
        epoch.
      ensemble: Models trained together, whose mean predicts.
      random_state: An integer is the seed. None draws one from NumPy's global generator, a generator from itself.
      settings: Any other key of the configuration, as {"optimizer": "adamw", "weight_decay": 0.01}.
      verbose: Show how training goes.

    Attributes:
      model_: The `jaxrnn.TrainedModel`, after `fit`.
      classes_: The classes, (classes,), in the type that they were given in.
      n_features_in_: The features of a step; of a table its columns.

    Raises:
      ValueError: By `fit`, an argument out of its range; by all methods, sequences that cannot be read, or that have
        other features than those of `fit`.

    Example:
      >>> import numpy as np
      >>> from jaxrnn.sklearn import SequenceClassifier
      >>> lengths = [5, 6, 7, 8, 9] * 4
      >>> X = [np.linspace(0, 1 if rises else -1, length) for rises in (True, False) for length in lengths]
      >>> y = [rises for rises in (True, False) for _ in lengths]
      >>> classifier = SequenceClassifier(hidden_size=8, epochs=20, learning_rate=0.03, random_state=0).fit(X, y)
      >>> classifier.predict([np.linspace(0, -2, 12), np.linspace(0, 2, 3)])
      array([False,  True])
      >>> classifier.score(X, y)
      1.0
    """

    classes_: NDArray[Any]

    def __init__(
        self,
        *,
        cell: Literal["rnn", "lstm", "gru"] = "gru",
        hidden_size: int = 64,
        num_layers: int = 1,
        bidirectional: bool = True,
        readout: Literal["last", "mean", "max"] = "last",
        dropout: float = 0.0,
        class_weights: Literal["none", "balanced"] = "none",
        epochs: int = 100,
        batch_size: int = 32,
        learning_rate: float = 0.01,
        validation_fraction: float = 0.0,
        ensemble: int = 1,
        random_state: Any = None,
        settings: dict[str, Any] | None = None,
        verbose: bool = False,
    ):
        self.cell = cell
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bidirectional = bidirectional
        self.readout = readout
        self.dropout = dropout
        self.class_weights = class_weights
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.validation_fraction = validation_fraction
        self.ensemble = ensemble
        self.random_state = random_state
        self.settings = settings
        self.verbose = verbose

    def fit(self, X: Any, y: Any) -> Self:
        """Learns to tell the classes apart.

        Args:
          X: Sequences.
          y: The class of each, (sequences,), of any type that can be sorted.

        Raises:
          ValueError: As the class says; or there are fewer than two classes.
        """
        sequences, y = self._read_both(X, y)
        try:
            check_classification_targets(y)
            self.classes_, codes = np.unique(y, return_inverse=True)
        except TypeError as error:
            raise ValueError("y: got classes of several types; expected one that can be sorted") from error
        require(len(self.classes_) > 1, "y", f"one class, {self.classes_[0]!r}", "two or more to tell apart")
        labels = Field(("label",), codes[:, None].astype(np.int32), (tuple(map(str, range(len(self.classes_)))),))
        self._fit(dataclasses.replace(sequences, rows={LABELS: labels}), "classify")
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Returns the probability of each class, (sequences, classes), in the order of `classes_`."""
        check_is_fitted(self)
        sequences = self._read(X)
        probabilities = np.zeros((len(sequences), len(self.classes_)))
        # A class all of whose sequences validate has probability 0.
        probabilities[:, [int(code) for code in self.model_.classes]] = self.model_.predict_proba(sequences)
        return probabilities

    def predict(self, X: Any) -> NDArray[Any]:
        """Returns the most probable class of each sequence, (sequences,)."""
        taken = self.predict_proba(X).argmax(axis=1)
        return self.classes_[taken]


class SequenceRegressor(RegressorMixin, _SequenceEstimator):
    """Tells a number of a sequence, or several, whatever its length.

    `X` is what `SequenceClassifier` takes.

    Args:
      cell: "rnn", "lstm" or "gru".
      hidden_size: Hidden units of a layer.
      num_layers: Layers stacked.
      bidirectional: Read from both ends.
      readout: What is read of the layer: "last", or the "mean" or "max" of all outputs.
      dropout: Between layers, at training only.
      loss: "mse", "mae" or "huber", of the normalised targets.
      epochs: How often all sequences are gone through, at most.
      batch_size: Sequences of a batch.
      learning_rate: At the start; it falls to 0.
      validation_fraction: The share of the sequences that do not train but say which epoch is best; 0 takes the last
        epoch.
      ensemble: Models trained together, whose mean predicts.
      random_state: An integer is the seed. None draws one from NumPy's global generator, a generator from itself.
      settings: Any other key of the configuration, as {"optimizer": "adamw", "weight_decay": 0.01}.
      verbose: Show how training goes.

    Attributes:
      model_: The `jaxrnn.TrainedModel`, after `fit`.
      n_features_in_: The features of a step; of a table its columns.

    Raises:
      ValueError: By `fit`, an argument out of its range; by all methods, sequences that cannot be read, or that have
        other features than those of `fit`.

    Example:
      >>> import numpy as np
      >>> from jaxrnn.sklearn import SequenceRegressor
      >>> X = [np.full(length, level) for length in (3, 5, 8) for level in np.linspace(-1, 1, 20)]
      >>> y = [sequence.mean() for sequence in X]
      >>> regressor = SequenceRegressor(hidden_size=8, epochs=60, learning_rate=0.03, random_state=0).fit(X, y)
      >>> regressor.score(X, y) > 0.9
      True
      >>> regressor.predict([np.full(4, 0.5), np.full(9, -0.5)]).shape
      (2,)
    """

    def __init__(
        self,
        *,
        cell: Literal["rnn", "lstm", "gru"] = "gru",
        hidden_size: int = 64,
        num_layers: int = 1,
        bidirectional: bool = True,
        readout: Literal["last", "mean", "max"] = "last",
        dropout: float = 0.0,
        loss: Literal["mse", "mae", "huber"] = "mse",
        epochs: int = 100,
        batch_size: int = 32,
        learning_rate: float = 0.003,
        validation_fraction: float = 0.0,
        ensemble: int = 1,
        random_state: Any = None,
        settings: dict[str, Any] | None = None,
        verbose: bool = False,
    ):
        self.cell = cell
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bidirectional = bidirectional
        self.readout = readout
        self.dropout = dropout
        self.loss = loss
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.validation_fraction = validation_fraction
        self.ensemble = ensemble
        self.random_state = random_state
        self.settings = settings
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        """Says that several targets may be given."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any) -> Self:
        """Learns to tell the numbers.

        Args:
          X: Sequences.
          y: The number of each, (sequences,), or several, (sequences, targets).

        Raises:
          ValueError: As the class says.
        """
        sequences, y = self._read_both(X, y, multi_output=True, y_numeric=True)
        self._one_number = y.ndim == 1
        numbers = y.reshape(len(y), -1).astype(np.float64)
        targets = Field(tuple(map(str, range(numbers.shape[1]))), numbers)
        self._fit(dataclasses.replace(sequences, rows={TARGETS: targets}), "regress")
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Returns the numbers, (sequences,), or (sequences, targets) after a fit to such ones."""
        check_is_fitted(self)
        sequences = self._read(X)
        predicted = self.model_.predict(sequences)
        return predicted if self._one_number else predicted.reshape(len(sequences), -1)


def _is_list(X: Any) -> bool:
    """Says whether X holds a sequence an item, in place of being a table."""
    if isinstance(X, list | tuple):
        return True
    return getattr(X, "ndim", None) == 1 and getattr(X, "dtype", None) == np.dtype(object)


def _read_list(X: Any) -> Sequences:
    for number, sequence in enumerate(X):  # jaxrnn.read would take them for paths
        is_text = isinstance(sequence, str | bytes | os.PathLike)
        require(not is_text, f"X: sequence {number}", "a text", "(length, features) or (length,) numbers")
    return read(list(X))


def _seed_of(random_state: Any) -> int:
    if isinstance(random_state, int | np.integer):
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31 - 1))


def _as_plain(value: Any) -> Any:
    """Returns NumPy's numbers, as those of a grid are, as Python's."""
    return value.item() if isinstance(value, np.generic) else value
