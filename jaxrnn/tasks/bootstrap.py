"""How far a mean absolute error may be off by the choice of the test rows: a cluster bootstrap, in NumPy alone.

Identical rows are predicted alike, so a file that repeats its rows says less than its size: what is drawn with
replacement is therefore distinct rows, each with all of its copies, and not rows.
"""

import numpy as np

CONFIDENCE = 0.95
NUM_RESAMPLES = 4000
# Above this many distinct rows they are dealt at random to this many groups, and groups are drawn: the variance of the
# mean keeps its expected value, and the time has a bound.
MAX_GROUPS = 4096
DRAWS_PER_CHUNK = 2**16  # indices and gathered sums, 1.5 MiB, stay in a core's cache
SEED = 0  # not the run's: the same rows and errors give the same interval in every command


def mean_error_interval(
    error: np.ndarray,
    row_ids: np.ndarray,
    *,
    confidence: float = CONFIDENCE,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = SEED,
) -> dict[str, float | int]:
    """Returns a percentile bootstrap interval of the mean absolute error.

    Args:
      error: (rows,) absolute errors.
      row_ids: (rows,) integers: rows of the same id are copies of each other, and drawn together.
      confidence: Share of intervals that should hold the true mean; few distinct rows give fewer than this.
      num_resamples: How many times as many distinct rows are drawn as there are.
      seed: The seed of the draws.

    Returns:
      "low" and "high", in the errors' unit, "confidence", "resamples", and "distinct_rows". Of fewer than two distinct
      rows, or with an error that is not finite, the ends are NaN.

    Raises:
      ValueError: The shapes differ, or the confidence is no share.
    """
    if error.shape != row_ids.shape or error.ndim != 1:
        raise ValueError(f"error: got shape {error.shape}, row_ids {row_ids.shape}; expected (rows,) of both")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: got {confidence}; expected a share between 0 and 1")
    generator = np.random.default_rng(seed)
    _, group = np.unique(row_ids, return_inverse=True)
    num_distinct = int(group.max()) + 1 if len(group) else 0
    result: dict[str, float | int] = {
        "low": float("nan"),
        "high": float("nan"),
        "confidence": confidence,
        "resamples": num_resamples,
        "distinct_rows": num_distinct,
    }
    if num_distinct < 2 or not np.isfinite(error).all():
        return result
    if num_distinct > MAX_GROUPS:
        group = (generator.permutation(num_distinct) % MAX_GROUPS)[group]
    sums, sizes = np.bincount(group, error), np.bincount(group).astype(np.float64)
    means = np.empty(num_resamples)
    num_at_once = max(1, DRAWS_PER_CHUNK // len(sums))
    for start in range(0, num_resamples, num_at_once):
        chunk = means[start : start + num_at_once]
        drawn = generator.integers(len(sums), size=(len(chunk), len(sums)), dtype=np.int32).astype(np.intp)
        chunk[:] = sums.take(drawn).sum(axis=1) / sizes.take(drawn).sum(axis=1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return result | {"low": float(low), "high": float(high)}
