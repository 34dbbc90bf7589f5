"""What a trained model makes of sequences: probabilities of classes, or numbers; and how good they are."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx
from numpy.typing import NDArray

from jaxrnn.data.encoding import Encoded, Encoding, Sizes
from jaxrnn.data.sequences import GROUPS, Sequences
from jaxrnn.data.step_batches import StepBatch, pad_steps
from jaxrnn.data.store.dataset import EXACT_VALUES
from jaxrnn.data.store.sharded_sequences import ShardedSequences
from jaxrnn.models.model_state import abstract_model, program_config, split_model
from jaxrnn.settings.config import Config
from jaxrnn.tasks import verdict
from jaxrnn.tasks.metrics import spread_over_members

# Rows of a chunk, and numbers of a chunk: what bounds memory. Chunks are padded to powers of two, so that sequences of
# any lengths need few compiled shapes.
MAX_CHUNK_ROWS = 4096
MAX_CHUNK_NUMBERS = 2**22
BLOCK_VALUES = 1 << 21  # of sequences on the disk


@dataclasses.dataclass(frozen=True, eq=False)
class SequenceEvaluation(Mapping[str, float]):
    """Figures by their names, and what they are made from.

    Attributes:
      figures: The figures; of an ensemble those of its mean prediction.
      predicted: Probabilities (rows or steps, classes), or numbers (rows, targets).
      rows: The sequences, encoded.
      members: The figures of each member by itself; of a single model its own.
      baselines: The figures of the constants that need no training.
      verdict: What they are worth.
    """

    figures: dict[str, float]
    predicted: NDArray[np.float64]
    rows: Encoded
    members: list[dict[str, float]]
    baselines: dict[str, dict[str, float]]
    verdict: verdict.Verdict

    def __getitem__(self, name: str) -> float:
        return self.figures[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.figures)

    def __len__(self) -> int:
        return len(self.figures)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value:.4g}' for name, value in self.figures.items())})"

    def spread(self) -> dict[str, dict[str, float]]:
        """Returns the "mean" and the sample standard deviation, "std", of the members' figures."""
        return spread_over_members({name: [member[name] for member in self.members] for name in self.figures})


def evaluate_sequences(
    config: Config, encoding: Encoding, params: Any, other: Any, sequences: Sequences | ShardedSequences
) -> SequenceEvaluation:
    """Measures a model on sequences whose answers are known.

    Args:
      config: The run's configuration.
      encoding: What its training rows say of columns and classes.
      params: The parameters; of an ensemble with a leading axis of members.
      other: The rest of the model's state.
      sequences: Sequences with labels or targets. Of very many on the disk what the network reads is not held: then
        `rows` has no inputs.

    Raises:
      DataError: A column or what is to be predicted is missing, or a value is too large.
      ValueError: There are no sequences.
    """
    if not len(sequences):
        raise ValueError("rows: got no sequences; expected at least one")
    given, every = (config, encoding, params, other), config.training.target == "every"
    if isinstance(sequences, Sequences) or sequences.num_values <= EXACT_VALUES:
        whole = sequences if isinstance(sequences, Sequences) else sequences.whole()
        rows, groups = encoding.encode(whole, config.task.task, every=every), whole.group_ids()
        are_named = GROUPS in whole.rows
        members = predict_members(*given, rows)
    else:
        rows, members, groups, are_named = _predict_blocks(*given, sequences.blocks(BLOCK_VALUES))
    predictions = [members.mean(axis=0), *(members if len(members) > 1 else ())]
    of_steps: list[dict[str, float]] = [{} for _ in predictions]
    if every:  # the loss is that of every step, all other figures those of the last ones
        of_steps = [{"loss": verdict.measure(one, rows, encoding, config)["loss"]} for one in predictions]
        ends = rows.offsets[1:] - 1
        predictions, rows = [one[ends] for one in predictions], rows.of_last_targets()
    predicted, measured = predictions[0], (rows, encoding, config)
    figures, *each = (verdict.measure(one, *measured) | loss for one, loss in zip(predictions, of_steps, strict=True))
    each, against = each or [figures], verdict.baselines(*measured)
    judged = verdict.judge_predictions(
        predicted,
        rows,
        encoding,
        figure=verdict.MAIN_FIGURE[config.task.task],
        figures=figures,
        groups=groups,
        are_named=are_named,
        against=against,
    )
    return SequenceEvaluation(figures, predicted, rows, each, against, judged)


def _predict_blocks(
    config: Config, encoding: Encoding, params: Any, other: Any, blocks: Iterator[Sequences]
) -> tuple[Encoded, NDArray[np.float64], NDArray[np.int64], bool]:
    """Predicts piece by piece.

    Returns:
      The sequences without what the network read, the predictions, the groups, and whether a column names these.
    """
    kept, predicted, hashes, lengths = [], [], [], []
    are_named = False
    for block in blocks:
        are_named |= GROUPS in block.rows
        rows = encoding.encode(block, config.task.task, every=config.training.target == "every")
        predicted.append(predict_members(config, encoding, params, other, rows))
        lengths.append(rows.lengths)
        hashes.append(block.row_hashes(0))
        nothing: dict[str, Any] = {
            "inputs": rows.inputs[:0],
            "categories": rows.categories[:0],
            "statics": rows.statics[:0],
        }
        kept.append(dataclasses.replace(rows, **nothing))
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
    joined: dict[str, Any] = {
        name: None if getattr(kept[0], name) is None else np.concatenate([getattr(rows, name) for rows in kept])
        for name in ("targets", "before")
    }
    groups = np.unique(np.concatenate(hashes), return_inverse=True)[1]
    whole = dataclasses.replace(kept[0], offsets=offsets, **joined)
    return whole, np.concatenate(predicted, axis=1), groups, are_named


def predict_members(config: Config, encoding: Encoding, params: Any, other: Any, rows: Encoded) -> NDArray[np.float64]:
    """Predicts with every member of an ensemble.

    Args:
      config: The run's configuration.
      encoding: What its training rows say.
      params: The parameters.
      other: The rest of the model's state.
      rows: Encoded sequences.

    Returns:
      (members, rows, classes) probabilities, or (members, rows, targets) numbers in the data's units; where what is
      predicted belongs to every step (members, steps, classes) or (members, steps, targets).
    """
    sizes, members = encoding.sizes, config.training.ensemble
    count = int(rows.offsets[-1]) if rows.every else len(rows)
    predicted = np.zeros((members, count, sizes.outputs))
    program = program_config(config if rows.every else config.replace_flat({"target": "last"}))
    for indices, chunk in chunk_sequences(rows, sizes.inputs + sizes.outputs, members):
        outputs = np.asarray(_run(program, sizes, params, other, chunk), np.float64)[:, : len(indices)]
        if not rows.every:
            predicted[:, indices] = outputs
            continue
        lengths = rows.lengths[indices]
        counts = np.arange(outputs.shape[2])[None] < lengths[:, None]
        places = (rows.offsets[indices][:, None] + np.arange(outputs.shape[2]))[counts]
        predicted[:, places] = outputs[:, counts]
    if not encoding.classes:
        return encoding.targets.denormalize(predicted)
    shifted = np.exp(predicted - predicted.max(axis=2, keepdims=True))
    return shifted / shifted.sum(axis=2, keepdims=True)


def chunk_sequences(rows: Encoded, width: int, members: int) -> Iterator[tuple[NDArray[np.int64], StepBatch]]:
    """Yields numbers of sequences and those padded to powers of two, short ones together.

    Args:
      rows: Encoded sequences.
      width: How many numbers a step takes, about.
      members: How many models read them.
    """
    padded_lengths = next_power_of_two(rows.lengths)
    for length in np.unique(padded_lengths):
        alike = np.flatnonzero(padded_lengths == length)
        numbers = int(length) * max(width, 1) * members
        size = max(1, min(MAX_CHUNK_ROWS, MAX_CHUNK_NUMBERS // numbers))
        for start in range(0, len(alike), size):
            indices = alike[start : start + size]
            num_rows = int(next_power_of_two(np.array([len(indices)]))[0])
            yield indices, pad_steps(dataclasses.replace(rows, targets=None), indices, int(length), num_rows)


# What is compiled depends on the program's configuration alone, so that models of the same one share it.
@functools.partial(jax.jit, static_argnums=(0, 1))
def _run(config: Config, sizes: Sizes, params: Any, other: Any, batch: StepBatch) -> jax.Array:
    graphdef = split_model(abstract_model(config, sizes))[0]

    def use_one(params: Any, other: Any) -> jax.Array:
        model = nnx.merge(graphdef, params, other)
        model.eval()
        return model(batch.inputs, batch.categories, batch.statics, batch.lengths)

    return jax.vmap(use_one)(params, other) if config.training.ensemble > 1 else use_one(params, other)[None]


def next_power_of_two(numbers: NDArray[Any]) -> NDArray[np.int64]:
    """Returns the next power of two of each number, 8 at least."""
    return 2 ** np.ceil(np.log2(np.maximum(numbers, 8))).astype(np.int64)
