"""Pictures of a run that lacks something."""

import warnings

import numpy as np

from jaxrnn.evaluation.pictures.plots import plot_curves


def test_curves_of_an_ensemble_without_validation_rows(tmp_path):
    nothing = {"loss": np.nan, "accuracy": np.nan}
    epochs = [
        {"epoch": epoch, "training": {"loss": 1 / epoch, "accuracy": 0.5, "balanced_accuracy": 0.5},
         "training_std": {"loss": 0.1, "accuracy": 0.1}, "validation": nothing, "validation_std": nothing}
        for epoch in (1, 2, 3)
    ]  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot_curves(epochs, 3, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000
