"""A run's figures for TensorBoard, by the extra [tensorboard]; metrics.jsonl holds the same and is the truth.

Events are written by the calling thread: what cannot be written is an error here and not lost in a queue.
"""

import math
import time
from pathlib import Path
from typing import Any

from jaxrnn.foundation.errors import UserError

EVENT_FILES = "events.out.tfevents.*"


def require_tensorboard() -> None:
    """Finds out whether scalars can be written, before anything is computed.

    Raises:
      UserError: tensorboardX cannot be imported.
    """
    try:
        import tensorboardX.event_file_writer
        import tensorboardX.summary  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"--tensorboard: tensorboardX cannot be imported ({error}); install it:  python -m pip install -e"
            " '.[tensorboard]'  or give --no-tensorboard"
        ) from error


class ScalarLog:
    """Writes a point an epoch of every figure; a context manager.

    Opened for a run that goes on, it writes anew the epochs that the run has kept and drops the files of before: an
    epoch that was computed, lost in a kill and computed again stands there once.

    Args:
      directory: Where the event files go; made if it is not there. Nothing else in it is touched.
      epochs: Lines of metrics.jsonl so far.
    """

    def __init__(self, directory: Path, epochs: list[dict[str, Any]]):
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        directory.mkdir(parents=True, exist_ok=True)
        for old in directory.glob(EVENT_FILES):
            old.unlink()
        self._writer = EventsWriter(str(directory / "events"), f".{time.monotonic_ns()}")
        # To a TensorBoard that has read the files of before: forget what you know from step 0 on.
        start = Event(wall_time=time.time(), step=0, session_log=SessionLog(status=SessionLog.START))
        self._writer.write_event(start)
        self.add(epochs)

    def __enter__(self) -> "ScalarLog":
        return self

    def __exit__(self, *exception: object) -> None:
        self._writer.close()

    def add(self, epochs: list[dict[str, Any]]) -> None:
        """Writes lines of metrics.jsonl, and brings them to the disk."""
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        now = time.time()
        for epoch in epochs:
            for tag, value in _tags(epoch).items():
                self._writer.write_event(Event(wall_time=now, step=epoch["epoch"], summary=scalar(tag, value)))
        self._writer.flush()


def _tags(epoch: dict[str, Any]) -> dict[str, float]:
    """Names a line's figures so that TensorBoard lays training and validation of the same figure side by side."""
    tags = {
        f"{name}/{part}": math.nan if value is None else value
        for part, figures in epoch.items()
        if isinstance(figures, dict)
        for name, value in figures.items()
    }
    return tags | {"learning_rate": epoch.get("learning_rate", math.nan)}
