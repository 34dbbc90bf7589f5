"""The conversion command once its arguments are parsed: PyTorch's weights to a checkpoint, and back."""

import re
import shlex
from pathlib import Path

import numpy as np
from flax import nnx

from jaxrnn.data.normalizer import Normalizer
from jaxrnn.evaluation.saving import save_model
from jaxrnn.evaluation.trained_model import TrainedModel
from jaxrnn.foundation.array_types import StateDict
from jaxrnn.foundation.errors import UserError
from jaxrnn.foundation.escaping import escape
from jaxrnn.foundation.messages import say
from jaxrnn.interop.torch import load_torch_state_dict, to_torch_state_dict
from jaxrnn.interop.weight_files import SUFFIXES, read_state_dict, write_state_dict
from jaxrnn.models.model_state import split_model
from jaxrnn.models.next_value import build_model
from jaxrnn.settings.config import Config, ModelConfig

_RECURRENT_NAME = re.compile(
    r"(?P<prefix>.*?)(?P<name>(weight|bias)_(ih|hh|hr)_l(?P<layer>\d+)(?P<reverse>_reverse)?)$"
)
_CELL_BY_NUM_GATES = {1: "rnn", 3: "gru", 4: "lstm"}


def from_torch(path: str, out: str, *, nonlinearity: str | None, normalizer: Normalizer) -> None:
    """Writes a run directory that eval and predict accept, from the weights of a recurrent layer and a linear head.

    Args:
      path: As `read_state_dict` takes it.
      out: A run directory, new.
      nonlinearity: Activation of a plain RNN, which its weights do not tell; tanh if None.
      normalizer: What the data went through before the PyTorch model saw it.

    Raises:
      UserError: The weights are not those of such a model.
    """
    if Path(out).suffix in SUFFIXES:
        raise UserError(f"--out: got {out}; expected a directory: {path} is a file of weights already")
    if Path(out).exists():
        raise UserError(f"--out: {out} is there already and is never overwritten; name another directory")
    if not (np.isfinite(normalizer.scale) and np.isfinite(normalizer.offset) and normalizer.scale):
        raise UserError(
            f"--offset, --scale: got {normalizer.offset}, {normalizer.scale}; expected finite numbers, --scale not 0"
        )
    weights, settings = recognize(read_state_dict(path), path)
    bad = [name for name, array in weights.items() if not np.isfinite(array).all()]
    if bad:
        raise UserError(f"{path}: {', '.join(bad)}: got NaN or infinite numbers; expected finite ones")
    if settings["cell"] == "rnn":
        settings["nonlinearity"] = nonlinearity or "tanh"
        if nonlinearity is None:
            say("nonlinearity: tanh, torch.nn.RNN's default; weights do not tell: --nonlinearity=relu if it was that")
    elif nonlinearity is not None:
        raise UserError(f"--nonlinearity: got {nonlinearity}; expected none: {path} holds a {settings['cell']}")
    config = Config().replace_flat(settings)
    model = build_model(config.model, nnx.Rngs(0))
    try:
        load_torch_state_dict(model, weights)
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f"{path}: {error.args[0]}") from error
    _, params, other = split_model(model)
    run_dir = save_model(out, config, normalizer, params, other)
    described = ", ".join(f"{key} {value}" for key, value in settings.items())
    written = escape(str(run_dir.path))
    print(f"wrote {written}: {described}; try  python -m jaxrnn.predict --checkpoint={shlex.quote(written)}")


def to_torch(checkpoint: str, out: str, *, member: int | None = None) -> None:
    """Writes the weights of a checkpoint as a PyTorch state dict of a module with parts `rnn` and `linear`.

    Args:
      checkpoint: As `TrainedModel.load` takes it.
      out: As `write_state_dict` takes it.
      member: Which of an ensemble's models, counted from 0.

    Raises:
      UserError: A bad checkpoint, a file that cannot be written, or an ensemble without `member`.
    """
    if Path(out).exists():
        raise UserError(f"--out: {out} is there already and is never overwritten; name another file")
    trained = TrainedModel.load(checkpoint)
    if trained.encoding is not None:
        raise UserError(
            f"{checkpoint}: reads sequences, with task = {trained.config.task.task}; expected a model of next values;"
            " jaxrnn.to_torch_state_dict(model.model.rnn) gives the recurrent layer's weights of others"
        )
    if trained.num_members > 1:
        trained = trained.member(_chosen_member(member, trained, checkpoint))
    elif member is not None:
        raise UserError(f"--member: got {member}; expected none: {checkpoint} holds one model")
    write_state_dict(out, to_torch_state_dict(trained.model))
    normalizer, settings = trained.normalizer, trained.config.model
    print(
        f"wrote {escape(out)}: a module with rnn = {_torch_constructor(settings)} and linear ="
        f" torch.nn.Linear({settings.proj_size or settings.hidden_size}, 1), for values normalised by"
        f" (x - {normalizer.offset!r}) / {normalizer.scale!r}"
    )


def _chosen_member(member: int | None, trained: TrainedModel, checkpoint: str) -> int:
    if member is None or not 0 <= member < trained.num_members:
        raise UserError(
            f"--member: got {'none' if member is None else member}; {checkpoint} is an ensemble: expected which one to"
            f" convert, 0 to {trained.num_members - 1}"
        )
    return member


def _torch_constructor(model: ModelConfig) -> str:
    """Returns the call that makes the same layer in PyTorch; what is left out has PyTorch's default."""
    kind = "RNN" if model.cell == "rnn" else model.cell.upper()
    options = {
        "num_layers": (model.num_layers, 1),
        "nonlinearity": (model.nonlinearity if model.cell == "rnn" else "tanh", "tanh"),
        "bias": (model.bias, True),
        "proj_size": (model.proj_size, 0),
    }
    given = [f"{name}={value!r}" for name, (value, default) in options.items() if value != default]
    return f"torch.nn.{kind}({', '.join(['1', str(model.hidden_size), *given, 'batch_first=True'])})"


def recognize(mapping: StateDict, path: str) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    """Tells from names and shapes which network a state dict belongs to.

    Args:
      mapping: Arrays by PyTorch's names, below any prefix: ``rnn.weight_ih_l0``, ``model.lstm.weight_ih_l0``.
      path: What messages call it.

    Returns:
      The arrays under this project's names, and the fields of `ModelConfig`.

    Raises:
      UserError: It is no recurrent layer with a linear head to one value, or one that reads several features or both
        directions.
    """
    matches = {key: match for key in mapping if (match := _RECURRENT_NAME.match(key))}
    prefixes = sorted({match["prefix"] for match in matches.values()})
    if len(prefixes) != 1:
        found = f"recurrent layers {', '.join(prefixes)}" if prefixes else f"keys {', '.join(sorted(mapping))}"
        raise UserError(f"{path}: got {found}; expected the weights of one torch.nn.RNN, LSTM or GRU and a Linear")
    if any(match["reverse"] for match in matches.values()):
        raise UserError(
            f"{path}: got a bidirectional layer; expected one direction: it would see what it is to predict"
        )
    weights = {f"rnn.{match['name']}": np.asarray(mapping[key]) for key, match in matches.items()}
    for name in ("weight_ih_l0", "weight_hh_l0"):
        if f"rnn.{name}" not in weights or weights[f"rnn.{name}"].ndim != 2:
            raise UserError(f"{path}: {prefixes[0]}{name}: is missing or not a matrix")
    gates, input_size = weights["rnn.weight_ih_l0"].shape
    projection = weights.get("rnn.weight_hr_l0")
    hidden_size = weights["rnn.weight_hh_l0"].shape[1] if projection is None else projection.shape[1]
    cell = _CELL_BY_NUM_GATES.get(gates // hidden_size) if gates % hidden_size == 0 else None
    if cell is None:
        raise UserError(
            f"{path}: weight_ih_l0 has {gates} rows for {hidden_size} hidden units; expected 1, 3 or 4 times"
        )
    if input_size != 1:
        raise UserError(f"{path}: got input_size {input_size}; expected 1: rows of single numbers")
    features = hidden_size if projection is None else projection.shape[0]
    weights |= _head({key: value for key, value in mapping.items() if key not in matches}, features, path)
    return weights, {
        "cell": cell,
        "hidden_size": hidden_size,
        "num_layers": 1 + max(int(match["layer"]) for match in matches.values()),
        "bias": "rnn.bias_ih_l0" in weights,
        "proj_size": 0 if projection is None else features,
    }


def _head(rest: StateDict, features: int, path: str) -> dict[str, np.ndarray]:
    matrices = [key for key in rest if key.rpartition(".")[2] == "weight"]
    if len(matrices) != 1 or rest[matrices[0]].shape != (1, features):
        found = ", ".join(f"{key} {rest[key].shape}" for key in sorted(rest)) or "nothing"
        raise UserError(
            f"{path}: beside the recurrent layer got {found}; expected a Linear's weight (1, {features}), bias (1,)"
        )
    bias_name = matrices[0].removesuffix("weight") + "bias"
    unexpected = sorted(set(rest) - {matrices[0], bias_name})
    if unexpected:
        raise UserError(f"{path}: unexpected keys: {', '.join(unexpected)}; expected a recurrent layer and one Linear")
    weight = np.asarray(rest[matrices[0]])
    return {"linear.weight": weight, "linear.bias": np.asarray(rest.get(bias_name, np.zeros(1, weight.dtype)))}
