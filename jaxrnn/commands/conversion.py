"""The commands that convert and export once their arguments are parsed: from PyTorch's weights, and to other forms."""

import dataclasses
import re
import shlex
from pathlib import Path
from typing import Literal

import numpy as np
from flax import nnx

from jaxrnn.data.normalizer import Normalizer
from jaxrnn.evaluation.saving import save_model
from jaxrnn.evaluation.trained_model import TrainedModel
from jaxrnn.foundation.array_types import StateDict
from jaxrnn.foundation.errors import UserError
from jaxrnn.foundation.escaping import escape, shorten
from jaxrnn.foundation.files import to_json, write_atomically
from jaxrnn.foundation.messages import say
from jaxrnn.interop.exporting.checking import check
from jaxrnn.interop.exporting.onnx_graph import onnx
from jaxrnn.interop.exporting.onnx_model import OnnxRunner, to_onnx
from jaxrnn.interop.exporting.signature import Port, signature_of
from jaxrnn.interop.exporting.stablehlo import StableHloRunner, to_stablehlo
from jaxrnn.interop.torch import load_torch_state_dict, to_torch_state_dict
from jaxrnn.interop.weight_files import SUFFIXES, read_state_dict, write_state_dict
from jaxrnn.models.model_state import split_model
from jaxrnn.models.next_value import build_model
from jaxrnn.settings.config import Config

_RECURRENT_NAME = re.compile(
    r"(?P<prefix>.*?)(?P<name>(weight|bias)_(ih|hh|hr)_l(?P<layer>\d+)(?P<reverse>_reverse)?)$"
)
MOST_NAMED = 6
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


def to_torch(checkpoint: str, out: str, *, member: int | None = None, describe: bool = False) -> None:
    """Writes the weights of a checkpoint as a PyTorch state dict of a module with parts `rnn` and `linear`.

    A model that reads categories has parts `embeddings.0` and so on too.

    Args:
      checkpoint: As `TrainedModel.load` takes it.
      out: As `write_state_dict` takes it.
      member: Which of an ensemble's models, counted from 0.
      describe: Write OUT.json beside it: sizes, columns, what is subtracted and divided by, classes.

    Raises:
      UserError: A bad checkpoint, a file that cannot be written, or an ensemble without `member`.
    """
    files = _require_new(out, f"{out}.json") if describe else _require_new(out)
    trained = TrainedModel.load(checkpoint)
    if trained.num_members > 1 or member is not None:
        trained = _member_of(trained, member, checkpoint)
    weights = to_torch_state_dict(trained.model)
    write_state_dict(out, weights)
    settings, encoding = trained.config.model, trained.encoding
    if describe:
        network = {**dataclasses.asdict(settings), **dataclasses.asdict(trained.config.task)}
        scalings = {"normalizer": dataclasses.asdict(trained.normalizer)} if encoding is None else {}
        content = {**signature_of(trained, has_texts=False).to_json(), "network": network, **scalings}
        if encoding is not None:
            content["encoding"] = encoding.to_json()
        write_atomically(Path(files[1]), to_json(content, indent=1, ensure_ascii=False))
    num_outputs, num_features = weights["linear.weight"].shape
    parts = [f"embeddings.{number} = torch.nn.Embedding{weights[f'embeddings.{number}.weight'].shape}"
             for number in range(len(encoding.categories) if encoding is not None else 0)]  # fmt: skip
    parts += [f"rnn = {_torch_constructor(trained.config, weights['rnn.weight_ih_l0'].shape[1])}"]
    of_values = f", for values normalised by (x - {trained.normalizer.offset!r}) / {trained.normalizer.scale!r}"
    print(
        f"wrote {' and '.join(map(escape, files))}: a module with {', '.join(parts)} and linear ="
        f" torch.nn.Linear({num_features}, {num_outputs}){of_values if encoding is None else ''}"
    )


def export(
    checkpoint: str,
    out: str,
    *,
    format: Literal["onnx", "stablehlo"],
    codes: bool = False,
    member: int | None = None,
    tolerance: float = 1e-5,
) -> None:
    """Writes a model with all that it does to its inputs and outputs, once it agrees with the model itself.

    Args:
      checkpoint: As `TrainedModel.load` takes it.
      out: A new file; with format = stablehlo OUT.json, which says what the program takes and gives, is written too.
      format: "onnx" or "stablehlo".
      codes: Let categories go in, and classes come out, as codes, as StableHLO does always.
      member: Which of an ensemble's models, counted from 0; None for all.
      tolerance: The difference from the model's own predictions that is allowed.

    Raises:
      UserError: A bad checkpoint, a file that cannot be written, a missing package, a model that the format cannot
        hold, or one that differs by more once it is exported.
    """
    is_onnx = format == "onnx"
    files = _require_new(out) if is_onnx else _require_new(out, f"{out}.json")
    if is_onnx:
        onnx()  # says what to install before anything is read
    trained = TrainedModel.load(checkpoint)
    if member is not None:
        trained = _member_of(trained, member, checkpoint)
    content = to_onnx(trained, codes=codes) if is_onnx else to_stablehlo(trained)
    given = signature_of(trained, has_texts=is_onnx and not codes)
    try:
        run = OnnxRunner(content) if is_onnx else StableHloRunner(content)
        checked = check(trained, run, codes=codes or not is_onnx, tolerance=tolerance)
        said = (
            f"checked on {checked.sequences} random sequences: it differs from the model's own predictions by"
            f" {checked.difference:.1e} at most"
        )
    except ImportError:
        said = "not checked, since onnxruntime is missing: python -m pip install onnxruntime"
    write_atomically(Path(out), content)
    if not is_onnx:
        write_atomically(Path(files[1]), to_json(given.to_json(), indent=1, ensure_ascii=False))
    print(f"wrote {' and '.join(map(escape, files))}: task {given.task}")
    for side, ports in (("inputs", given.inputs), ("outputs", given.outputs)):
        print(f"{side}: {'; '.join(map(_described, ports))}")
    print(said)


def _described(port: Port) -> str:
    names = ", ".join(escape(shorten(name, 40)) for name in port.columns[:MOST_NAMED])
    columns = f" of {names}" if names else ""
    more = f" and {len(port.columns) - MOST_NAMED} more" if len(port.columns) > MOST_NAMED else ""
    return f"{port.name} {port.kind} ({', '.join(map(str, port.dims))}){columns}{more}"


def _require_new(*files: str) -> tuple[str, ...]:
    for file in files:
        if Path(file).exists():
            raise UserError(f"--out: {file} is there already and is never overwritten; name another file")
        if not Path(file).parent.is_dir():
            raise UserError(f"--out: {Path(file).parent}: no such directory; make it first")
    return files


def _member_of(trained: TrainedModel, member: int | None, checkpoint: str) -> TrainedModel:
    if trained.num_members == 1:
        raise UserError(f"--member: got {member}; expected none: {checkpoint} holds one model")
    return trained.member(_chosen_member(member, trained, checkpoint))


def _chosen_member(member: int | None, trained: TrainedModel, checkpoint: str) -> int:
    if member is None or not 0 <= member < trained.num_members:
        raise UserError(
            f"--member: got {'none' if member is None else member}; {checkpoint} is an ensemble: expected which one to"
            f" convert, 0 to {trained.num_members - 1}"
        )
    return member


def _torch_constructor(config: Config, input_size: int) -> str:
    """Returns the call that makes the same layer in PyTorch; what is left out has PyTorch's default."""
    model = config.model
    kind = "RNN" if model.cell == "rnn" else model.cell.upper()
    options = {
        "num_layers": (model.num_layers, 1),
        "nonlinearity": (model.nonlinearity if model.cell == "rnn" else "tanh", "tanh"),
        "bias": (model.bias, True),
        "bidirectional": (config.task.bidirectional, False),
        "proj_size": (model.proj_size, 0),
    }
    given = [f"{name}={value!r}" for name, (value, default) in options.items() if value != default]
    return f"torch.nn.{kind}({', '.join([str(input_size), str(model.hidden_size), *given, 'batch_first=True'])})"


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
