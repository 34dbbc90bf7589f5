"""Trained models without training: drawn weights, normalisers, categories and classes, for the tests of exports."""

from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxrnn.data.encoding import ONE_NUMBER, Encoding
from jaxrnn.data.normalizer import Normalizer
from jaxrnn.data.scaling import Scaling
from jaxrnn.data.sequences import mark_of
from jaxrnn.data.series.series_encoding import SeriesEncoding
from jaxrnn.evaluation.trained_model import TrainedModel
from jaxrnn.models.model_state import new_model, split_model
from jaxrnn.settings.config import Config
from jaxrnn.settings.task_config import CALENDAR

WORDS = ("low", "mid", "high", "größer")


def scaling_of(names: tuple[str, ...], generator: np.random.Generator, *, marked: bool = False) -> Scaling:
    """Draws normalisers of columns; where they are marked, of the marks of missing values too."""
    names = (*names, *map(mark_of, names)) if marked else names
    return Scaling(names, tuple(Normalizer(generator.normal() * 10, generator.uniform(0.5, 5)) for _ in names))


def encoding_of(
    config: Config,
    generator: np.random.Generator,
    *,
    inputs: int = 2,
    categories: tuple[int, ...] = (3,),
    statics: int = 1,
    targets: int = 1,
    known: int = 0,
) -> Encoding:
    """Draws the encoding of a model: so many columns of each kind, and categories of so many texts."""
    task, is_marked = config.task, config.columns.missing == "mask"
    given: dict[str, Any] = {
        "inputs": scaling_of(tuple(f"x{number}" for number in range(inputs)), generator, marked=is_marked),
        "statics": scaling_of(tuple(f"s{number}" for number in range(statics)), generator),
        "categories": tuple((f"c{number}", WORDS[:size]) for number, size in enumerate(categories)),
    }
    if task.task in ("classify", "tag"):
        return Encoding(**given, classes=("no", "yes", "später"), class_counts=(1, 1, 1))
    names = tuple(f"y{number}" for number in range(targets))
    given |= {"targets": scaling_of(names, generator), "target_medians": (0.0,) * targets}
    given["target_means"] = (0.0,) * targets
    if task.task != "forecast":
        return Encoding(**given)
    return SeriesEncoding(
        **given,
        horizon=task.horizon,
        season=task.season or 1,
        known=scaling_of(tuple(f"k{number}" for number in range(known)), generator, marked=is_marked),
        calendar=task.calendar_names,
        scaling=task.scaling,
        transform=task.transform,
        is_marked=is_marked,
        levels=len(task.quantile_levels) if config.training.loss == "pinball" else 1,
        global_scales=tuple(generator.uniform(0.1, 0.5, targets)),
        first_scales=tuple(generator.uniform(0.1, 0.5, targets)),
    )


def make_model(settings: dict[str, Any], *, seed: int = 0, **columns: Any) -> TrainedModel:
    """Makes a model with drawn weights.

    Args:
      settings: Of its configuration; with task = next and no columns it reads rows of numbers.
      seed: Which draw.
      **columns: As `encoding_of` takes them.
    """
    config, generator = Config().replace_flat(settings), np.random.default_rng(seed)
    is_plain = config.task.task == "next" and not columns
    encoding = None if is_plain else encoding_of(config, generator, **columns)
    sizes = ONE_NUMBER if encoding is None else encoding.sizes
    _, params, other = split_model(new_model(config, nnx.Rngs(0), sizes))
    members = (config.training.ensemble,) if config.training.ensemble > 1 else ()
    # A state that the steps before change, biases that count; but no relu whose rounding errors grow from step to step.
    is_relu = config.model.cell == "rnn" and config.model.nonlinearity == "relu"
    width = (1 if is_relu else 2) / np.sqrt(config.model.hidden_size)
    params, other = (jax.tree.map(lambda leaf: np.zeros((*members, *leaf.shape), leaf.dtype), tree)
                     for tree in (params, other))  # fmt: skip
    params = jax.tree.map(lambda leaf: generator.uniform(-width, width, leaf.shape).astype(np.float32), params)
    return TrainedModel(config, Normalizer(3.0, 2.0), params, other, encoding=encoding)


def draw_settings(generator: np.random.Generator) -> tuple[dict[str, Any], dict[str, Any]]:
    """Draws a configuration, and the columns that its model reads."""

    def pick(*options: Any) -> Any:
        return options[int(generator.integers(len(options)))]

    task = pick("next", "next", "classify", "regress", "tag", "forecast")
    settings = {
        "task": task,
        "cell": pick("rnn", "lstm", "gru"),
        "hidden_size": pick(1, 3, 8),
        "num_layers": pick(1, 2, 3),
        "bias": pick(True, True, False),
        "ensemble": pick(1, 1, 3),
        "bidirectional": pick(True, False) if task in ("classify", "regress", "tag") else False,
    }
    if settings["cell"] == "rnn":
        settings["nonlinearity"] = pick("tanh", "relu")
    if task in ("classify", "regress"):
        settings["readout"] = pick("last", "mean", "max")
    columns = {
        "inputs": pick(1, 2, 5),
        "categories": pick((), (3,), (2, 4)),
        "statics": pick(0, 2),
        "targets": pick(1, 3),
    }
    if task == "next":
        return (settings, {}) if pick(True, False) else (settings | {"target_columns": "y0"}, columns)
    settings["missing"] = pick("error", "mask")
    if task == "forecast":
        columns |= {"inputs": pick(0, 2), "known": pick(0, 1)}
        settings |= {
            "horizon": pick(1, 5),
            "season": pick(1, 4, 7),
            "loss": pick("pinball", "mse"),
            "scaling": pick("series", "series", "global", "none"),
            "transform": pick("none", "none", "log"),
            "calendar": pick("", ",".join(CALENDAR)),
        }
    return settings, columns
