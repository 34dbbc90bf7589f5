"""The tutorial's training in PyTorch: the peer of `benchmarks.tutorial`. Needs the [torch] extra.

A tanh RNN with 8 hidden units and a linear head on the last valid output, packed sequences, SGD with a rate of 0.1,
batches of 100 in a fixed order. As in the tutorial the rows of each block of 2,000 are kept as gzipped tensors on disk
and read again every epoch.
"""

import gzip
import tempfile
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

BLOCK_ROWS, BATCH_ROWS, DIVISOR = 2000, 100, 50.0
CELLS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


class Model(nn.Module):
    """A recurrent layer and a linear head."""

    def __init__(self, cell: str):
        super().__init__()
        self.rnn = CELLS[cell](1, 8, batch_first=True)
        self.linear = nn.Linear(8, 1)

    def forward(self, values: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        packed = pack_padded_sequence(values[:, :, None], lengths, batch_first=True, enforce_sorted=False)
        outputs, _ = pad_packed_sequence(self.rnn(packed)[0], batch_first=True)
        return self.linear(outputs[torch.arange(len(lengths)), lengths - 1])[:, 0]


def write_blocks(data: Path, directory: Path) -> dict[str, list[Path]]:
    """Writes each block's parts, drawn at random, as gzipped tensors."""
    rows = [torch.tensor([float(v) for v in line.split(",")]) for line in data.read_text().splitlines()]
    files: dict[str, list[Path]] = {"training": [], "validation": []}
    for number, begin in enumerate(range(0, len(rows), BLOCK_ROWS)):
        block = rows[begin : begin + BLOCK_ROWS]
        values = pad_sequence(block, batch_first=True) / DIVISOR
        lengths = torch.tensor([len(row) for row in block])
        order = torch.randperm(len(block))
        first, second = int(len(block) * 0.6), int(len(block) * 0.8)
        for part, chosen in (("training", order[:first]), ("validation", order[first:second])):
            path = directory / f"{part}.{number}.pt.gz"
            with gzip.open(path, "wb") as file:
                torch.save((values[chosen], lengths[chosen]), file)
            files[part].append(path)
    return files


def read_block(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    with gzip.open(path, "rb") as file:
        return torch.load(file, weights_only=True)


def split_target(values: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns inputs, their lengths, and the last value of every row."""
    return values, lengths - 1, values[torch.arange(len(lengths)), lengths - 1]


def accuracy(actual: torch.Tensor, predicted: torch.Tensor) -> float:
    return 1 - ((actual - predicted).abs() / (actual.abs() + 0.0001)).mean().item()


def time_epochs(data: Path, cell: str, num_epochs: int, *, seed: int = 0) -> list[float]:
    """Trains for some epochs, validation included; returns the seconds of each."""
    torch.manual_seed(seed)
    model, loss_function = Model(cell), nn.MSELoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    seconds = []
    with tempfile.TemporaryDirectory() as directory:
        files = write_blocks(data, Path(directory))
        for _ in range(num_epochs):
            begin = time.perf_counter()
            figures = []
            model.train()
            for path in files["training"]:
                values, lengths = read_block(path)
                for start in range(0, len(lengths), BATCH_ROWS):
                    rows = slice(start, start + BATCH_ROWS)
                    inputs, num_inputs, actual = split_target(values[rows], lengths[rows])
                    predicted = model(inputs, num_inputs)
                    loss_function(predicted, actual).backward()
                    optimizer.step()
                    optimizer.zero_grad()
                    with torch.no_grad():
                        figures.append(accuracy(actual, predicted))
            model.eval()
            for path in files["validation"]:
                inputs, num_inputs, actual = split_target(*read_block(path))
                figures.append(accuracy(actual, model(inputs, num_inputs)))
            seconds.append(time.perf_counter() - begin)
    return seconds
