"""What a run's data holds, in words: of sequences their columns, of series what is forecast and what is read."""

from collections.abc import Sequence

from jaxrnn.data.encoding import Encoding
from jaxrnn.data.series.series_encoding import SeriesEncoding
from jaxrnn.foundation.escaping import escape, shorten
from jaxrnn.settings.config import Config

MAX_SHOWN = 10  # classes, or columns


def describe_columns(encoding: Encoding) -> str:
    """Says what is read and what is predicted, or forecast."""
    categories = [f"{len(texts):,} categories of {escape(shorten(name))}" for name, texts in encoding.categories]
    if isinstance(encoding, SeriesEncoding):
        return _describe_series(encoding, categories)
    holds = [f"{len(encoding.inputs.names):,} inputs", *categories]
    holds += [f"{len(encoding.statics.names):,} statics"] if encoding.statics.names else []
    if encoding.classes:
        answers = f"{len(encoding.classes):,} classes ({_list(encoding.classes)})"
    else:
        answers = f"targets {_list(encoding.targets.names)}"
    return f"{', '.join(holds)}; {answers}"


def describe_units(encoding: Encoding, config: Config) -> str:
    """Says in which units the network reads numbers."""
    how = {"standard": "by its mean and deviation", "divide": f"by {config.data.divisor:g}", "none": "not at all"}
    columns = f"normalised {how[config.data.normalizer]}"
    if not isinstance(encoding, SeriesEncoding):
        return f"each column {columns}"
    units = {
        "series": "each series in its own units, its mean change of a step",
        "global": "all series in one unit, their mean change of a step",
        "none": "all series in the units of the data",
    }[encoding.scaling]
    logarithms = "logarithms, " * (encoding.transform == "log")
    has_columns = encoding.inputs.names or encoding.known.names or encoding.statics.names
    return logarithms + units + f"; each other column {columns}" * bool(has_columns)


def _describe_series(encoding: SeriesEncoding, categories: list[str]) -> str:
    steps = "step" if encoding.horizon == 1 else "steps"
    season = f"season of {encoding.season}" if encoding.season > 1 else "no season"
    read = [
        f"{what} {_list(names)}"
        for what, names in (
            ("seen so far", encoding.inputs.names),
            ("known ahead", encoding.known.names),
            ("calendar", encoding.calendar),
            ("static", encoding.statics.names),
        )
        if names
    ]
    besides = f"; besides {'; '.join([*read, *categories])}" if read or categories else ""
    return (
        f"forecasts {_list(encoding.targets.names)}, {encoding.horizon:,} {steps} ahead,"
        f" {encoding.frequency.in_words}, {season}{besides}"
    )


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(escape(shorten(name)) for name in names[:MAX_SHOWN])
    return shown + ", ..." * (len(names) > MAX_SHOWN)
