"""Results as a command prints them: the figures of a model, with the baselines' beside them."""

from jaxrnn.console.tables import table
from jaxrnn.settings.config import FIGURE_NAMES
from jaxrnn.tasks.figures import ACCURACY_NOTE, format_figure


def figures_table(rows: dict[str, dict[str, float]]) -> str:
    """Lays out figures, a line for every model or baseline."""
    body = [[name, *[format_figure(key, figures[key]) for key in FIGURE_NAMES]] for name, figures in rows.items()]
    return table(["", *FIGURE_NAMES], body)


def print_figures(
    figures: dict[str, dict[str, float]],
    baselines: dict[str, dict[str, float]],
    *,
    accuracy_epsilon: float,
    notes: list[str],
) -> None:
    """Prints a model's figures with the baselines' beside them, what the accuracy is, and further notes."""
    named = {f"baseline {name}": values for name, values in baselines.items()}
    print(figures_table({**figures, **named}))
    for note in [ACCURACY_NOTE.format(epsilon=accuracy_epsilon), *notes]:
        print(note)


def spread_rows(name: str, spread: dict[str, dict[str, float]], members: int) -> dict[str, dict[str, float]]:
    """Returns the lines of a table of figures that say how the members of an ensemble differ."""
    return {f"{name}, {key} of {members} members": spread[key] for key in ("mean", "std")}
