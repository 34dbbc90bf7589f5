"""The evaluation command once its arguments are parsed: restore, read, evaluate, report."""

import dataclasses
from pathlib import Path
from typing import Any

from jaxrnn.commands.part_results import PartResult, Rows, measure_part, print_figures, spread_rows
from jaxrnn.data.ragged import Ragged
from jaxrnn.data.readers.complaints import naming
from jaxrnn.data.readers.loading import load_hashed_rows, load_rows
from jaxrnn.data.sequence_parts import shares_of
from jaxrnn.data.store.dataset import Dataset, is_dataset
from jaxrnn.data.store.sharded_rows import ShardedRows
from jaxrnn.evaluation.loading import locate
from jaxrnn.evaluation.own_rows import open_own_rows
from jaxrnn.evaluation.own_sequences import open_sequences
from jaxrnn.evaluation.pictures import plots
from jaxrnn.evaluation.pictures.task_plots import draw_task
from jaxrnn.evaluation.sequence_evaluation import SequenceEvaluation
from jaxrnn.evaluation.trained_model import TrainedModel
from jaxrnn.foundation.errors import UserError
from jaxrnn.foundation.escaping import escape
from jaxrnn.foundation.files import to_json
from jaxrnn.foundation.messages import say
from jaxrnn.settings.checking import require
from jaxrnn.settings.config import Config
from jaxrnn.settings.data_config import ReaderConfig
from jaxrnn.tasks.judgement import leakage_warning, overlap_warning

MAX_MEMBERS_SHOWN = 8


def evaluate(
    checkpoint: str,
    data: str | None,
    reader: ReaderConfig | None,
    *,
    given: dict[str, Any],
    as_json: bool,
    plots_dir: str | None,
    origins: int | None = None,
) -> None:
    """Evaluates a checkpoint on a file, or on the test rows of its run, and prints the figures.

    Args:
      checkpoint: As `TrainedModel.load` takes it.
      data: A file, all of whose rows are evaluated; None for the run's own test rows.
      reader: How to read it, with task = next; None for as in training.
      given: Settings of columns and files that take the place of the run's, by name.
      as_json: Print one JSON object.
      plots_dir: Where to draw predicted against actual and error by length; None for nowhere.
      origins: With task = forecast, from how many steps of each series to forecast; None for as many as the run tests.

    Raises:
      UserError: Bad data, a bad checkpoint, or a data file that has changed since training.
    """
    model = TrainedModel.load(checkpoint)
    if model.encoding is not None:
        model = dataclasses.replace(model, config=model.config.replace_flat(dict(given)))
    reader = reader or model.config.reader
    is_forecast = model.config.task.task == "forecast"
    expected = f"none with task = {model.config.task.task}"
    require(is_forecast or origins is None, "origins", origins, expected)
    require(origins is None or origins >= 1, "origins", origins, "1 or more")
    shared: tuple[int, int] | None = None
    overlapping = (0, 0)
    rows: Rows
    if model.encoding is not None:
        opened = open_sequences(model, data, given)
        rows, source, shared, overlapping = opened.sequences, opened.path, opened.shared, opened.overlapping
    elif data is None:
        rows, _, shared, source = open_own_rows(model, reader)
    else:
        rows, source = _open(data, reader, model), data
    reached = _trained_origins_warning(model.config, origins) if data is None else ""
    for warning in (leakage_warning(*shared) if shared else "", overlap_warning(*overlapping), reached):
        if warning:
            say(warning)
    with naming(source):
        found = measure_part(model, rows, origins=origins)
    evaluation, baselines = found.evaluation, found.baselines
    if plots_dir is not None:
        _draw(found, model, Path(plots_dir))
    if as_json:
        result = {
            "checkpoint": checkpoint,
            "data": source,
            "rows": found.num_rows,
            "metrics": evaluation.figures,
            "baselines": baselines,
            **found.entries,
            **found.details,
        }
        if model.config.task.task == "next":
            result["mae_interval"] = result.pop("interval")
        if shared is not None:
            result["shared_rows"] = dict(zip(("validation", "test"), shared, strict=True))
        if shared is not None and model.encoding is not None:
            result["overlapping_rows"] = dict(zip(("validation", "test"), overlapping, strict=True))
        if model.num_members > 1:
            result["ensemble"] = {**evaluation.spread(), "members": evaluation.members}
        print(to_json(result))
        return
    which = "rows" if data is not None else "test rows"
    of_epoch = _describe_epoch(model, checkpoint)
    print(escape(f"{source}: {found.num_rows:,} {which}; checkpoint {checkpoint}, step {model.step}{of_epoch}"))
    cell: str = model.config.model.cell
    figures = {cell: evaluation.figures}
    if model.num_members > 1:
        figures |= spread_rows(cell, evaluation.spread(), model.num_members)
    print_figures(figures, baselines, found.notes)


def _describe_epoch(model: TrainedModel, checkpoint: str) -> str:
    """Says which epoch the parameters are of; nothing of a converted model."""
    epoch, best = model.metadata.get("epoch"), model.metadata.get("best_epoch", 0)
    if epoch is None:
        return ""
    *_, chosen = locate(checkpoint)
    members = best if isinstance(best, list) else [best]
    if chosen == "params" or not all(members):  # without a best epoch the last parameters are used, and that is said
        return f" (epoch {epoch})"
    each = ", ".join(map(str, members[:MAX_MEMBERS_SHOWN])) + ", .." * (len(members) > MAX_MEMBERS_SHOWN)
    return f" (best epoch{'s' * (len(members) > 1)} {each} of {epoch})"


def _open(data: str, reader: ReaderConfig, model: TrainedModel) -> Ragged | ShardedRows:
    """Opens what the user names; warns where it is the data that the model was trained on."""
    if is_dataset(data):
        dataset = Dataset(data)
        if dataset.sequences is not None:
            raise UserError(f"--data: {escape(data)} holds sequences; expected rows of numbers, which the model reads")
        _warn_of_training_data(model, data, dataset.sha256)
        return dataset.all_rows()
    if data == "-":
        return load_rows(data, reader, min_length=2)
    rows, sha256 = load_hashed_rows(data, reader, min_length=2)
    _warn_of_training_data(model, data, sha256)
    return rows


def _trained_origins_warning(config: Config, origins: int | None) -> str:
    """Returns a line where forecasts start before the steps that a run has held out at the ends of its series."""
    is_apart = config.data.split != "time" or not shares_of(config.data).test  # then the test series have a file
    more = 0 if origins is None or is_apart else origins - config.task.origins
    if more <= 0:
        return ""
    return (
        f"warning: forecasts from {more} of {origins} origins reach steps that the model was trained on: the figures"
        f" below flatter it; train with --origins={origins} to hold these steps out"
    )


def _warn_of_training_data(model: TrainedModel, path: str, sha256: str) -> None:
    described = model.metadata["data"]
    if described is not None and described["sha256"] == sha256:
        say(
            f"warning: {path} is the data that the model was trained on, and its training rows are evaluated too: the"
            " figures below flatter the model; leave --data out to evaluate the run's test rows alone"
        )


def _draw(found: PartResult, model: TrainedModel, directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if isinstance(found.evaluation, SequenceEvaluation):
            drawn = draw_task(found.evaluation, model, directory)
        else:
            drawn = _draw_values(found, directory)
    except OSError as error:
        raise UserError(f"--plots: cannot write to {directory}: {error.strerror}") from error
    say(f"wrote {' and '.join(map(str, drawn))}")


def _draw_values(found: PartResult, directory: Path) -> list[Path]:
    assert found.sampled is not None
    evaluation, rows = found.sampled.evaluation, found.sampled.sample
    drawn = [directory / "predictions.png", directory / "error_by_length.png"]
    plots.plot_predictions(evaluation.actual, evaluation.predicted, drawn[0])
    plots.plot_error_by_length(rows, evaluation.actual, evaluation.predicted, drawn[1])
    return drawn
