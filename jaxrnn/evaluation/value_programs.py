"""The programs that predict next values. What is compiled depends on the configuration alone."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxrnn.data.batching import Bucket, pad_sequences
from jaxrnn.data.normalizer import Normalizer
from jaxrnn.data.ragged import Ragged
from jaxrnn.evaluation.sequence_evaluation import MAX_CHUNK_ROWS, next_power_of_two
from jaxrnn.models.model_state import abstract_model, split_model
from jaxrnn.models.objective import predict_targets, score_targets
from jaxrnn.settings.config import Config

MAX_CHUNK_VALUES = 2**21  # values of a chunk: what bounds memory


def _map_members(config: Config, use: Callable[[Any], jax.Array], params: Any, other: Any) -> jax.Array:
    """Calls `use` with the model of every member; returns (members, ...)."""
    graphdef = split_model(abstract_model(config))[0]

    def use_one(params: Any, other: Any) -> jax.Array:
        model = nnx.merge(graphdef, params, other)
        model.eval()
        return use(model)

    return jax.vmap(use_one)(params, other) if config.training.ensemble > 1 else use_one(params, other)[None]


@functools.partial(jax.jit, static_argnums=(0, 4))
def forecast(config: Config, params: Any, other: Any, batch: Bucket, horizon: int) -> jax.Array:
    """Returns (members, rows, horizon) normalised values that follow each row."""
    return _map_members(config, lambda model: model.forecast(batch.values, batch.lengths, horizon), params, other)


@functools.partial(jax.jit, static_argnums=0)
def score(config: Config, params: Any, other: Any, batch: Bucket) -> Any:
    """Returns the last predicted values and the loss's sum and weight, of each member and of the mean prediction."""
    predicted = _map_members(config, lambda model: predict_targets(model, batch, config), params, other)
    predicted = jnp.concatenate([predicted, predicted.mean(axis=0, keepdims=True)])
    return jax.vmap(lambda one: score_targets(one, batch, config))(predicted)


def chunk_rows(
    rows: Ragged, normalizer: Normalizer, members: int, horizon: int = 1
) -> Iterator[tuple[np.ndarray, Bucket]]:
    """Yields row numbers and normalised rows padded to powers of two, short rows together."""
    padded_lengths = next_power_of_two(rows.lengths)
    for length in np.unique(padded_lengths):
        alike = np.flatnonzero(padded_lengths == length)
        values_per_row = max(int(length), horizon) * members
        size = max(1, min(MAX_CHUNK_ROWS, MAX_CHUNK_VALUES // values_per_row))
        for start in range(0, len(alike), size):
            indices = alike[start : start + size]
            values, lengths = pad_sequences(normalizer.normalize_rows(rows.take(indices)), int(length))
            fill = int(next_power_of_two(np.array([len(indices)]))[0]) - len(indices)
            yield (
                indices,
                Bucket(np.pad(values, ((0, fill), (0, 0))), np.pad(lengths, (0, fill))),
            )
