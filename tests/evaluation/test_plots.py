"""Pictures of a run that lacks something, and what their axes say."""

import io
import warnings

import numpy as np
import pytest

from jaxrnn.evaluation.pictures import plots
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


@pytest.mark.parametrize(("least", "most"), [(0.12, 0.18), (0.21, 0.29), (3e-7, 2.0), (0.5, 0.5), (1500.0, 4000.0)])
def test_the_losses_axis_is_labelled_with_its_own_numbers(monkeypatch, tmp_path, least, most):
    drawn = []

    def draw(figure, path):
        figure.savefig(io.BytesIO(), format="png")
        drawn.append(figure.axes[1].yaxis)

    monkeypatch.setattr(plots, "save_figure", draw)
    losses = np.geomspace(most, least, 5)
    figures = [{"loss": loss, "accuracy": 0.5} for loss in losses]
    epochs = [{"epoch": number, "training": one, "validation": one} for number, one in enumerate(figures, 1)]
    plots.plot_curves(epochs, 3, tmp_path / "curves.png")
    shown = [
        (tick.get_loc(), tick.label1.get_text())
        for tick in (*drawn[0].get_major_ticks(), *drawn[0].get_minor_ticks())
        if tick.label1.get_text()
    ]
    assert shown
    for place, text in shown:
        assert float(text) == pytest.approx(place, rel=1e-5)
