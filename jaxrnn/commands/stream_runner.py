"""The training command on a prepared data set: as `runner.train`, with rows that stay on the disk."""

import contextlib
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxrnn.commands.banner import print_devices
from jaxrnn.commands.runner import write_report
from jaxrnn.console.tables import parameter_table, table
from jaxrnn.data.readers.complaints import naming
from jaxrnn.data.store.dataset import Dataset
from jaxrnn.evaluation.part_evaluation import evaluate_figures, evaluate_part
from jaxrnn.evaluation.trained_model import TrainedModel
from jaxrnn.foundation.errors import UserError
from jaxrnn.foundation.escaping import escape
from jaxrnn.foundation.messages import say
from jaxrnn.parallel import hosts
from jaxrnn.runs.checkpoint import named_leaves
from jaxrnn.runs.run_directory import RunDirectory
from jaxrnn.runs.run_origin import check_same_data
from jaxrnn.runs.scalar_log import require_tensorboard
from jaxrnn.settings.config import Config
from jaxrnn.training.compilation import CompilationCounter
from jaxrnn.training.run_opening import may_train, open_checkpoints, open_scalars, take_over
from jaxrnn.training.stream_fitting import StreamData, StreamFit, build_stream_trainer, open_data, restore_progress


def train(config: Config, run_dir: RunDirectory, *, resume: bool, begin: float) -> None:
    """Trains a model on a prepared data set and writes its run directory; arguments and errors as `runner.train`'s."""
    if config.training.tensorboard:
        require_tensorboard()
    run_dir.is_written = hosts.is_main()
    with hosts.session(), contextlib.ExitStack() as stack:
        with hosts.all_or_none():
            config, dataset = _open(config)
        if resume:
            take_over(config, run_dir, stack)
        description = describe(dataset)
        compilations = stack.enter_context(CompilationCounter())
        with hosts.all_or_none(), naming(config.data.data):
            if resume:
                check_same_data(description, run_dir)
            data = open_data(config, dataset)
            trainer = build_stream_trainer(config, data)
        checkpointer = open_checkpoints(config, run_dir, stack, description, resume=resume)
        fit = StreamFit(
            trainer, data, run_dir=run_dir, data_description=description, **restore_progress(trainer, checkpointer)
        )
        if not may_train(fit, description, resume=resume):
            return
        print_banner(config, data, fit.state.params)
        say(f"run directory: {escape(str(run_dir.path))}")
        if resume:
            within = f" and {fit.super_batches / data.training.per_epoch:.0%} of the next"
            say(f"going on after epoch {fit.epoch}" + within * bool(fit.super_batches))
        with open_scalars(config, run_dir) as fit.scalars:
            compiled_before = compilations.seconds
            fit.run(checkpointer)
            fit.seconds = max(fit.seconds - (compilations.seconds - compiled_before), 0.0)
        model = fit.best_model()  # its arrays come from all processes
        if hosts.is_main():
            _report(fit, model, run_dir, compilations, begin=begin)


def _report(
    fit: StreamFit, model: TrainedModel, run_dir: RunDirectory, compilations: CompilationCounter, *, begin: float
) -> None:
    say("evaluating the validation and the test rows")
    parts = fit.data.dataset.parts
    test = evaluate_part(model, parts["test"])
    evaluations = {"validation": evaluate_figures(model, parts["validation"]), "test": test.evaluation}
    write_report(
        fit, evaluations, test.baselines, test.judgement, test.notes(), (0, 0), run_dir, compilations, begin=begin
    )


def rehearse(config: Config) -> None:
    """Prints what `train` would do, and what a super batch takes; trains nothing."""
    config, dataset = _open(config)
    with naming(config.data.data):
        data = open_data(config, dataset)
    trainer = build_stream_trainer(config, data)
    print_banner(config, data, jax.eval_shape(lambda: trainer.init(trainer.seeds())).params)
    batches = [-(-rows // data.batch_rows) for rows in data.num_rows]
    lines = [
        [str(steps), f"{rows:,}", f"{data.batch_rows:,}", f"{number:,}"]
        for steps, rows, number in zip(data.lengths, data.num_rows, batches, strict=True)
    ]
    rows = "packed rows" if data.batching == "pack" else "rows"
    print(table([f"batching {data.batching}, steps", rows, f"{rows} a batch", "batches"], lines))
    first = data.training[0]
    size = sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(first.batches))
    epochs = config.training.epochs
    print(
        f"updates: {data.steps_per_epoch:,} an epoch, {data.steps_per_epoch * epochs:,} in {epochs:,} epochs; read in"
        f" {data.training.per_epoch:,} pieces of up to {first.num_batches:,} batches, {size / 1e6:,.1f} MB each"
    )
    print("nothing was trained and nothing written")


def describe(dataset: Dataset) -> dict[str, Any]:
    """Returns what a run remembers of its data."""
    return {
        "path": str(Path(dataset.path).absolute()),
        "sha256": dataset.sha256,
        "rows": dataset.num_rows(),
        "values": dataset.num_values(),
    }


def print_banner(config: Config, data: StreamData, params: Any) -> None:
    """Says what is trained, on what and with what."""
    print_devices(data.mesh)
    dataset = data.dataset
    histograms = [dataset.histogram(name) for name in dataset.parts]
    shortest, longest = min(int(h[0][0]) for h in histograms), max(int(h[0][-1]) for h in histograms)
    low, high = dataset.span
    say(
        f"data: {escape(config.data.data)}, prepared: {dataset.num_rows():,} rows, {dataset.num_values():,} values;"
        f" lengths {shortest} to {longest}, mean {dataset.num_values() / dataset.num_rows():.1f}; values {low:g} to"
        f" {high:g}"
    )
    say(
        f"split: {config.data.split}: "
        + ", ".join(f"{dataset.num_rows(name):,} {name}" for name in dataset.parts)
        + f"; normalised by (x - {data.normalizer.offset:.6g}) / {data.normalizer.scale:.6g};"
        f" {'packed' if data.batching == 'pack' else 'padded'} to {', '.join(map(str, data.lengths))} steps,"
        f" {data.batch_rows:,} rows a batch"
    )
    say(parameter_table(named_leaves(params)))


def _open(config: Config) -> tuple[Config, Dataset]:
    if config.training.ensemble > 1:
        raise UserError(
            f"--ensemble: got {config.training.ensemble}; expected 1 with prepared data: train the members one by one,"
            " with --seed, or on the file itself"
        )
    several = {"checker": jax.process_index(), "num_checkers": jax.process_count()} if hosts.is_distributed() else {}
    dataset = Dataset(config.data.data, **several)
    return dataset.adapt(config), dataset
