"""Trains on the files that come with this project, and draws the pictures of docs/gallery.md.

python examples/gallery.py [--directory=docs/pictures]
"""

import argparse
import io
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

from PIL import Image

from jaxrnn import eval as evaluate
from jaxrnn import train

DATA = Path(__file__).resolve().parent / "data"
COLOURS, WIDTH = 64, 1400
# The flags of each run, and the name of each of its pictures as --plots calls them.
RUNS = {
    "forecast": (
        [f"--data={DATA / 'shops.csv'}", "--id-column=shop", "--time-column=month", "--target-columns=sales",
         "--horizon=6"],
        ("forecasts", "forecast_errors"),
    ),
    "classify": (
        [f"--data={DATA / 'gestures.csv'}", "--id-column=gesture", "--time-column=moment", "--label-column=kind"],
        ("confusion", "sequences"),
    ),
    "next": ([f"--data={DATA.parents[1] / 'ball.csv'}"], ("predictions", "error_by_length")),
}  # fmt: skip


def main(directory: str | Path = "docs/pictures", epochs: int | None = None) -> None:
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    for task, (flags, names) in RUNS.items():
        with tempfile.TemporaryDirectory() as made:
            run, plots = f"{made}/run", f"{made}/plots"
            some = [] if epochs is None else [f"--epochs={epochs}"]
            with redirect_stdout(io.StringIO()):
                failed = train.main([f"--task={task}", *flags, f"--run-dir={run}", *some])
                failed = failed or evaluate.main([f"--checkpoint={run}", "--plots", f"--plots-dir={plots}"])
            if failed:
                raise SystemExit(failed)
            shrink(Path(run) / "curves.png", directory / f"{task}_curves.png")
            for name in names:
                shrink(Path(plots) / f"{name}.png", directory / f"{name}.png")


def shrink(source: Path, to: Path) -> None:
    """Writes a picture with a few colours, as wide as a page."""
    with Image.open(source) as picture:
        picture = picture.convert("RGB")
        picture.thumbnail((WIDTH, 10 * WIDTH))
        picture.quantize(COLOURS).save(to, optimize=True)
    print(f"wrote {to}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--directory", default="docs/pictures", help="where to draw")
    main(parser.parse_args().directory)
