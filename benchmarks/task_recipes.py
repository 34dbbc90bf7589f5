"""Learning rates and sizes for the recipes of tag and regress, by folds of training data that this project makes.

    python -m benchmarks.task_recipes                  both tasks
    python -m benchmarks.task_recipes --task=tag       one of them

A line is a variant of the recipe, a column a set: the mean over three folds of what validation sequences gave at the
end of training. Nothing here is a test set: no figure elsewhere is measured on these sequences. Sequences are cut so
that the folds have the same lengths, and a variant is compiled once for all of them.

tag: the machines of examples/machine_states.py (three sensors, three states), and a noisy wave whose phase is told (one
input, four quarters). regress: rows of jaxrnn.data.ball with noise, the speed told, and damped oscillations of three
inputs, rate of damping and frequency told.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import jaxrnn
from jaxrnn.data import ball
from jaxrnn.data.sequences import TARGETS, Field

FOLDS = 3
VARIANTS: dict[str, dict[str, Any]] = {
    "learning_rate = 0.01": {"learning_rate": 0.01},
    "learning_rate = 0.003": {"learning_rate": 0.003},
    "learning_rate = 0.03": {"learning_rate": 0.03},
    "learning_rate = 0.01, hidden_size = 32": {"learning_rate": 0.01, "hidden_size": 32},
    "learning_rate = 0.01, hidden_size = 128": {"learning_rate": 0.01, "hidden_size": 128},
}
FIGURES = {"tag": "accuracy", "regress": "r2"}


def machines() -> jaxrnn.Sequences:
    """The training machines of examples/machine_states.py."""
    from examples.machine_states import write_machines

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "machines.csv"
        write_machines(path)
        columns = {"id_column": "machine", "time_column": "minute", "label_column": "state"}
        return jaxrnn.read(path, **columns, each_step_has_a_label=True).take(np.arange(60))


def phases() -> jaxrnn.Sequences:
    """Waves of changing speed with noise; every step's label is the quarter of the wave."""
    generator = np.random.default_rng(11)
    rows = []
    for number in range(90):
        length = int(generator.integers(20, 80))
        phase = generator.uniform(0, 4) + np.cumsum(generator.uniform(0.1, 0.5) * generator.uniform(0.5, 1.5, length))
        heights = np.sin(phase * np.pi / 2) + 0.3 * generator.normal(size=length)
        rows += [(number, height, f"q{int(value) % 4}") for value, height in zip(phase, heights, strict=True)]
    import pyarrow as pa

    table = pa.table({name: [row[i] for row in rows] for i, name in enumerate(("id", "height", "quarter"))})
    return jaxrnn.read(table, id_column="id", label_column="quarter", each_step_has_a_label=True)


def balls() -> jaxrnn.Sequences:
    """Rows of a ball with noise of a position; the target is its speed."""
    generator = np.random.default_rng(12)
    rows = [np.array(row, float) for row in ball.generate(240, seed=7)]
    noisy = jaxrnn.read([row + generator.normal(size=len(row)) for row in rows])
    return with_targets(noisy, ("speed",), np.array([[row[1] - row[0]] for row in rows]))


def oscillations() -> jaxrnn.Sequences:
    """Damped oscillations, the second and third inputs noise; the targets are damping and frequency."""
    generator = np.random.default_rng(13)
    told = generator.uniform([0.0, 0.2], [0.1, 1.0], (180, 2))
    arrays = []
    for damping, frequency in told:
        steps = np.arange(generator.integers(20, 60))
        wave = np.exp(-damping * steps) * np.sin(frequency * steps + generator.uniform(0, 6.28))
        noise = generator.normal(size=(len(steps), 3))
        arrays.append(np.stack([wave + 0.1 * noise[:, 0], noise[:, 1], noise[:, 2]], axis=1))
    return with_targets(jaxrnn.read(arrays), ("damping", "frequency"), told)


def with_targets(sequences: jaxrnn.Sequences, names: tuple[str, ...], values: np.ndarray) -> jaxrnn.Sequences:
    """Gives sequences numbers to tell."""
    rows = {**sequences.rows, TARGETS: Field(names, values)}
    return jaxrnn.Sequences(sequences.offsets, sequences.steps, rows)


SETS: dict[str, dict[str, Callable[[], jaxrnn.Sequences]]] = {
    "tag": {"machines": machines, "phases": phases},
    "regress": {"balls": balls, "oscillations": oscillations},
}


def in_folds(sequences: jaxrnn.Sequences) -> jaxrnn.Sequences:
    """Cuts sequences so that each is as long as its neighbours in the other folds."""
    ordered = sequences.take(np.argsort(sequences.lengths, kind="stable")[: len(sequences) // FOLDS * FOLDS])
    lengths = np.repeat(ordered.lengths[::FOLDS], FOLDS)
    kept = np.concatenate([start + np.arange(n) for start, n in zip(ordered.offsets[:-1], lengths, strict=True)])
    steps = {name: field.take(kept) for name, field in ordered.steps.items()}
    return jaxrnn.Sequences.from_lengths(lengths, steps, ordered.rows)


def cross_validate(task: str, sequences: jaxrnn.Sequences, settings: dict[str, Any]) -> list[float]:
    """Returns a figure for each fold, that of the last epoch's model."""
    found = []
    for fold in range(FOLDS):
        held = np.arange(len(sequences)) % FOLDS == fold
        training, validation = (sequences.take(np.flatnonzero(chosen)) for chosen in (~held, held))
        model = jaxrnn.fit(training, task=task, progress=False, seed=fold, **settings)
        found.append(float(model.evaluate(validation)[FIGURES[task]]))
    return found


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=list(SETS))
    for task in [found] if (found := parser.parse_args(argv).task) else list(SETS):
        begin, sets = time.process_time(), {name: in_folds(make()) for name, make in SETS[task].items()}
        print(f"| {task}: {FIGURES[task]} | " + " | ".join(f"{name} (folds)" for name in sets) + " |")
        print("|---" * (1 + len(sets)) + "|", flush=True)
        for name, settings in VARIANTS.items():
            cells = []
            for sequences in sets.values():
                figures = cross_validate(task, sequences, settings)
                each = ", ".join(f"{figure:.4f}" for figure in figures)
                cells.append(f"{np.mean(figures):.4f} ({each})")
            print(f"| {name} | {' | '.join(cells)} |", flush=True)
        print(f"\n{time.process_time() - begin:.0f} s of a processor in all\n", flush=True)


if __name__ == "__main__":
    main()
