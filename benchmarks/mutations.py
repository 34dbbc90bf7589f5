"""Faults put into the code one at a time, and whether the tests see them.

    python -m benchmarks.mutations                  all of them; some minutes
    python -m benchmarks.mutations --only=masks     those whose file's name holds a word
    python -m benchmarks.mutations --list           none: says whether each still fits its file

Each is a wrong sign, an off by one, a mask dropped, a sync skipped, a gate swapped: put into a copy of the checkout,
whose tests of that part are run until the first one fails. Compiled sources are built anew. Expected: all are caught.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parent.parent
PATIENCE_SECONDS = 900


class Mutation(NamedTuple):
    """A fault.

    Attributes:
      file: Below jaxrnn/.
      right: The text as it is, which stands there once.
      wrong: What takes its place.
      tests: The tests that are to see it, below tests/.
    """

    file: str
    right: str
    wrong: str
    tests: str


_MASKS = "nn/test_layers.py nn/test_transformations.py nn/test_layer_properties.py"
_CELLS = "nn/test_cells.py nn/test_golden.py nn/test_layers.py"
_KERNELS = "nn/test_cpu_kernels.py nn/test_native.py"
_POSITIONS = "training/test_positions.py"
_TRAINING = "training/test_training.py"
_TRUNCATION = "training/test_truncation.py"
_EPOCH_ENDS = "training/test_epoch_ends.py"
_WRITING = "runs/test_run_lock.py"
_TABLES = "data/test_tables.py"
_PLAIN = "data/test_native_text.py data/test_native_records.py data/test_fuzz_reader.py"
_TASKS = "tasks/test_tasks.py"
_READING = "data/tables/test_reading_for_models.py data/tables/test_odd_types.py"
_SEQUENCES = "training/test_sequence_training.py"
_FORECASTS = "tasks/test_forecast.py evaluation/test_forecasting.py models/test_forecast_model.py"
MUTATIONS = [
    Mutation("tasks/forecast.py", "np.arange(1, self.horizon + 1)]", "np.arange(self.horizon)]", _FORECASTS),
    Mutation("tasks/forecast.py", "ahead(is_known) * (is_same", "1.0 * (is_same", _FORECASTS),
    Mutation("tasks/forecast.py", "2 * (levels * errors)", "2 * ((1 - levels) * errors)", _FORECASTS),
    Mutation("models/forecast_model.py", "same = (moved(ids) == ids) & (ids > 0)", "same = ids > 0", _FORECASTS),
    Mutation("data/series/ahead.py", "-(-step // season)", "-(-step // season) + 1", _FORECASTS),
    Mutation("tasks/regression.py", "left > 0, left == 1", "left > 0, left == 2", _SEQUENCES),
    Mutation("tasks/regression.py", "is_there if self.reads", "is_last if self.reads", _SEQUENCES),
    Mutation("data/encoding.py", "np.flatnonzero(kept) + 1 if every", "np.flatnonzero(kept) if every", _SEQUENCES),
    Mutation("nn/kernels/threads.h", "kMostInAByte = 255", "kMostInAByte = 256", _KERNELS),
    Mutation("nn/kernels/threads.h", "now[b] & ~before[b]", "0", _KERNELS),
    Mutation("nn/side_by_side.py", "turned(backward.valid)", "backward.valid", "nn/test_transformations.py"),
    Mutation("nn/side_by_side.py", "turned(backward.features)", "backward.features", "nn/test_transformations.py"),
    Mutation("nn/side_by_side.py", "turned(backward.reset)", "backward.reset", "nn/test_transformations.py"),
    Mutation("nn/side_by_side.py", "turned(second[0])", "second[0]", "nn/test_transformations.py"),
    Mutation("data/readers/large_columns.py", "some[1:] > some[:-1]", "some[1:] >= some[:-1]", _TABLES),
    Mutation("data/readers/large_columns.py", "ROWS_AT_ONCE + 1]", "ROWS_AT_ONCE]", _PLAIN),
    Mutation("data/readers/large_columns.py", "(begin + 1, begin", "(begin, begin", _PLAIN),
    Mutation("data/readers/native/plain_text.cc", " && (at[word.size] | 0x20) != 'e'", "", _PLAIN),
    Mutation("data/readers/native/plain_text.cc", "word.number || !word.is_negative", "true", _PLAIN),
    Mutation("data/readers/native/plain_text.cc", "if (!behind) return found;", "", _PLAIN),
    Mutation("data/readers/native/plain_text.cc", "0x7676767676767676", "0x7575757575757575", _PLAIN),
    Mutation("data/readers/native/plain_text.cc", "(is_negative & (number == 0)) | ", "", _PLAIN),
    Mutation("data/readers/native/plain_text.cc", "(OtherThanDigits(word) != 0) | ", "", _PLAIN),
    Mutation("data/readers/native/plain_text.cc", "(length < least) | ", "", _PLAIN),
    Mutation("data/readers/native/plain_text.cc", " | (length > most)", "", _PLAIN),
    Mutation("data/readers/native/plain_text.py", "if what & 4]", "if what & 2]", _PLAIN),
    Mutation("data/readers/sources.py", "if is_whole and os", "if os", _PLAIN),
    Mutation("data/readers/native/records.py", "if self._begin < edge < self._end", "if edge < self._end", _PLAIN),
    Mutation("data/readers/native/records.py", "if found < 0 and stop < self._end", "if False", _PLAIN),
    Mutation("data/readers/native/records.py", "and text[end - 1] != _LINE_FEED", "and False", _PLAIN),
    Mutation("data/readers/native/records.py", "records if os.fstat", "records if True or os.fstat", _PLAIN),
    Mutation(
        "data/readers/native/records.py", "if self._native.JaxrnnSurvey1(", "if not self._native.JaxrnnSurvey1(", _PLAIN
    ),
    Mutation("data/tables/delimited.py", "row + first_line", "row + 2", _PLAIN),
    Mutation("data/tables/loading.py", '{"group_column"} - set(given)', '{"group_column"}', _READING),
    Mutation("data/tables/loading.py", "if role in options and role not in is_named}", "if role in options}", _READING),
    Mutation("data/tables/loading.py", "elif not set(labels.texts())", "elif set(labels.texts())", _READING),
    Mutation("data/tables/loading.py", "if name not in marks", "if True", _READING),
    Mutation("data/tables/unnamed_columns.py", "if columns.of_model is None", "if True", _READING),
    Mutation("data/tables/unnamed_columns.py", "and cells.is_mostly_numbers(table, name)", "and False", _READING),
    Mutation("data/tables/wide_tables.py", "held if held or not model else free", "free", _READING),
    Mutation("data/tables/cells.py", "safe=False", "safe=True", _READING),
    Mutation("data/tables/cells.py", "~np.isfinite(values)", "np.isnan(values)", _READING),
    Mutation("training/restoring.py", "key not in free and value != now[key]", "False", "runs/test_integrity.py"),
    Mutation("tasks/verdict.py", '"groups"} if are_named', '"groups"} if False', "tasks/test_judgement.py"),
    Mutation("data/tables/delimited.py", "and not options.skip_lines\n", "\n", _PLAIN),
    Mutation("data/tables/cells.py", "decode or not _has_whole_runs(array)", "decode", _PLAIN),
    Mutation("nn/recurrent_layer.py", "layer == 0 and not is_watched", "False", "nn/test_transformations.py"),
    Mutation("nn/engine/recurrence.py", "steps._replace(inputs=inputs))", "steps)", "nn/test_transformations.py"),
    Mutation("data/readers/native/plain_text.cc", "number <= kMostExactInteger && ", "", _PLAIN),
    Mutation("data/readers/native/plain_text.cc", " && !kTakesMinusZero", " && false", _PLAIN),
    Mutation("data/readers/native/plain_text.cc", "IsEnd(at[size_], delimiter) && ", "", _PLAIN),
    Mutation("data/readers/native/plain_text.cc", "if (*at == '\"') return nullptr;", "", _PLAIN),
    Mutation(
        "data/readers/native/plain_text.cc", "at - field >= kMostCharacters", "at - field > kMostCharacters", _PLAIN
    ),
    Mutation("data/readers/gathering.py", "to_offsets += begin", "pass", _PLAIN),
    Mutation("data/sequences.py", "if is_once and numbers", "if numbers", _PLAIN),
    Mutation("data/sequences.py", ".equals(written)", " is not None", _PLAIN),
    Mutation("data/tables/delimited.py", "kinds.items() if kind != pa.int64()}", "kinds.items()}", _TABLES),
    Mutation("data/tables/delimited.py", "if are_usual else None", "if True else None", _TABLES),
    Mutation("nn/engine/kernel_library.py", "needed <= flags", "True", "nn/test_cpu_kernels.py"),
    Mutation("nn/engine/kernel_library.py", "hidden <= self.narrow", "hidden < self.narrow", "nn/test_cpu_kernels.py"),
    Mutation("tasks/classes.py", "weights = counts * jnp", "weights = 1 * jnp", _TASKS),
    Mutation("tasks/classes.py", "has_any & ~has_wrong", "~has_wrong", _TASKS),
    Mutation("tasks/regression.py", "** 0.5 * scales).mean()", "** 0.5).mean() * scales[0]", _TASKS),
    Mutation("tasks/verdict.py", "weights * each).sum() / weights.sum()", "weights * each).mean()", _TASKS),
    Mutation("tasks/verdict.py", "groups = np.repeat(groups, rows.lengths)", "groups = np.arange(len(each))", _TASKS),
    Mutation("models/sequence_model.py", "jnp.maximum(lengths, 1)[:, None]", "steps.shape[1]", _SEQUENCES),
    Mutation("models/sequence_model.py", "outputs, -jnp.inf).max(axis=1)", "outputs, 0).max(axis=1)", _SEQUENCES),
    Mutation("models/sequence_model.py", "(place - first + 1)[..., None]", "(place + 1)[..., None]", _SEQUENCES),
    Mutation("models/sequence_model.py", "drawn.at[0].set(0)", "drawn", _SEQUENCES),
    Mutation("data/encoding.py", "unknown=0, first=1)", "unknown=1, first=1)", _SEQUENCES),
    Mutation("data/encoding.py", "kept[ends - 1] = False", "kept[ends - 2] = False", _SEQUENCES),
    Mutation(
        "data/sequences.py", "if GROUPS in self.rows:\n            return", "if False:\n            return", _SEQUENCES
    ),
    Mutation("data/overlap.py", "owner[: len(last)][chosen] == last[chosen]", "True", "data/test_overlap.py"),
    Mutation("nn/engine/masks.py", "acts = latest > before", "acts = latest >= before", _MASKS),
    Mutation("nn/engine/masks.py", "(at(latest, after) > time)", "(at(latest, after) >= time)", _MASKS),
    Mutation("nn/engine/masks.py", "jnp.where((backward == 0) &", "jnp.where((backward != 0) &", _MASKS),
    Mutation("nn/engine/masks.py", "jnp.where(every, codes, 0)", "jnp.where(every, codes, codes)", "nn/test_masks.py"),
    Mutation("nn/engine/loops.py", "(bias_ih + bias_hh)[None", "(bias_ih - bias_hh)[None", _CELLS),
    Mutation("nn/engine/loops.py", "hidden_rest + bias_hh[None, number:]", "hidden_rest", _CELLS),
    Mutation("nn/engine/loops.py", "reverse=not recurrence.reverse,", "reverse=recurrence.reverse,", _CELLS),
    Mutation("nn/equations.py", "i, f, g, o = jnp.split", "f, i, g, o = jnp.split", _CELLS),
    Mutation("nn/equations.py", "return (1 - z) * n + z * h", "return z * n + (1 - z) * h", _CELLS),
    Mutation("nn/equations.py", "jnp.tanh(input_n + r * hidden_n)", "jnp.tanh(r * (input_n + hidden_n))", _CELLS),
    Mutation("nn/kernels/cells.h", "d_h * o * (1.0f - tanh_c", "d_h * o * (1.0f + tanh_c", _KERNELS),
    Mutation("nn/kernels/cells.h", "Store(row.d_h + unit, d_h * z);", "Store(row.d_h + unit, d_h * n);", _KERNELS),
    Mutation("nn/kernels/cells.h", "{2, 0, 1, -1}", "{2, 1, 0, -1}", _KERNELS),
    Mutation("nn/kernels/forward.h", "if (arrays.reset && arrays.reset[pair])", "if (false)", _KERNELS),
    Mutation("nn/kernels/backward.h", "arrays.reset ? arrays.reset[pair] : 0", "0", _KERNELS),
    Mutation("nn/kernels/forward.h", "if (!at_once_all) std::swap(h_at[i], h_after_at[i]);", "", _KERNELS),
    Mutation("nn/kernels/forward.h", "Splat(x[i][from + k])", "Splat(x[i][k])", _KERNELS),
    Mutation(
        "nn/kernels/backward.h", "{outputs.data(), previous * hidden}", "{outputs.data(), step * hidden}", _KERNELS
    ),
    Mutation("nn/kernels/backward.h", "reverse ? share.CountAt(step + 1", "reverse ? share.CountAt(step", _KERNELS),
    Mutation("nn/kernels/backward.h", "add(going_on, int(count), step, {h_first.data(), 0});", "", _KERNELS),
    Mutation("nn/kernels/cells.h", "if (row.output) StoreSome(row.output + unit, h, count);", "", _KERNELS),
    Mutation("nn/kernels/forward.h", "from / padded * at_once", "from", _KERNELS),
    Mutation("nn/kernels/matmul.h", "right += right_stride) {", "right += V * kLanes) {", _KERNELS),
    Mutation("nn/kernels/recurrence.cc", "std::min((task + 1) * units, hidden)", "std::min(units, hidden)", _KERNELS),
    Mutation("nn/kernels/matmul.h", "sum[kDepth - 1] += r;", "sum[kDepth - 1] += r + r;", _KERNELS),
    Mutation("nn/kernels/recurrence.cc", "- 1] <= narrow_lanes", "- 1] < narrow_lanes", _KERNELS),
    Mutation("nn/kernels/backward.h", "size_t(unit + j) * depth + k;", "size_t(unit + j) * depth;", _KERNELS),
    Mutation("models/windows.py", "jnp.minimum(left, steps) + 1", "jnp.minimum(left, steps)", _TRUNCATION),
    Mutation(
        "models/objective.py",
        "jnp.arange(targets.shape[1])[None] < num_inputs",
        "jnp.arange(targets.shape[1])[None] <= num_inputs",
        "training/test_training.py evaluation/test_inference.py",
    ),
    Mutation("tasks/metrics.py", "return weight[None] * stack(", "return stack(", "tasks/test_metrics.py"),
    Mutation("tasks/metrics.py", "return add_two(total, taken + lost)", "return total, taken", "tasks/test_metrics.py"),
    Mutation("training/trainer.py", "(score > before.best_score)", "(score >= before.best_score)", _EPOCH_ENDS),
    Mutation("training/trainer.py", "(waited > settings.patience)", "(waited >= settings.patience)", _EPOCH_ENDS),
    Mutation("training/trainer.py", "jnp.where, weight > 0)", "jnp.where, weight >= 0)", _TRUNCATION),
    Mutation("training/whole_epochs.py", "trainer.schedule(epoch *", "trainer.schedule((epoch + 1) *", _TRAINING),
    Mutation("training/piecewise_epochs.py", "(state.epoch) * trainer", "(state.epoch + 1) * trainer", _POSITIONS),
    Mutation("training/batch_order.py", "jax.random.fold_in(key, number), rows", "key, rows", _EPOCH_ENDS),
    Mutation(
        "training/super_batches.py", "np.roll(leaf, -number", "np.roll(leaf, number", "training/test_streaming.py"
    ),
    Mutation("training/stream_order.py", "(part, window, 1).shuffle", "(part, window).shuffle", _POSITIONS),
    Mutation("training/train_state.py", "        if not bad_batch.any():\n", "        if True:\n", "training"),
    Mutation("training/fit.py", "self.saved[0] + 1 if", "self.saved[0] if", _POSITIONS),
    Mutation("training/restoring.py", "state.best_epoch) <= patience", "state.best_epoch) < patience", _EPOCH_ENDS),
    Mutation("evaluation/loading.py", 'metadata.get("epoch", 1) == 0', "False", _POSITIONS),
    Mutation("runs/step_files.py", "own != _digest_of(digests)", "False", "runs/test_checkpoint.py"),
    Mutation("runs/step_files.py", "        os.fsync(file.fileno())\n", "", _WRITING),
    Mutation("foundation/files.py", "        sync_directory(path.parent)\n", "", _WRITING),
    Mutation(
        "runs/run_lock.py",
        "if self._is_current(file):\n                self._file = file",
        "if True:\n                self._file = file",
        _WRITING,
    ),
    Mutation(
        "console/signals.py",
        "if self.received is not None:\n            os._exit",
        "if False:\n            os._exit",
        "console commands",
    ),
    Mutation(
        "data/normalizer.py",
        "values * self.scale + self.offset",
        "values * self.scale - self.offset",
        "data evaluation",
    ),
]


def main(argv: Sequence[str] | None = None) -> int:
    """Tries the mutations and prints which were caught."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="a word of the file's name")
    parser.add_argument("--list", action="store_true")
    arguments = parser.parse_args(argv)
    chosen = [mutation for mutation in MUTATIONS if arguments.only in mutation.file]
    unfit = [mutation for mutation in chosen if _read(mutation).count(mutation.right) != 1]
    for mutation in unfit:
        times = _read(mutation).count(mutation.right)
        print(f"does not fit: {mutation.file}: {mutation.right!r} stands there {times} times")
    if unfit or arguments.list:
        print(f"{len(chosen)} mutations, {len(unfit)} do not fit their files")
        return bool(unfit)
    survived = 0
    for mutation in chosen:
        begin = time.perf_counter()
        caught = try_one(mutation)
        survived += not caught
        what = "caught  " if caught else "SURVIVED"
        print(f"{what} {mutation.file}: {mutation.wrong.strip()!r}, {time.perf_counter() - begin:.0f} s", flush=True)
    print(f"{len(chosen)} mutations, {len(chosen) - survived} caught")
    return bool(survived)


def try_one(mutation: Mutation) -> bool:
    """Puts a mutation into a copy of the checkout; returns whether its tests fail."""
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name) / "checkout"
        left_out = shutil.ignore_patterns("__pycache__")
        for part in ("jaxrnn", "tests", "benchmarks", "configs", "docs"):
            shutil.copytree(REPOSITORY / part, copy / part, ignore=left_out)
        for file in ("pyproject.toml", "hatch_build.py", "ball.csv", "README.md"):
            shutil.copy(REPOSITORY / file, copy / file)
        mutated = _read(mutation).replace(mutation.right, mutation.wrong)
        (copy / "jaxrnn" / mutation.file).write_text(mutated, encoding="utf-8")
        environment = os.environ | {"PYTHONPATH": str(copy)}
        if mutation.file.endswith((".h", ".cc")):
            build = "import hatch_build as b, pathlib; assert len(b._compile(pathlib.Path('.'))) == 1 + len(b.VARIANTS)"
            subprocess.run([sys.executable, "-c", build], cwd=copy, env=environment, check=True, capture_output=True)
        tests = [f"tests/{test}" for test in mutation.tests.split()]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "not slow", *tests],
            cwd=copy, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS,
        )  # fmt: skip
        if done.returncode not in (0, 1):
            raise RuntimeError(f"{mutation.file}: pytest ended with {done.returncode}: {done.stdout[-2000:]}")
        return done.returncode == 1


def _read(mutation: Mutation) -> str:
    return (REPOSITORY / "jaxrnn" / mutation.file).read_text(encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
