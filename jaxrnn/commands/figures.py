"""Results as a command prints them: the figures of a model, with the baselines' beside them."""

from jaxrnn.console.tables import table
from jaxrnn.settings.task_config import FIGURES_OF_TASK, FURTHER_FIGURES, task_of_figures
from jaxrnn.tasks.figures import format_figure


def figures_table(rows: dict[str, dict[str, float]]) -> str:
    """Lays out figures, a line for every model or baseline."""
    given = {key for figures in rows.values() for key in figures}
    task = task_of_figures(given)
    names = [name for name in (*FIGURES_OF_TASK[task], *FURTHER_FIGURES[task]) if name in given]
    body = [
        [name, *[format_figure(key, figures[key]) if key in figures else "-" for key in names]]
        for name, figures in rows.items()
    ]
    return table(["", *names], body)


def print_figures(
    figures: dict[str, dict[str, float]],
    baselines: dict[str, dict[str, float]],
    notes: list[str],
) -> None:
    """Prints a model's figures with the baselines' beside them, and notes."""
    named = {f"baseline {name}": values for name, values in baselines.items()}
    print(figures_table({**figures, **named}))
    for note in notes:
        print(note)


def spread_rows(name: str, spread: dict[str, dict[str, float]], members: int) -> dict[str, dict[str, float]]:
    """Returns the lines of a table of figures that say how the members of an ensemble differ."""
    return {f"{name}, {key} of {members} members": spread[key] for key in ("mean", "std")}
