"""How much will each shop sell in the next six months? Forecasts of many series at once, with a band each.

python examples/panel.py [--plot=panel.png]

Reads the sales of 24 shops by month, for three to six years, each with its own season (examples/data/shops.csv).
"""

import argparse
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

import jaxrnn

DATA = Path(__file__).resolve().parent / "data" / "shops.csv"
HORIZON, ORIGINS = 6, 4
FIGURES = ("mase", "smape", "mae", "coverage")


def main(epochs: int = 60, plot: str | None = None) -> None:
    shops = csv.read_csv(DATA)
    roles = {"id_column": "shop", "time_column": "month", "target_columns": "sales"}

    # What is to judge a forecast must not train it: four origins of six steps take the last nine months.
    held_out = HORIZON + ORIGINS - 1
    months = sorted(shops["month"].unique().to_pylist())
    earlier = shops.filter(pc.field("month") <= months[-1 - held_out])
    # The last six months that are left say which epoch is best; then they train too. Sizes of shares do not matter.
    model = jaxrnn.fit(
        earlier, task="forecast", horizon=HORIZON, **roles, split_fractions=(0.8, 0.2, 0), epochs=epochs
    )  # fmt: skip

    evaluation = model.evaluate(shops, origins=ORIGINS)
    print(f"{'':15}", *(f"{name:>9}" for name in FIGURES))
    for name, figures in {"model": evaluation.figures, **evaluation.baselines}.items():
        print(f"{name:15}", *(f"{figures[key]:9.3f}" if key in figures else f"{'-':>9}" for key in FIGURES))
    print("mase by step ahead:", *(f"{value:.2f}" for value in evaluation.by_step["model"]["mase"]))
    print(evaluation.verdict.against_baselines["sentence"])

    forecasts = model.predict(shops)  # a table of the kind that was given, here of Arrow
    if plot is not None:
        draw(shops, forecasts, plot)
    for line in forecasts.slice(0, HORIZON).to_pylist():
        print(f"{line['shop']} {line['month']} {line['q0.5']:.0f}, likely {line['q0.1']:.0f} to {line['q0.9']:.0f}")


def draw(shops: pa.Table, forecasts: pa.Table, path: str | Path) -> None:
    """Draws the first six shops, with the forecasts behind them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5), layout="constrained")
    for axes, shop in zip(figure.subplots(2, 3).flat, shops["shop"].unique().to_pylist()[:6], strict=True):
        past, ahead = (table.filter(pc.field("shop") == shop).to_pydict() for table in (shops, forecasts))
        axes.plot(past["month"], past["sales"], color="0.4")
        axes.fill_between(ahead["month"], ahead["q0.1"], ahead["q0.9"], alpha=0.3)
        axes.plot(ahead["month"], ahead["q0.5"])
        axes.set_title(shop)
        axes.tick_params("x", rotation=30)
    figure.savefig(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--plot", help="where to draw the forecasts")
    main(plot=parser.parse_args().plot)
