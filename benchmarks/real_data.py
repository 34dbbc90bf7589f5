"""Public sets of sequences, by the recipe and by what a user would pick instead, in one run.

    python -m benchmarks.real_data                     JapaneseVowels out of the installed aeon package
    python -m benchmarks.real_data --data=DIR          JapaneseVowels_TRAIN.ts and .._TEST.ts in DIR
    python -m benchmarks.real_data --only=epochs       how long an epoch takes, nothing else; of so many --copies of the
                                                       training file, with a --cell

Of each: accuracy on the set's test file (mean over the seeds, and of the mean prediction), seconds to train with all
compiling, sequences predicted a second. PyTorch trains the same network in the same way: a bidirectional GRU of 64
units, the last states and a linear layer, Adam with the same rate and schedule, gradients clipped alike, batches of the
same size; packed, and padded with an index of the last steps. aeon's classifiers are what its documentation offers for
sequences of unequal lengths. Times of epochs are taken in turn, in this process, after compiling.
"""

import argparse
import importlib.util
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import jaxrnn
from jaxrnn.data.sequence_parts import Part, SequenceParts
from jaxrnn.training.fit import build_trainer
from jaxrnn.training.memory_source import MemorySource
from jaxrnn.training.restoring import restore_position

HIDDEN, EPOCHS, BATCH, RATE, CLIP = 64, 100, 32, 0.01, 1.0
SEEDS = (0, 1, 2)
THREADS_TURN_SECONDS = 0.3  # PyTorch's threads keep turning for a fifth of a second after their work


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="where the .ts files are")
    parser.add_argument("--only", choices=["jaxrnn", "torch", "aeon", "epochs"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--copies", type=int, default=8)
    parser.add_argument("--cell", choices=["gru", "lstm"], default="gru")
    given = parser.parse_args(argv)
    train, test = read_vowels(given.data)
    rows = {"jaxrnn": run_jaxrnn, "torch": run_torch, "aeon": run_aeon}
    for name, run in rows.items():
        if given.only in (None, name):
            run(train, test)
    if given.only in (None, "epochs"):
        compare_epochs(train, given)


def read_vowels(directory: Path | None) -> tuple[jaxrnn.Sequences, jaxrnn.Sequences]:
    """Reads the training and the test file."""
    if directory is None:
        spec = importlib.util.find_spec("aeon")
        if spec is None or spec.origin is None:
            raise SystemExit("aeon is not installed: give the directory of JapaneseVowels_TRAIN.ts by --data")
        directory = Path(spec.origin).parent / "datasets" / "data" / "JapaneseVowels"
    train, test = (jaxrnn.read(directory / f"JapaneseVowels_{part}.ts") for part in ("TRAIN", "TEST"))
    return train, test


def tell(name: str, accuracies: list[float], mean_prediction: float | None, seconds: float, rate: float) -> None:
    together = "" if mean_prediction is None else f"  of the mean prediction {mean_prediction:.4f}"
    each = " ".join(f"{accuracy:.4f}" for accuracy in accuracies)
    print(f"{name:28} accuracy {np.mean(accuracies):.4f} ({each}){together}  {seconds:6.1f} s to train"
          f"  {rate:9,.0f} sequences/s", flush=True)  # fmt: skip


def per_second(predict: Callable[[], object], number: int) -> float:
    """Returns how many sequences are predicted a second, the best of five calls after the first."""
    predict()
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        predict()
        times.append(time.perf_counter() - begin)
    return number / min(times)


def run_jaxrnn(train: jaxrnn.Sequences, test: jaxrnn.Sequences) -> None:
    accuracies, probabilities, seconds = [], [], []
    for seed in SEEDS:
        begin = time.perf_counter()
        model = jaxrnn.fit(train, task="classify", seed=seed, progress=False)
        seconds.append(time.perf_counter() - begin)
        accuracies.append(model.evaluate(test)["accuracy"])
        probabilities.append(model.predict_proba(test))
    classes = np.array(model.classes)
    together = float((classes[np.mean(probabilities, axis=0).argmax(axis=1)] == test.rows["labels"].texts()).mean())
    rate = per_second(lambda: model.predict(test), len(test))
    tell("jaxrnn, recipe classify", accuracies, together, seconds[0], rate)
    begin = time.perf_counter()
    ensemble = jaxrnn.fit(train, task="classify", ensemble=8, progress=False)
    spent = time.perf_counter() - begin
    rate = per_second(lambda: ensemble.predict(test), len(test))
    tell("jaxrnn, --ensemble=8", [ensemble.evaluate(test)["accuracy"]], None, spent, rate)


def prepare(train: jaxrnn.Sequences, test: jaxrnn.Sequences) -> tuple[list[Any], Any, list[Any], Any]:
    """Returns normalised arrays and classes for the peers."""
    values = train.steps["inputs"].values
    mean, deviation = values.mean(axis=0), values.std(axis=0)
    arrays = [[((array - mean) / deviation).astype(np.float32) for array in part.arrays()] for part in (train, test)]
    vocabulary = train.rows["labels"].vocabulary[0]
    classes = [np.array([vocabulary.index(text) for text in part.rows["labels"].texts()]) for part in (train, test)]
    return arrays[0], classes[0], arrays[1], classes[1]


def build_torch(num_classes: int, num_features: int, *, packed: bool, cell: str = "gru") -> Any:
    import torch
    from torch import nn

    class Classifier(nn.Module):
        """A bidirectional recurrent layer, and a linear layer on its last states."""

        def __init__(self) -> None:
            super().__init__()
            layer = {"gru": nn.GRU, "lstm": nn.LSTM}[cell]
            self.rnn = layer(num_features, HIDDEN, batch_first=True, bidirectional=True)
            self.linear = nn.Linear(2 * HIDDEN, num_classes)

        def forward(self, inputs: Any, lengths: Any) -> Any:
            if packed:
                together = nn.utils.rnn.pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
                _, state = self.rnn(together)
                hidden = state[0] if cell == "lstm" else state
                return self.linear(torch.cat([hidden[0], hidden[1]], dim=1))
            outputs, _ = self.rnn(inputs)  # reads padding from behind: the reverse direction is another than packed
            last = outputs[torch.arange(len(lengths)), lengths - 1]
            return self.linear(torch.cat([last[:, :HIDDEN], outputs[:, 0, HIDDEN:]], dim=1))

    return Classifier()


def torch_epoch(model: Any, optimizer: Any, arrays: list[Any], classes: Any, order: Any, batch: int) -> None:
    import torch
    from torch.nn.utils.rnn import pad_sequence

    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        lengths = torch.tensor([len(arrays[i]) for i in chosen])
        inputs = pad_sequence([arrays[i] for i in chosen], batch_first=True)
        loss = torch.nn.functional.cross_entropy(model(inputs, lengths), classes[chosen])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()


def run_torch(train: jaxrnn.Sequences, test: jaxrnn.Sequences) -> None:
    import torch
    from torch.nn.utils.rnn import pad_sequence

    arrays, classes, test_arrays, test_classes = prepare(train, test)
    tensors, labels = [torch.tensor(array) for array in arrays], torch.tensor(classes)
    tests = pad_sequence([torch.tensor(array) for array in test_arrays], batch_first=True)
    lengths = torch.tensor([len(array) for array in test_arrays])
    for packed in (True, False):
        accuracies, seconds, probabilities = [], [], []
        for seed in SEEDS:
            torch.manual_seed(seed)
            begin = time.perf_counter()
            model = build_torch(len(set(classes)), arrays[0].shape[1], packed=packed)
            optimizer = torch.optim.Adam(model.parameters(), RATE)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
            for _ in range(EPOCHS):
                torch_epoch(model, optimizer, tensors, labels, torch.randperm(len(tensors)), BATCH)
                schedule.step()
            seconds.append(time.perf_counter() - begin)
            with torch.no_grad():
                probabilities.append(model(tests, lengths).softmax(dim=1).numpy())
            accuracies.append(float((probabilities[-1].argmax(axis=1) == test_classes).mean()))
        together = float((np.mean(probabilities, axis=0).argmax(axis=1) == test_classes).mean())
        with torch.no_grad():
            rate = per_second(lambda: model(tests, lengths), len(test_classes))  # noqa: B023
        tell(f"PyTorch, {'packed' if packed else 'padded'}", accuracies, together, seconds[0], rate)


def run_aeon(train: jaxrnn.Sequences, test: jaxrnn.Sequences) -> None:
    if importlib.util.find_spec("aeon") is None or importlib.util.find_spec("numba") is None:
        print("aeon: not installed")
        return
    from aeon.classification.convolution_based import MiniRocketClassifier
    from aeon.classification.distance_based import KNeighborsTimeSeriesClassifier
    from aeon.transformations.collection.unequal_length import Padder

    arrays, classes, test_arrays, test_classes = prepare(train, test)
    channels, test_channels = ([array.T.astype(np.float64) for array in part] for part in (arrays, test_arrays))
    padder = Padder(padded_length=max(array.shape[1] for array in channels + test_channels))
    padded, test_padded = padder.fit_transform(channels), padder.fit_transform(test_channels)
    peers = {
        "aeon, 1-NN with DTW": (KNeighborsTimeSeriesClassifier(distance="dtw"), channels, test_channels),
        "aeon, MiniRocket, padded": (MiniRocketClassifier(random_state=0), padded, test_padded),
    }
    for name, (peer, given, asked) in peers.items():
        begin = time.perf_counter()
        peer.fit(given, classes)
        seconds = time.perf_counter() - begin
        accuracy = float((peer.predict(asked) == test_classes).mean())
        begin = time.perf_counter()
        peer.predict(asked)
        tell(name, [accuracy], None, seconds, len(test_classes) / (time.perf_counter() - begin))


def compare_epochs(train: jaxrnn.Sequences, given: argparse.Namespace) -> None:
    """Times epochs over copies of the training file, in turn."""
    import torch

    number = len(train)
    many = train.take(np.arange(given.copies * number) % number)
    fitted = jaxrnn.fit(train, task="classify", cell=given.cell, epochs=1, progress=False)
    config = fitted.config.replace_flat({"epochs": 10_000})
    parts = SequenceParts(Part(many, np.arange(len(many))), None, None)
    source = MemorySource(config, parts)
    trainer = build_trainer(config, source)
    source.trace(trainer)()
    position, _ = restore_position(trainer, None)

    def epoch_of_jaxrnn() -> None:
        nonlocal position
        position, _ = source.advance(trainer, position, epochs=1)

    arrays, classes, _, _ = prepare(many, train)
    tensors, labels = [torch.tensor(array) for array in arrays], torch.tensor(classes)
    epochs: dict[str, Callable[[], object]] = {"jaxrnn": epoch_of_jaxrnn}
    for packed in (True, False):
        model = build_torch(len(set(classes)), arrays[0].shape[1], packed=packed, cell=given.cell)
        optimizer = torch.optim.Adam(model.parameters(), RATE)

        def epoch_of_torch(model: Any = model, optimizer: Any = optimizer) -> None:
            torch_epoch(model, optimizer, tensors, labels, torch.randperm(len(tensors)), BATCH)

        epochs[f"PyTorch, {'packed' if packed else 'padded'}"] = epoch_of_torch
    times: dict[str, list[float]] = {name: [] for name in epochs}
    for _ in range(given.rounds + 1):
        for name, run in epochs.items():
            time.sleep(THREADS_TURN_SECONDS)
            begin = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - begin)
    for name, found in times.items():
        found = found[1:]  # the first is a warm-up
        ratios = np.array(found) / np.array(times["jaxrnn"][1:])
        print(f"epoch of {len(many):,} sequences, {name:16} median {np.median(found) * 1e3:7.0f} ms, least"
              f" {min(found) * 1e3:7.0f}; of jaxrnn's time {np.median(ratios):.2f} ({ratios.min():.2f} to"
              f" {ratios.max():.2f})", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
