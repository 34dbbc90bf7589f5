"""The next value of a row: the last one predicted from those before it."""

import dataclasses
from typing import Any

from jaxrnn.settings.task_config import FIGURES_OF_TASK
from jaxrnn.tasks.metrics import MetricSums


@dataclasses.dataclass(frozen=True)
class NextValue:
    """Predicts a row's next value; methods as those of `jaxrnn.tasks.task.Task`.

    What it costs is said by `jaxrnn.models.objective`, since long rows are cut into windows and short ones are packed.
    """

    @property
    def figures(self) -> tuple[str, ...]:
        return FIGURES_OF_TASK["next"]

    def zero(self, num_rows: int) -> MetricSums:
        return MetricSums.zero(num_rows)

    def compute(self, sums: MetricSums, told: Any) -> dict[str, Any]:
        del told
        return sums.compute()
