"""The programs that predict next values. What is compiled depends on the configuration alone."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxrnn.data.batching import Bucket
from jaxrnn.models.model_state import abstract_model, split_model
from jaxrnn.models.objective import predict_targets, score_targets
from jaxrnn.settings.config import Config


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
