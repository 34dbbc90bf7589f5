"""The evaluation command once its arguments are parsed: restore, read, evaluate, report."""

from pathlib import Path

from jaxrnn import plots, reporting
from jaxrnn.config import ReaderConfig
from jaxrnn.data.complaints import naming
from jaxrnn.data.dataset import Dataset, is_dataset
from jaxrnn.data.loading import load_rows
from jaxrnn.data.ragged import Ragged
from jaxrnn.data.split import Split, count_shared_rows
from jaxrnn.errors import UserError
from jaxrnn.escaping import escape
from jaxrnn.fitting import draw_split
from jaxrnn.inference import Evaluation, TrainedModel
from jaxrnn.judgement import leakage_warning
from jaxrnn.reporting import say
from jaxrnn.run_directory import hash_file, to_json
from jaxrnn.stream_evaluation import evaluate_part


def evaluate(
    checkpoint: str,
    data: str | None,
    reader: ReaderConfig | None,
    *,
    as_json: bool,
    plots_dir: str | None,
) -> None:
    """Evaluates a checkpoint on a file, or on the test rows of its run, and prints the figures.

    Args:
      checkpoint: As `TrainedModel.load` takes it.
      data: A file, all of whose rows are evaluated; None for the run's own test rows.
      reader: How to read it; None for as in training.
      as_json: Print one JSON object.
      plots_dir: Where to draw predicted against actual and error by length; None for nowhere.

    Raises:
      UserError: Bad data, a bad checkpoint, or a data file that has changed since training.
    """
    model = TrainedModel.load(checkpoint)
    reader = reader or model.config.reader
    shared_rows = None
    own = open_own_dataset(model) if data is None else None
    prepared = own if data is None or not is_dataset(data) else Dataset(data)
    if prepared is not None:
        source = str(prepared.path)
        if own is None:
            _warn_of_training_data(model, source, prepared.sha256)
        else:
            shared_rows = {"validation": 0, "test": 0}  # the split keeps identical rows on one side
        with naming(source):
            found = evaluate_part(model, prepared.all_rows() if own is None else prepared.parts["test"])
        rows, num_rows, notes = found.sample, found.num_rows, found.notes()
        evaluation, baselines, judgement = found.evaluation, found.baselines, found.judgement
    else:
        if data is not None:
            rows, source = load_rows(data, reader, min_length=2), data
            _warn_of_training_file(model, data, rows)
        else:
            all_rows, split, source = load_own_rows(model, reader)
            rows = all_rows.take(split.test)
            shared_rows = dict(zip(("validation", "test"), count_shared_rows(all_rows, split), strict=True))
            warning = leakage_warning(shared_rows["validation"], shared_rows["test"])
            if warning:
                say(warning)
        with naming(source):
            evaluation = model.evaluate(rows)
        baselines = model.evaluate_baselines(rows)
        judgement = model.judge(rows, evaluation, baselines)
        num_rows, notes = len(rows), judgement.notes()
    if plots_dir is not None:
        _draw(evaluation, rows, Path(plots_dir))
    if as_json:
        result = {
            "checkpoint": checkpoint,
            "data": source,
            "rows": num_rows,
            "metrics": evaluation.figures,
            "baselines": baselines,
            "mae_interval": judgement.interval,
            "against_baselines": judgement.against_baselines,
            "accuracy_near_zero": judgement.near_zero,
        }
        if shared_rows is not None:
            result["shared_rows"] = shared_rows
        if model.num_members > 1:
            result["ensemble"] = {**evaluation.spread(), "members": evaluation.members}
        print(to_json(result))
        return
    which = "rows" if data is not None else "test rows"
    print(escape(f"{source}: {num_rows:,} {which}; checkpoint {checkpoint}, step {model.step}"))
    cell: str = model.config.model.cell
    figures = {cell: evaluation.figures}
    if model.num_members > 1:
        figures |= reporting.spread_rows(cell, evaluation.spread(), model.num_members)
    reporting.print_figures(
        figures,
        baselines,
        accuracy_epsilon=model.config.training.accuracy_epsilon,
        notes=notes,
    )


def load_own_rows(model: TrainedModel, reader: ReaderConfig) -> tuple[Ragged, Split, str]:
    """Reads the file that a model was trained on.

    Args:
      model: Of a run.
      reader: How to read it.

    Returns:
      All rows, their parts, and the file's path.

    Raises:
      UserError: There is no such file any more, or it has changed.
    """
    described = model.metadata["data"]
    if described is None:
        raise UserError("the checkpoint was converted, not trained here: it has no test rows; give a file with --data")
    path = described["path"]
    rows = load_rows(path, reader, min_length=2)
    if hash_file(path) != described["sha256"]:
        raise UserError(
            f"{path}: has changed since training (SHA-256 differs), so the run's test rows are gone; expected"
            f" {described['rows']} rows with SHA-256 {described['sha256'][:12]}..; give a file with --data"
        )
    return rows, draw_split(model.config, rows), path


def open_own_dataset(model: TrainedModel) -> Dataset | None:
    """Opens the prepared data set that a model was trained on; None if it was trained on a file.

    Raises:
      UserError: It has changed, or is damaged.
    """
    described = model.metadata["data"]
    if described is None or not is_dataset(described["path"]):
        return None
    dataset = Dataset(described["path"])
    if dataset.sha256 != described["sha256"]:
        raise UserError(
            f"{dataset.path}: is another data set than the run was trained on (SHA-256 differs), so the run's test"
            " rows are gone; give the data with --data"
        )
    return dataset


def _warn_of_training_file(model: TrainedModel, path: str, rows: Ragged) -> None:
    described = model.metadata["data"]
    if described is None or (described["rows"], described["values"]) != (len(rows), rows.num_values):
        return  # another file: its hash would only cost time
    if Path(path).is_file():
        _warn_of_training_data(model, path, hash_file(path))


def _warn_of_training_data(model: TrainedModel, path: str, sha256: str) -> None:
    described = model.metadata["data"]
    if described is not None and described["sha256"] == sha256:
        say(
            f"warning: {path} is the data that the model was trained on, and its training rows are evaluated too: the"
            " figures below flatter the model; leave --data out to evaluate the run's test rows alone"
        )


def _draw(evaluation: Evaluation, rows: Ragged, directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        plots.plot_predictions(evaluation.actual, evaluation.predicted, directory / "predictions.png")
        plots.plot_error_by_length(rows, evaluation.actual, evaluation.predicted, directory / "error_by_length.png")
    except OSError as error:
        raise UserError(f"--plots: cannot write to {directory}: {error.strerror}") from error
    say(f"wrote {directory / 'predictions.png'} and {directory / 'error_by_length.png'}")
