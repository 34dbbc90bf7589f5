"""A run's model as arrays: built from its configuration, split into structure and state, described by shapes."""

import dataclasses
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxrnn.data.encoding import ONE_NUMBER, Sizes
from jaxrnn.foundation.errors import UserError
from jaxrnn.models.forecast_model import ForecastModel
from jaxrnn.models.next_value import NextValueModel, build_layer
from jaxrnn.models.sequence_model import SequenceModel, embedding_size_of
from jaxrnn.nn import equations
from jaxrnn.nn.engine import cpu_kernels
from jaxrnn.settings.config import Config
from jaxrnn.tasks.task import sequence_task_of

Model = NextValueModel | SequenceModel

_EQUATIONS = {"rnn": equations.rnn_equation("tanh"), "lstm": equations.LSTM, "gru": equations.GRU}


def split_model(model: Model) -> tuple[Any, Any, Any]:
    """Splits a model into its structure, its parameters and the rest of its state."""
    graphdef, params, other = nnx.split(model, nnx.Param, ...)  # type: ignore[misc]
    return graphdef, params, other


def abstract_model(config: Config, sizes: Sizes = ONE_NUMBER) -> Any:
    """Returns a model whose arrays are shapes: nothing is computed."""
    return nnx.eval_shape(lambda: new_model(config, nnx.Rngs(0), sizes))


def parameter_structs(config: Config, sizes: Sizes = ONE_NUMBER) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shape of every parameter by its path, from the sizes alone: no layer is built.

    A configuration that claims ten thousand layers costs as many names, and not the minutes that building them takes.
    """
    model, members = config.model, config.training.ensemble
    equation = _EQUATIONS[model.cell]
    directions = ["", "_reverse"] if config.task.bidirectional else [""]
    output_size = (model.proj_size or model.hidden_size) * len(directions)
    embedded = _embedding_sizes(config, sizes)
    step_size = sizes.read + sum(embedded) + sizes.statics or 1
    head_size = output_size + sizes.skipped
    shapes: dict[str, tuple[int, ...]] = {
        "linear/bias": (sizes.outputs,), "linear/kernel": (head_size, sizes.outputs)
    }  # fmt: skip
    for number, shape in enumerate(zip(sizes.categories, embedded, strict=True)):
        shapes[f"embeddings/{number}/weight"] = shape
    for layer in range(model.num_layers):
        input_size = output_size if layer else step_size
        of_layer = equations.parameter_shapes(
            equation, input_size, model.hidden_size, proj_size=model.proj_size, bias=model.bias
        )
        for direction in directions:
            shapes |= {f"rnn/{name}_l{layer}{direction}": shape for name, shape in of_layer.items()}
    leading = (members,) if members > 1 else ()
    return {name: jax.ShapeDtypeStruct((*leading, *shape), np.float32) for name, shape in shapes.items()}


def stack_shapes(tree: Any, members: int) -> Any:
    """Returns the shapes of arrays as those of an ensemble, with a leading axis; unchanged for one member."""
    if members == 1:
        return tree
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((members, *leaf.shape), leaf.dtype), tree)


def _embedding_sizes(config: Config, sizes: Sizes) -> list[int]:
    return [embedding_size_of(number, config.task.embedding_size) for number in sizes.categories]


def new_model(config: Config, rngs: nnx.Rngs, sizes: Sizes = ONE_NUMBER) -> Any:
    """Builds the model of a run.

    Args:
      config: The run's configuration.
      rngs: Where initial values come from.
      sizes: What the data says of its shapes.

    Returns:
      A `NextValueModel`, or for the other tasks a `SequenceModel`, which to forecast is a `ForecastModel`.

    Raises:
      UserError: The layers refuse its sizes, which no array can have.
    """
    model, training = config.model, config.training
    embedded = _embedding_sizes(config, sizes)
    try:
        layer = build_layer(
            model,
            sizes.read + sum(embedded) + sizes.statics or 1,
            rngs,
            bidirectional=config.task.bidirectional,
            remat_steps=training.remat_steps,
            compute_dtype=training.compute_dtype,
            backend=training.backend,
        )
        if config.task.task == "next" and sizes == ONE_NUMBER:
            return NextValueModel(layer, rngs=rngs)
        options: dict[str, Any] = {
            "category_sizes": sizes.categories,
            "embedding_sizes": embedded,
            "output_size": sizes.outputs,
        }
        if sizes.ahead is not None:
            return ForecastModel(layer, ahead=sizes.ahead, dropout=model.dropout, **options, rngs=rngs)
        return SequenceModel(layer, readout=sequence_task_of(config, sizes).reads, **options, rngs=rngs)
    except ValueError as error:
        raise UserError(f"hidden_size = {model.hidden_size}, num_layers = {model.num_layers}: {error}") from error


def runs_compiled(config: Config) -> bool:
    """Whether the model's recurrences run compiled ahead, if that is on a CPU."""
    settings = config.training
    plain = not config.model.proj_size and settings.compute_dtype == "float32" and settings.backend == "auto"
    return plain and not settings.remat_steps and cpu_kernels.is_built()


def program_config(config: Config) -> Config:
    """Returns a configuration without what no compiled program depends on: files, seeds, how batches were made.

    Programs are compiled for this one, so that a run on other data of the same sizes compiles nothing. Nor does one of
    more epochs, as long as the learning rate stays what it is.
    """
    blank = Config()
    free = ["batching", "batch_size", "num_buckets", "devices", "mesh", "seed", "checkpoint_seconds", "tensorboard"]
    if config.optimizer.schedule == "constant" and not config.optimizer.warmup_epochs:
        free.append("epochs")  # the learning rate neither rises in the first of them nor falls to the last
    training = dataclasses.replace(config.training, **{name: getattr(blank.training, name) for name in free})
    # Weights are told when a program runs; what else is of forecasts shows in the sizes.
    untold = ("class_weights", "horizon", "season", "scaling", "transform", "calendar", "origins", "refit")
    task = dataclasses.replace(config.task, **{name: getattr(blank.task, name) for name in untold})
    return dataclasses.replace(
        config, data=blank.data, reader=blank.reader, columns=blank.columns, task=task, training=training
    )
