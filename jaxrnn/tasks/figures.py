"""Figures of merit in words: how each is written, and what the accuracy is."""

ACCURACY_NOTE = (
    "accuracy is the tutorial's, 1 - mean(|y - p| / (|y| + {epsilon:g})): rows whose last value is near 0 rule it;"
    " mae and rmse are in the data's units, within_half is the share of rows off by at most 0.5"
)


def format_figure(name: str, value: float) -> str:
    """Formats a figure of merit for people."""
    if name == "loss":
        return f"{value:.3g}"
    return f"{value:.2%}" if name in ("within_half", "rows_right") else f"{value:.4f}"
