"""What figures are worth, in words: their uncertainty, the baselines, rows that rule the accuracy, rows seen before."""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from jaxrnn.data.encoding import Encoding
from jaxrnn.data.scaling import MAX_NAMES_SHOWN
from jaxrnn.foundation.escaping import escape, shorten
from jaxrnn.settings.config import Config
from jaxrnn.tasks.bootstrap import mean_error_interval

# Up to this many accuracy_epsilons from 0 a target is called near it: at the default, half a unit.
NEAR_ZERO_EPSILONS = 100


class Judgement(NamedTuple):
    """What stands beside a model's figures on some rows.

    Attributes:
      interval: As `bootstrap.mean_error_interval` returns it.
      against_baselines: As `compare_with_baselines` returns it.
      near_zero: As `weigh_near_zero` returns it.
    """

    interval: dict[str, Any]
    against_baselines: dict[str, Any]
    near_zero: dict[str, Any]

    def notes(self) -> list[str]:
        """Returns a line about each."""
        lines = [describe_near_zero(self.near_zero), describe_interval(self.interval)]
        return [line for line in [*lines, self.against_baselines["sentence"]] if line]


def judge(
    figures: dict[str, float],
    baselines: dict[str, dict[str, float]],
    predicted: np.ndarray,
    actual: np.ndarray,
    row_ids: np.ndarray,
    *,
    accuracy_epsilon: float,
) -> Judgement:
    """Judges a model's predictions of the last values of some rows.

    Args:
      figures: The model's.
      baselines: Those of the baselines on the same rows.
      predicted: (rows,), in the data's units.
      actual: (rows,), in the data's units.
      row_ids: (rows,), the same for identical rows.
      accuracy_epsilon: The accuracy's epsilon, in the data's units.
    """
    error = np.abs(predicted - actual)
    return Judgement(
        mean_error_interval(error, row_ids),
        compare_with_baselines(figures["mae"], {name: baseline["mae"] for name, baseline in baselines.items()}),
        weigh_near_zero(error, actual, accuracy_epsilon=accuracy_epsilon),
    )


def compare_with_baselines(
    value: float, baselines: dict[str, float], *, figure: str = "mae", higher_is_better: bool = False
) -> dict[str, Any]:
    """Says which baselines a model is better than by a figure, and which it is worse than.

    Args:
      value: The model's figure.
      baselines: Those of the baselines, by name.
      figure: The figure's name.
      higher_is_better: Whether a greater figure is a better one.

    Returns:
      "better_than", "worse_than" and "equal_to", lists of names, and a "sentence".
    """
    better = [name for name, other in baselines.items() if (value > other if higher_is_better else value < other)]
    equal = [name for name, other in baselines.items() if value == other]
    worse = [name for name in baselines if name not in better and name not in equal]  # NaN is worse than anything
    clauses = [
        f"{relation} {'the baseline ' if len(names) == 1 else 'the baselines '}"
        + " and ".join(f"{name} ({_describe(baselines[name], figure)})" for name in names)
        for relation, names in (("worse than", worse), ("equal to", equal), ("better than", better))
        if names
    ]
    sentence = f"by {figure} the model ({_describe(value, figure)}) is {' and '.join(clauses)}"
    if worse and not better:
        sentence += ": a rule that needs no training predicts these rows as well or better"
    return {"better_than": better, "worse_than": worse, "equal_to": equal, "sentence": sentence}


def _describe(value: float, figure: str) -> str:
    if not math.isfinite(value):
        return "not finite"
    return "0, exact on these rows" if value == 0 and figure == "mae" else f"{value:.4g}"


def describe_interval(interval: dict[str, Any], *, figure: str = "mae") -> str:
    """Returns a line about the confidence interval of a figure that is a mean over rows."""
    low, high, distinct = interval["low"], interval["high"], interval["distinct_rows"]
    drawn = interval.get("drawn", "distinct rows")
    if distinct < 2:
        return f"{figure} has no confidence interval: {distinct} {drawn.removesuffix('s')}"
    if low is None or not (math.isfinite(low) and math.isfinite(high)):
        return f"{figure} has no confidence interval: an error is not finite"
    return (
        f"{figure}: {interval['confidence']:.0%} interval {low:.4g} to {high:.4g}, from {interval['resamples']:,}"
        f" bootstrap resamples of the {distinct:,} {drawn}; the spread over seeds is not in it"
    )


def weigh_near_zero(error: np.ndarray, actual: np.ndarray, *, accuracy_epsilon: float) -> dict[str, Any]:
    """Measures how much of the tutorial's accuracy is decided by rows whose target is near 0.

    Args:
      error: (rows,) absolute errors.
      actual: (rows,) targets, in the data's units.
      accuracy_epsilon: What is added to |actual| below the fraction.

    Returns:
      "within", up to which distance a target is called near 0; "rows" and "of_rows"; "share_of_error", the part of
      1 - accuracy that these rows make, and "accuracy_without" them, both None where they have no meaning.
    """
    relative = error / (np.abs(actual) + accuracy_epsilon)
    near = np.abs(actual) <= NEAR_ZERO_EPSILONS * accuracy_epsilon
    total = float(relative.sum())
    has_share = 0 < total < math.inf
    return {
        "within": NEAR_ZERO_EPSILONS * accuracy_epsilon,
        "rows": int(near.sum()),
        "of_rows": len(actual),
        "share_of_error": float(relative[near].sum()) / total if has_share else None,
        "accuracy_without": 1 - float(relative[~near].mean()) if not near.all() else None,
    }


def describe_near_zero(near_zero: dict[str, Any]) -> str:
    """Returns a line about the rows that rule the accuracy, or nothing where there are none."""
    if not near_zero["rows"]:
        return ""
    line = f"accuracy: {near_zero['rows']:,} of {near_zero['of_rows']:,} rows end within {near_zero['within']:g} of 0"
    if near_zero["share_of_error"] is not None:
        line += f" and make {near_zero['share_of_error']:.1%} of what it falls short of 1"
    if near_zero["accuracy_without"] is not None:
        line += f"; without them it is {near_zero['accuracy_without']:.4f}"
    return line


def overlap_warning(in_validation: int, in_test: int) -> str:
    """Returns a warning of sequences that look like windows of series that were trained on, or nothing."""
    if not in_validation and not in_test:
        return ""
    return (
        f"warning: {in_validation:,} validation and {in_test:,} test sequences overlap with training sequences: runs of"
        " steps are the same, as in windows of one series; the figures below flatter the model; give a column that"
        " says what belongs together by --group-column, or test files of their own"
    )


def single_step_warning(lengths: Iterable[int], task: str) -> str:
    """Returns a warning of sequences of a single step each, in which nothing recurs, or nothing.

    Args:
      lengths: What training sequences are padded or packed to.
      task: The task; with next a sequence is a step shorter there than it was.
    """
    if task == "next" or max(lengths, default=0) != 1:
        return ""
    return (
        "warning: every sequence has a single step, so that nothing recurs: the id has to be the sequence's, not the"
        " step's; if a line is a whole sequence, write a line a step, or only its values and its class: --skip-lines=1"
        " leaves the header out, --label-column=first or last says where the class is"
    )


def alike_warnings(encoding: Encoding | None, config: Config) -> list[str]:
    """Returns a warning of classes, and one of each column's categories, that differ in case or white space alone.

    Tokens are left out: upper case is another token than lower case.

    Args:
      encoding: What the training rows say of classes and categories; None where there are neither.
      config: Says which column has texts.
    """
    if encoding is None:
        return []
    categories = [pair for pair in encoding.categories if pair[0] != config.columns.text_column]
    columns = [(f"categories of {escape(shorten(name))}", texts) for name, texts in categories]
    warnings = []
    for what, texts in [("classes", encoding.classes), *columns]:
        groups = [" and ".join(f"{escape(shorten(text))!r}" for text in group) for group in alike(texts)]
        more = f" and {len(groups) - MAX_NAMES_SHOWN} more" if len(groups) > MAX_NAMES_SHOWN else ""
        if groups:
            warnings.append(
                f"warning: the {what} {'; '.join(groups[:MAX_NAMES_SHOWN])}{more} differ in case or white space alone:"
                " they count as different ones; write them alike if they are the same"
            )
    return warnings


def alike(texts: Iterable[str]) -> list[list[str]]:
    """Returns the groups of different texts that are the same but for case and white space."""
    groups: dict[str, list[str]] = {}
    for text in dict.fromkeys(texts):
        groups.setdefault("".join(text.split()).casefold(), []).append(text)
    return [group for group in groups.values() if len(group) > 1]


def leakage_warning(in_validation: int, in_test: int) -> str:
    """Returns a warning of rows that were trained on and stand in the other parts too, or nothing where none do."""
    if not in_validation and not in_test:
        return ""
    return (
        f"warning: {in_validation:,} validation and {in_test:,} test rows also stand in the training part, value"
        " for value: the figures below flatter the model; --split=grouped keeps them apart"
    )
