"""A run's model as arrays: built from its configuration, split into structure and state, described by shapes."""

import dataclasses
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxrnn.foundation.errors import UserError
from jaxrnn.models.next_value import NextValueModel, build_model
from jaxrnn.nn import equations
from jaxrnn.nn.engine import cpu_kernels
from jaxrnn.settings.config import Config

_EQUATIONS = {"rnn": equations.rnn_equation("tanh"), "lstm": equations.LSTM, "gru": equations.GRU}


def split_model(model: NextValueModel) -> tuple[Any, Any, Any]:
    """Splits a model into its structure, its parameters and the rest of its state."""
    graphdef, params, other = nnx.split(model, nnx.Param, ...)  # type: ignore[misc]
    return graphdef, params, other


def abstract_model(config: Config) -> NextValueModel:
    """Returns a model whose arrays are shapes: nothing is computed."""
    return nnx.eval_shape(lambda: new_model(config, nnx.Rngs(0)))


def parameter_structs(config: Config) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shape of every parameter by its path, from the sizes alone: no layer is built.

    A configuration that claims ten thousand layers costs as many names, and not the minutes that building them takes.
    """
    model, members = config.model, config.training.ensemble
    equation = _EQUATIONS[model.cell]
    output_size = model.proj_size or model.hidden_size
    shapes: dict[str, tuple[int, ...]] = {"linear/bias": (1,), "linear/kernel": (output_size, 1)}
    for layer in range(model.num_layers):
        of_layer = equations.parameter_shapes(
            equation, output_size if layer else 1, model.hidden_size, proj_size=model.proj_size, bias=model.bias
        )
        shapes |= {f"rnn/{name}_l{layer}": shape for name, shape in of_layer.items()}
    leading = (members,) if members > 1 else ()
    return {name: jax.ShapeDtypeStruct((*leading, *shape), np.float32) for name, shape in shapes.items()}


def stack_shapes(tree: Any, members: int) -> Any:
    """Returns the shapes of arrays as those of an ensemble, with a leading axis; unchanged for one member."""
    if members == 1:
        return tree
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((members, *leaf.shape), leaf.dtype), tree)


def new_model(config: Config, rngs: nnx.Rngs) -> NextValueModel:
    """Builds the model of a run.

    Raises:
      UserError: The layers refuse its sizes, which no array can have.
    """
    model, training = config.model, config.training
    try:
        return build_model(
            model,
            rngs,
            remat_steps=training.remat_steps,
            compute_dtype=training.compute_dtype,
            backend=training.backend,
        )
    except ValueError as error:
        raise UserError(f"hidden_size = {model.hidden_size}, num_layers = {model.num_layers}: {error}") from error


def runs_compiled(config: Config) -> bool:
    """Whether the model's recurrences run compiled ahead, if that is on a CPU."""
    settings = config.training
    plain = not config.model.proj_size and settings.compute_dtype == "float32" and settings.backend == "auto"
    return plain and not settings.remat_steps and cpu_kernels.is_built()


def program_config(config: Config) -> Config:
    """Returns a configuration without what no compiled program depends on: files, seeds, how batches were made.

    Programs are compiled for this one, so that a run on other data of the same sizes compiles nothing.
    """
    blank = Config()
    free = ("batching", "batch_size", "num_buckets", "devices", "mesh", "seed", "checkpoint_seconds", "tensorboard")
    training = dataclasses.replace(config.training, **{name: getattr(blank.training, name) for name in free})
    return dataclasses.replace(config, data=blank.data, reader=blank.reader, training=training)
