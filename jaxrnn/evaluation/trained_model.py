"""A trained model: restored from a checkpoint alone, it evaluates and predicts."""

import dataclasses
import functools
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxrnn.data.encoding import Encoding
from jaxrnn.data.normalizer import Normalizer
from jaxrnn.data.ragged import Ragged
from jaxrnn.data.readers.loading import load_rows
from jaxrnn.data.sequences import Sequences
from jaxrnn.data.series.series_encoding import SeriesEncoding
from jaxrnn.data.store.sharded_sequences import ShardedSequences
from jaxrnn.data.tables.loading import load_sequences
from jaxrnn.evaluation import forecast_tables
from jaxrnn.evaluation.forecasting import evaluate_forecasts
from jaxrnn.evaluation.loading import load_checkpoint
from jaxrnn.evaluation.saving import save_model
from jaxrnn.evaluation.sequence_evaluation import evaluate_sequences, predict_members
from jaxrnn.evaluation.value_evaluation import Evaluation, predict_untrained
from jaxrnn.evaluation.value_programs import chunk_rows, forecast, score
from jaxrnn.models.model_state import abstract_model, split_model
from jaxrnn.settings.config import Config
from jaxrnn.tasks import metrics
from jaxrnn.tasks.judgement import Judgement, judge


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedModel:
    """Parameters with all that is needed to use them: configuration, normaliser, columns and classes.

    An ensemble's parameters have a leading axis of members; the mean of their predictions is the prediction.

    Attributes:
      config: That of the run.
      normalizer: Fitted on the run's training rows, with task = next.
      params: The parameters.
      other: The rest of the model's state.
      metadata: The checkpoint's: data file and its hash, versions, epoch.
      step: The checkpoint's number.
      directory: Where the run's checkpoints are; None of a model that comes from none.
      encoding: What the training rows say of columns and classes, with the other tasks.

    Example:
      >>> import jaxrnn
      >>> model = jaxrnn.TrainedModel.load("runs/lstm")
      >>> model.predict(jaxrnn.Ragged.from_rows([[3, 5, 7], [1, 2]]), horizon=4).shape
      (2, 4)
    """

    config: Config
    normalizer: Normalizer
    params: Any
    other: Any
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)
    step: int = 0
    directory: Path | None = None
    encoding: Encoding | None = None

    @classmethod
    def load(cls, path: str | Path) -> "TrainedModel":
        """Restores a model.

        Args:
          path: A run directory (its best parameters), ``DIR/best``, ``DIR/latest``, or the directory of a step.

        Raises:
          CheckpointError: There is no checkpoint, it is damaged, or no epoch is finished that could be the best. Of a
            run the newest step that is whole is taken, with a warning where newer ones are damaged.
        """
        return cls(*load_checkpoint(path))

    @property
    def num_members(self) -> int:
        """How many models predict together; 1 but for an ensemble."""
        return self.config.training.ensemble

    def member(self, index: int) -> "TrainedModel":
        """Returns one model of an ensemble, that of seed + index.

        Raises:
          IndexError: There is no such member.
        """
        if not 0 <= index < self.num_members:
            raise IndexError(f"member: got {index}; expected 0 to {self.num_members - 1}")
        if self.num_members == 1:
            return self
        seed = self.config.training.seed + index
        config = self.config.replace_flat({"ensemble": 1, "seed": seed, "split_seed": self.config.split_seed})
        params, other = jax.tree.map(lambda leaf: leaf[index], (self.params, self.other))
        return dataclasses.replace(self, config=config, params=params, other=other)

    @functools.cached_property
    def model(self) -> nnx.Module:
        """The module itself, with the restored parameters, in evaluation mode.

        Raises:
          ValueError: It is an ensemble, of several.
        """
        if self.num_members > 1:
            raise ValueError(f"model: got an ensemble of {self.num_members}; expected one model: take member(index)")
        model = nnx.merge(self._graphdef, self.params, self.other)
        model.eval()
        return model

    @functools.cached_property
    def _graphdef(self) -> Any:
        sizes = () if self.encoding is None else (self.encoding.sizes,)
        return split_model(abstract_model(self.config, *sizes))[0]

    def save(self, directory: str | Path) -> None:
        """Writes the model so that `load` restores it.

        Args:
          directory: A new one, or an empty one.

        Raises:
          UserError: It holds something, or cannot be written.
        """
        given = (self.config, self.normalizer, self.params, self.other)
        save_model(directory, *given, encoding=self.encoding)

    def predict(self, rows: Any, horizon: int | None = None, *, known: Any = None) -> Any:
        """Predicts what follows each row, or what is asked of each sequence.

        Args:
          rows: With task = next `Ragged` rows in the data's units, a path or a list of them, each of one value or
            more. With the others `Sequences`, or what `jaxrnn.read` takes: a path, a DataFrame, a list of arrays; of a
            model with `text_column` a list of texts. Labels are not needed.
          horizon: With task = next how many values follow, 1 if left out; each is predicted from those before it,
            predictions included. With forecast how many steps ahead, at most and by default those it was trained for.
          known: With forecast the values of `known_columns` at the steps ahead, with ids and times: a path or a table.

        Returns:
          With task = next (rows, horizon) float64, in the order of the rows and in the data's units; of an ensemble the
          mean; of sequences of several features (sequences, targets). With classify (sequences,) texts of classes; with
          regress (sequences,) numbers, or (sequences, targets); with tag a list of (length,) texts. With forecast
          a table of ids, times, steps ahead from 1, and quantiles or a prediction: a DataFrame of pandas or polars
          where `rows` is one, else a table of Arrow.

        Raises:
          ValueError: `horizon` is below 1, or a row is empty.
          DataError: The sequences lack a column that the model was trained on.
        """
        if self.encoding is None:
            return self.predict_members(rows, 1 if horizon is None else horizon).mean(axis=0)
        if isinstance(self.encoding, SeriesEncoding):
            return forecast_tables.like(self.forecast(rows, horizon, known=known), rows)
        if horizon not in (None, 1):
            raise ValueError(f"horizon: got {horizon}; expected none with task = {self.config.task.task}")
        sequences = self._as_sequences(rows)
        predicted = self._predict(self.encoding, sequences)
        if not self.encoding.classes:
            is_one = self.config.task.task == "regress" and predicted.shape[1] == 1
            return predicted[:, 0] if is_one else predicted
        return self._per_sequence(np.array(self.encoding.classes, object)[predicted.argmax(axis=1)], sequences)

    def forecast(self, rows: Any, horizon: int | None = None, *, known: Any = None) -> Any:
        """Forecasts the steps behind each series, with task = forecast; as `predict`, but always a table of Arrow.

        Raises:
          ValueError: The model's task is another one.
          UserError: The horizon is beyond the trained one, or what is known ahead is missing.
        """
        if not isinstance(self.encoding, SeriesEncoding):
            raise ValueError(f"forecast: the model's task is {self.config.task.task}")
        given = (self.config, self.encoding, self.params, self.other)
        return forecast_tables.forecast(*given, self._as_sequences(rows), horizon, known)

    def predict_proba(self, rows: Any) -> Any:
        """Predicts the probability of each class.

        Args:
          rows: As `predict` takes them.

        Returns:
          (sequences, classes), in the order of `classes`; with tag a list of (length, classes).

        Raises:
          ValueError: The model tells no classes.
          DataError: As `predict`.
        """
        if self.encoding is None or not self.encoding.classes:
            raise ValueError(f"predict_proba: the model's task is {self.config.task.task}, which has no classes")
        sequences = self._as_sequences(rows)
        return self._per_sequence(self._predict(self.encoding, sequences), sequences)

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that the model tells apart; none where it predicts numbers."""
        return () if self.encoding is None else self.encoding.classes

    def _predict(self, encoding: Encoding, sequences: Sequences) -> np.ndarray:
        rows = encoding.encode(sequences, self.config.task.task, with_targets=False)
        return predict_members(self.config, encoding, self.params, self.other, rows).mean(axis=0)

    def _per_sequence(self, values: np.ndarray, sequences: Sequences) -> Any:
        """Returns what belongs to each sequence; values of steps are cut."""
        return np.split(values, sequences.offsets[1:-1]) if self.config.task.task == "tag" else values

    def _as_sequences(self, rows: Any, *, with_answers: bool = False) -> Sequences:
        if isinstance(rows, Sequences):
            return rows
        return load_sequences(rows, self.config, with_answers=with_answers, encoding=self.encoding)

    def _as_rows(self, rows: Any) -> Ragged:
        if isinstance(rows, Ragged):
            return rows
        is_path = isinstance(rows, str | os.PathLike)
        return load_rows(str(rows), self.config.reader, min_length=1) if is_path else Ragged.from_rows(rows)

    def predict_members(self, rows: Any, horizon: int = 1) -> np.ndarray:
        """Predicts with every member of an ensemble, each going on from its own predictions.

        Args:
          rows: As `predict` takes them.
          horizon: As `predict` takes it.

        Returns:
          (members, rows, horizon) float64.

        Raises:
          ValueError: As `predict` does.
        """
        if horizon < 1:
            raise ValueError(f"horizon: got {horizon}; expected at least 1")
        rows = self._as_rows(rows)
        if len(rows) and rows.lengths.min() < 1:
            raise ValueError("rows: got an empty row; expected at least one value to predict from")
        predicted = np.zeros((self.num_members, len(rows), horizon))
        for indices, chunk in chunk_rows(rows, self.normalizer, self.num_members, horizon):
            values = forecast(self.config, self.params, self.other, chunk, horizon)
            predicted[:, indices] = np.asarray(values, np.float64)[:, : len(indices)]
        return self.normalizer.denormalize(predicted)

    def evaluate(self, rows: Any, *, origins: int | None = None) -> Any:
        """Predicts what is known already and measures the errors, in float64.

        Args:
          rows: With task = next `Ragged` rows in the data's units, of at least two values each, the last of which is
            predicted. With the others as `predict` takes them, with labels or targets. With forecast series whose last
            steps are forecast from those before.
          origins: With forecast, from how many steps of each series; by default as many as the run tests.

        Returns:
          An `Evaluation`, or with the other tasks a `SequenceEvaluation`, with forecast a `ForecastEvaluation`; all
          give a figure by its name: ``evaluation["mae"]``.

        Raises:
          ValueError: There are no rows, or one is shorter.
          DataError: As `predict`, or there are no labels.
        """
        if self.encoding is None:
            return self._evaluate_values(self._as_rows(rows))
        sequences = rows if isinstance(rows, ShardedSequences) else self._as_sequences(rows, with_answers=True)
        if isinstance(self.encoding, SeriesEncoding):
            return evaluate_forecasts(self.config, self.encoding, self.params, self.other, sequences, origins=origins)
        return evaluate_sequences(self.config, self.encoding, self.params, self.other, sequences)

    def _evaluate_values(self, rows: Ragged) -> Evaluation:
        _require_targets(rows)
        # Of each member, and at the end of the mean prediction.
        predicted = np.zeros((self.num_members + 1, len(rows)))
        losses = np.zeros((2, self.num_members + 1))
        for indices, chunk in chunk_rows(rows, self.normalizer, self.num_members):
            last, sums = score(self.config, self.params, self.other, chunk)
            predicted[:, indices] = np.asarray(last, np.float64)[:, : len(indices)]
            losses += np.asarray(sums, np.float64)
        predicted = self.normalizer.denormalize(predicted)
        actual = rows.values[rows.offsets[1:] - 1]
        *members, figures = (
            self._figures(values, actual, tuple(loss)) for values, loss in zip(predicted, losses.T, strict=True)
        )
        return Evaluation(figures, predicted[-1], actual, members)

    def evaluate_baselines(self, rows: Ragged) -> dict[str, dict[str, float]]:
        """Measures the two predictions that need no training, on the same rows and in the same way.

        Args:
          rows: In the data's units, of at least two values each.

        Returns:
          Figures of "repeat_last", the value before, and of "continue_step", that value plus the step that led to it.

        Raises:
          ValueError: There are no rows, or one is shorter.
        """
        _require_targets(rows)
        return {
            name: self._figures(predicted, actual, loss)
            for name, predicted, actual, loss in predict_untrained(rows, self.normalizer, self.config.training.loss)
        }

    def judge(self, rows: Ragged, evaluation: Evaluation, baselines: dict[str, dict[str, float]]) -> Judgement:
        """Judges figures that `evaluate` and `evaluate_baselines` gave for the same rows."""
        return judge(
            evaluation.figures,
            baselines,
            evaluation.predicted,
            evaluation.actual,
            rows.group_ids(),
            accuracy_epsilon=self.config.training.accuracy_epsilon,
        )

    def _figures(self, predicted: np.ndarray, actual: np.ndarray, loss: tuple[Any, ...]) -> dict[str, float]:
        sums = metrics.measure(
            predicted,
            actual,
            np.ones(len(actual)),
            loss=(loss[0], loss[1]),
            accuracy_epsilon=self.config.training.accuracy_epsilon,
        )
        return metrics.as_floats(sums.compute())


def load(directory: str | Path) -> TrainedModel:
    """Restores a model that a run or `TrainedModel.save` has written.

    Args:
      directory: As `TrainedModel.load` takes it.

    Raises:
      CheckpointError: As `TrainedModel.load` does.

    Example:
      >>> import jaxrnn
      >>> jaxrnn.load("runs/lstm").predict(jaxrnn.Ragged.from_rows([[3, 5, 7]])).shape
      (1, 1)
    """
    return TrainedModel.load(directory)


def _require_targets(rows: Ragged) -> None:
    shortest = int(rows.lengths.min()) if len(rows) else None
    if shortest is None or shortest < 2:
        got = "no rows" if shortest is None else f"a row of {shortest} values"
        raise ValueError(f"rows: got {got}; expected rows of at least two values, the last to be predicted")
