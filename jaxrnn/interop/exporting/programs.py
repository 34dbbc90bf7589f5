"""What an exported model computes, from the data's units to the data's units: written once, for every format."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxrnn.data.encoding import Encoding
from jaxrnn.data.normalizer import Normalizer
from jaxrnn.data.scaling import Scaling
from jaxrnn.data.sequences import mark_of
from jaxrnn.data.series.series_encoding import SeriesEncoding
from jaxrnn.evaluation.trained_model import TrainedModel
from jaxrnn.foundation.errors import UserError
from jaxrnn.interop.exporting import network, series_program, signature
from jaxrnn.interop.exporting.array_ops import Member
from jaxrnn.interop.exporting.signature import unmarked
from jaxrnn.interop.torch import to_torch_state_dict

MAX_BYTES = 2**31  # what both formats of files hold


def members_of(model: TrainedModel, format: str) -> list[Member]:
    """Returns the models whose mean predicts.

    Raises:
      UserError: They have more weights than a file of the format holds.
    """
    held = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(model.params))
    if held >= MAX_BYTES:
        raise UserError(
            f"--format={format}: got {held / 2**30:.1f} GiB of weights; expected less than 2 GiB, what such a file"
            " holds; give --format=torch"
        )
    modules: list[Any] = [model.member(index).model for index in range(model.num_members)]
    return [Member(to_torch_state_dict(module), module) for module in modules]


def run(ops: Any, model: TrainedModel, members: Sequence[Member], given: Mapping[str, Any]) -> dict[str, Any]:
    """Computes a model's outputs by the names of its signature.

    Args:
      ops: The operations of a format, as `ArrayOps` has them.
      model: The model.
      members: Its members.
      given: Its inputs by name; categories as codes.

    Returns:
      The outputs by name, without texts.
    """
    encoding = model.encoding
    if isinstance(encoding, SeriesEncoding):
        return {
            signature.FORECASTS: series_program.forecast(ops, encoding, members, _encode(ops, model, encoding, given))
        }
    each: list[Any] = []
    for member in members:
        if encoding is None:
            targets = Scaling(("value",), (model.normalizer,))
            steps = _normalize(ops, ops.unsqueeze(given[signature.VALUES], 2), [model.normalizer])
            outputs = ops.linear(ops.last_state(steps, given[signature.LENGTHS], member), member)
        else:
            targets = encoding.targets
            outputs = _read(ops, model, member, _encode(ops, model, encoding, given))
        wide = ops.cast(outputs, np.float64)
        each.append(ops.softmax(wide) if model.classes else wide * targets.scales + targets.offsets)
    mean = network.mean(each)
    return {signature.PROBABILITIES if model.classes else signature.PREDICTED: mean}


def _encode(ops: Any, model: TrainedModel, encoding: Encoding, given: Mapping[str, Any]) -> dict[str, Any]:
    """Normalises numbers; categories, lengths, times and the values of series stay as they are."""
    encoded = dict(given)
    numbers = {signature.INPUTS: encoding.inputs, signature.STATICS: encoding.statics}
    if isinstance(encoding, SeriesEncoding):
        numbers[signature.KNOWN] = encoding.known
    for name, scaling in numbers.items():
        if name not in given:
            continue
        values = given[name]
        if model.config.columns.missing == "forward" and name != signature.STATICS:
            values = network.fill_forward(ops, values, ~ops.is_nan(values))
        encoded[name] = _normalize(ops, _marked(ops, values, scaling.names), scaling.normalizers)
    return encoded


def _marked(ops: Any, values: Any, names: tuple[str, ...]) -> Any:
    """Puts marks of missing values beside them, where training had such; these values are then 0."""
    plain = unmarked(names)
    if plain == names:
        return values
    is_missing = ops.is_nan(values)
    filled, marks = ops.where(is_missing, np.float64(0), values), ops.cast(is_missing, np.float64)
    parts = []
    for name in names:
        source, column = (filled, name) if name in plain else (marks, _marked_by(name, plain))
        place = plain.index(column)
        parts.append(ops.columns(source, place, place + 1))
    return ops.concat(parts)


def _marked_by(mark: str, names: tuple[str, ...]) -> str:
    return next(name for name in names if mark_of(name) == mark)


def _normalize(ops: Any, values: Any, normalizers: Sequence[Normalizer]) -> Any:
    """Normalises the last axis in float64, as training data is, and hands on what float32 holds of it."""
    offsets = np.array([one.offset for one in normalizers])
    scales = np.array([one.scale for one in normalizers])
    return ops.cast((values - offsets) / scales, np.float32)


def _read(ops: Any, model: TrainedModel, member: Member, encoded: Mapping[str, Any]) -> Any:
    """Returns what the head gives for sequences, or for their steps."""
    lengths, task = encoded[signature.LENGTHS], model.config.task
    steps = network.read_steps(ops, member, encoded, encoded.get(signature.INPUTS))
    readout = "every" if task.task == "tag" else task.readout
    if readout == "last":
        return ops.linear(ops.last_state(steps, lengths, member), member)
    outputs = ops.outputs(steps, lengths, member)
    if readout == "every":
        return ops.linear(outputs, member)
    if readout == "mean":
        counts = ops.cast(ops.maximum(lengths, np.int64(1)), np.float32)
        return ops.linear(ops.sum(outputs, 1) / ops.unsqueeze(counts, 1), member)
    counts = ops.positions(outputs) < ops.unsqueeze(lengths, 1)
    highest = ops.max(ops.where(ops.unsqueeze(counts, 2), outputs, np.float32(-math.inf)), 1)
    return ops.linear(ops.where(ops.unsqueeze(lengths, 1) > np.int64(0), highest, np.float32(0)), member)
