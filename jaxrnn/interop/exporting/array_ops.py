"""The operations that exported programs are written in, and how JAX traces them."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn.foundation.array_types import Array
from jaxrnn.nn.engine import loops


@dataclasses.dataclass(frozen=True, eq=False)
class Member:
    """One model of an ensemble, or the only one: its arrays by PyTorch's names, and the module that JAX calls."""

    weights: dict[str, Any]
    module: Any


class ArrayOps:
    """The operations of an exported program on JAX's arrays.

    A program (`programs.py`) is written once, for any class with these methods; its values besides have arithmetic,
    comparisons of the same rank, ``&``, ``|``, ``~`` and ``abs``. Steps are axis 1 everywhere.
    """

    @staticmethod
    def cast(x: Any, dtype: Any) -> Any:
        return x.astype(dtype)

    @staticmethod
    def positions(x: Any) -> Any:
        """The numbers of the steps from 0, int64 (1, time)."""
        return jnp.arange(x.shape[1], dtype=jnp.int64)[None]

    @staticmethod
    def expand_like(x: Any, like: Any) -> Any:
        """Repeats a number, an array or a value to the sizes of another value; the type stays."""
        return jnp.broadcast_to(jnp.asarray(x), like.shape)

    @staticmethod
    def unsqueeze(x: Any, axis: int) -> Any:
        return jnp.expand_dims(x, axis)

    @staticmethod
    def squeeze(x: Any, axis: int) -> Any:
        return jnp.squeeze(x, axis)

    @staticmethod
    def reshape(x: Any, sizes: Sequence[int]) -> Any:
        """Gives all dimensions but the first, the batch, new sizes."""
        return x.reshape(x.shape[0], *sizes)

    @staticmethod
    def concat(parts: Sequence[Any], axis: int = -1) -> Any:
        return parts[0] if len(parts) == 1 else jnp.concatenate(list(parts), axis=axis)

    @staticmethod
    def columns(x: Any, start: int, stop: int) -> Any:
        """Cuts the last axis."""
        return x[..., start:stop]

    @staticmethod
    def where(condition: Any, x: Any, y: Any) -> Any:
        return jnp.where(condition, x, y)

    @staticmethod
    def is_nan(x: Any) -> Any:
        return jnp.isnan(x)

    @staticmethod
    def maximum(x: Any, y: Any) -> Any:
        return jnp.maximum(x, y)

    @staticmethod
    def minimum(x: Any, y: Any) -> Any:
        return jnp.minimum(x, y)

    @staticmethod
    def log(x: Any) -> Any:
        return jnp.log(x)

    @staticmethod
    def exp(x: Any) -> Any:
        return jnp.exp(x)

    @staticmethod
    def sin(x: Any) -> Any:
        return jnp.sin(x)

    @staticmethod
    def cos(x: Any) -> Any:
        return jnp.cos(x)

    @staticmethod
    def floor_divide(x: Any, by: int) -> Any:
        return x // by

    @staticmethod
    def modulo(x: Any, by: int) -> Any:
        return x % by

    @staticmethod
    def cumsum(x: Any) -> Any:
        return jnp.cumsum(x, axis=1)

    @staticmethod
    def sum(x: Any, axis: int) -> Any:
        return x.sum(axis=axis)

    @staticmethod
    def max(x: Any, axis: int) -> Any:
        return x.max(axis=axis)

    @staticmethod
    def softmax(x: Any) -> Any:
        return jax.nn.softmax(x, axis=-1)

    @staticmethod
    def sort(x: Any) -> Any:
        """Sorts the last axis, the least first."""
        return jnp.sort(x, axis=-1)

    @staticmethod
    def lookup(table: Any, codes: Any) -> Any:
        """Returns the rows of a table of these numbers."""
        return jnp.asarray(table)[codes]

    @staticmethod
    def pick_steps(x: Any, places: Any) -> Any:
        """Returns x[:, places], of places (1, number) that are the same in all rows."""
        return jnp.take(x, places[0], axis=1)

    @staticmethod
    def pick_each(x: Any, places: Any) -> Any:
        """Returns what stands at (batch, number, columns) places, each of its own row and column."""
        return jnp.take_along_axis(x, places, axis=1)

    @staticmethod
    def pick_one(x: Any, places: Any) -> Any:
        """Returns the step at one place of each row: (batch, columns)."""
        return jnp.take_along_axis(x, places[:, None, None], axis=1)[:, 0]

    @staticmethod
    def put_each(x: Any, places: Any, values: Any) -> Any:
        """Writes values to places as `pick_each` reads them; where places are equal any of the values stays."""
        rows, columns = jnp.arange(x.shape[0])[:, None, None], jnp.arange(x.shape[2])[None, None]
        return x.at[rows, places, columns].set(values)  # put_along_axis takes no symbolic sizes

    @staticmethod
    def repeat_steps(x: Any, like: Any) -> Any:
        """Returns (batch, columns) at every step of another value: (batch, time, columns)."""
        return jnp.broadcast_to(x[:, None], (*like.shape[:2], x.shape[1]))

    @staticmethod
    def linear(x: Any, member: Member) -> Any:
        """Returns what the head gives."""
        return x @ jnp.asarray(member.weights["linear.weight"].T) + jnp.asarray(member.weights["linear.bias"])

    @staticmethod
    def outputs(steps: Any, lengths: Any, member: Member) -> Any:
        """Returns the recurrent layer's outputs, 0 at padding."""
        return member.module.rnn(steps, lengths=lengths)[0]

    @staticmethod
    def last_state(steps: Any, lengths: Any, member: Member) -> Any:
        """Returns the last layer's state after the last step, both directions side by side."""
        rnn = member.module.rnn
        hidden: Array = loops.hidden_of(rnn.final_state(steps, lengths=lengths))
        return jnp.concatenate(list(hidden[-rnn.num_directions :]), axis=-1)
