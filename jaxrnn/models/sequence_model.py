"""A network that reads sequences of several features: embeddings, a recurrent layer, a readout and a linear head."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from jaxrnn.foundation.array_types import Array, Float, Int
from jaxrnn.nn import initial_values
from jaxrnn.nn.engine import loops
from jaxrnn.nn.recurrent_layer import AbstractRecurrentLayer
from jaxrnn.tasks.readout import Readout

MAX_EMBEDDING_SIZE = 32


def new_head(features: int, outputs: int, *, rngs: nnx.Rngs) -> nnx.Linear:
    """Returns a linear layer, its initial values drawn from U(-1/sqrt(features), 1/sqrt(features)) as PyTorch's are."""
    bound = 1 / math.sqrt(features)
    kernel, bias = initial_values.draw_uniform(rngs, [(features, outputs), (outputs,)], bound, jnp.float32)
    # The layer passes over their keys itself.
    return nnx.Linear(features, outputs, kernel_init=lambda *_: kernel, bias_init=lambda *_: bias, rngs=rngs)


def embedding_size_of(num_categories: int, given: int) -> int:
    """Returns how many numbers stand for a category.

    Args:
      num_categories: The categories of a column, the unknown one included.
      given: As configured; 0 for a size that fits their number.
    """
    return given or min(MAX_EMBEDDING_SIZE, (num_categories + 1) // 2)


class Embedding(nnx.Module):
    """A row of numbers for each category; N(0, 1) at first, and 0 for category 0, which training has not seen.

    Args:
      num_categories: How many categories there are.
      size: How many numbers stand for each.
      rngs: Where initial values come from.
    """

    def __init__(self, num_categories: int, size: int, *, rngs: nnx.Rngs):
        drawn = jax.random.normal(rngs.params(), (num_categories, size), jnp.float32)
        self.weight = nnx.Param(drawn.at[0].set(0))

    def __call__(self, codes: Int[Array, "*steps"]) -> Float[Array, "*steps size"]:
        return self.weight[codes]


class SequenceModel(nnx.Module):
    """Reads a sequence and gives numbers for it, or for each of its steps.

    A step is its numbers, the embeddings of its categories and the numbers that belong to the whole sequence, one after
    the other. Its state dict has the names ``rnn.weight_ih_l0`` .., ``embeddings.0.weight`` .. and ``linear.weight``,
    ``linear.bias``.

    Args:
      rnn: A layer whose input size is that of a step.
      category_sizes: The categories of each column of them.
      embedding_sizes: How many numbers stand for a category of each.
      output_size: How many numbers the head gives.
      readout: What the head reads: "last", "mean", "max" of the outputs, or "every" one.
      skipped: How many numbers the head reads besides.
      rngs: Where initial values come from.
    """

    def __init__(
        self,
        rnn: AbstractRecurrentLayer,
        *,
        category_sizes: Sequence[int],
        embedding_sizes: Sequence[int],
        output_size: int,
        readout: Readout,
        skipped: int = 0,
        rngs: nnx.Rngs,
    ):
        self.rnn = rnn
        self.embeddings = nnx.List(
            Embedding(number, size, rngs=rngs) for number, size in zip(category_sizes, embedding_sizes, strict=True)
        )
        self.readout = readout
        features = rnn.output_size * rnn.num_directions + skipped
        self.linear = new_head(features, output_size, rngs=rngs)

    def __call__(
        self,
        inputs: Float[Array, "batch time inputs"],
        categories: Int[Array, "batch time columns"],
        statics: Float[Array, "batch statics"],
        lengths: Int[Array, " batch"],
    ) -> Float[Array, "*rows outputs"]:
        """Returns what the head gives: (batch, outputs), or with readout = every (batch, time, outputs)."""
        return self.linear(self._features(inputs, categories, statics, lengths))

    def packed(
        self,
        inputs: Float[Array, "batch time inputs"],
        categories: Int[Array, "batch time columns"],
        statics: Float[Array, "batch time statics"],
        segment_ids: Int[Array, "batch time"],
    ) -> Float[Array, "batch time outputs"]:
        """Reads several sequences a row; what the head gives for each stands at its last step.

        With readout = every each step has its own; elsewhere what stands there means nothing.
        """
        return self.linear(self._packed_features(inputs, categories, statics, segment_ids))

    def _features(self, inputs: Array, categories: Array, statics: Array, lengths: Array) -> Array:
        """Returns what the head reads of padded sequences."""
        statics = jnp.broadcast_to(statics[:, None], (*inputs.shape[:2], statics.shape[1]))
        return self._read(self.steps(inputs, categories, statics), lengths)

    def _packed_features(self, inputs: Array, categories: Array, statics: Array, segment_ids: Array) -> Array:
        """Returns what the head reads of packed sequences, at every step."""
        outputs, _ = self.rnn(self.steps(inputs, categories, statics), segment_ids=segment_ids)
        if self.readout == "every":
            return outputs
        before = jnp.pad(segment_ids[:, :-1], ((0, 0), (1, 0)), constant_values=-1)
        begins, place = segment_ids != before, jnp.arange(segment_ids.shape[1])[None]
        first = lax.cummax(jnp.where(begins, place, 0), axis=1)  # where the sequence of each step begins
        if self.readout == "last":
            forward = outputs[..., : self.rnn.output_size]
            back = jnp.take_along_axis(outputs[..., self.rnn.output_size :], first[..., None], axis=1)
            return jnp.concatenate([forward, back], axis=-1)

        def go_on(left: tuple[Array, Array], right: tuple[Array, Array]) -> tuple[Array, Array]:
            combine = jnp.add if self.readout == "mean" else jnp.maximum
            return left[0] | right[0], jnp.where(right[0], right[1], combine(left[1], right[1]))

        _, so_far = lax.associative_scan(go_on, (begins[..., None], outputs), axis=1)
        if self.readout == "mean":
            so_far = so_far / (place - first + 1)[..., None]
        return so_far

    def steps(
        self,
        inputs: Float[Array, "batch time inputs"],
        categories: Int[Array, "batch time columns"],
        statics: Float[Array, "batch time statics"],
    ) -> Float[Array, "batch time features"]:
        """Returns what the recurrent layer reads."""
        parts = [inputs] if inputs.shape[2] else []
        parts += [embedding(categories[:, :, i]) for i, embedding in enumerate(self.embeddings)]
        parts += [statics] if statics.shape[2] else []
        return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=-1)

    def _read(self, steps: Float[Array, "batch time features"], lengths: Int[Array, " batch"]) -> Array:
        if self.readout == "last":
            hidden = loops.hidden_of(self.rnn.final_state(steps, lengths=lengths))[-self.rnn.num_directions :]
            return jnp.concatenate(list(hidden), axis=-1)
        outputs, _ = self.rnn(steps, lengths=lengths)
        if self.readout == "every":
            return outputs
        if self.readout == "mean":  # outputs are 0 at padding
            return outputs.sum(axis=1) / jnp.maximum(lengths, 1)[:, None]
        counts = jnp.arange(steps.shape[1])[None] < lengths[:, None]
        highest = jnp.where(counts[:, :, None], outputs, -jnp.inf).max(axis=1)
        return jnp.where(lengths[:, None] > 0, highest, 0)
