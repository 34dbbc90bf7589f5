"""Pictures of runs whose rows all train."""

import warnings

import numpy as np

from jaxrnn.evaluation.plots import plot_curves
from jaxrnn.runs.run_files import is_whole_png


def test_curves_without_validation_are_drawn_without_a_warning(tmp_path):
    """Of an ensemble too, whose members' spread is a band."""
    known = {"loss": 0.5, "accuracy": 0.75, "balanced_accuracy": 0.7, "macro_f1": 0.6, "log_loss": 0.5}
    unknown = dict.fromkeys(known, np.nan)
    parts = {"training": known, "validation": unknown, "training_std": known, "validation_std": unknown}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot_curves([{"epoch": epoch, **parts} for epoch in (1, 2)], 2, tmp_path / "curves.png")
    assert is_whole_png(tmp_path / "curves.png")
