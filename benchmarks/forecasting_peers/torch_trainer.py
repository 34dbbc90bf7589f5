"""What the libraries on PyTorch Lightning share: a stop at a number of seconds, a count of steps, and silence."""

import logging
import tempfile
import warnings
from typing import Any


def quiet() -> None:
    """Keeps the libraries' notes about themselves out of the output."""
    warnings.filterwarnings("ignore")
    for name in ("pytorch_lightning", "lightning", "lightning.pytorch", "darts"):
        logging.getLogger(name).setLevel(logging.ERROR)


def new_counter(callback_class: type[Any]) -> Any:
    """Returns a callback, of the library's own class of callbacks, whose ``windows`` and ``steps`` count training."""

    class Counter(callback_class):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.steps = self.windows = 0

        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            self.steps += 1
            self.windows += _rows(batch)

    return Counter()


def trainer_options(limit: float, *callbacks: Any) -> dict[str, Any]:
    """Returns the arguments of a Lightning trainer without output that stops after ``limit`` seconds."""
    return {
        "accelerator": "cpu",
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "logger": False,
        "callbacks": list(callbacks),
        "max_time": {"seconds": max(1, int(limit))},
        "default_root_dir": tempfile.gettempdir(),
    }


def cut_remark(seconds: float, limit: float) -> tuple[str, ...]:
    """Says so where training took the whole of its limit."""
    return (f"training cut at {limit:.0f} s",) if seconds >= limit else ()


def _rows(batch: Any) -> int:
    """Returns the windows of a batch: the length of the first array in it."""
    if isinstance(batch, dict):
        batch = batch.get("past_target", next(iter(batch.values())))
    while isinstance(batch, tuple | list):
        batch = batch[0]
    return int(batch.shape[0])
