"""Forecasts as a table: a line for each series and step ahead, in the kind of table that the series came in."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jaxrnn.data.sequences import IDS, TIMES, Sequences
from jaxrnn.data.series.gaps import fill_gaps
from jaxrnn.data.series.parts import extend_series
from jaxrnn.data.series.series_encoding import SeriesEncoding
from jaxrnn.data.tables.loading import future_known
from jaxrnn.evaluation.forecasting import forecast_ahead
from jaxrnn.foundation.errors import UserError
from jaxrnn.settings.checking import require
from jaxrnn.settings.config import Config

if TYPE_CHECKING:
    import pyarrow as pa

STEP, TARGET, POINT = "step", "target", "prediction"


def require_horizon(encoding: SeriesEncoding, horizon: int | None) -> int:
    """Returns how many steps ahead to give: those asked for, or all that the model forecasts.

    Raises:
      UserError: More are asked for.
    """
    if horizon is None:
        return encoding.horizon
    if not 1 <= horizon <= encoding.horizon:
        raise UserError(
            f"--horizon: got {horizon}; expected 1 to {encoding.horizon}, as the model was trained; train one with"
            f" --horizon={horizon}"
        )
    return horizon


def extend(config: Config, encoding: SeriesEncoding, sequences: Sequences, known: Any) -> Sequences:
    """Adds the steps that a model forecasts behind each series.

    Args:
      config: The run's configuration, which says how tables are read.
      encoding: The model's.
      sequences: The series.
      known: What is known of these steps: a path or a table; None if nothing needs to be.

    Raises:
      DataError: It is missing, or lacks a step.
    """
    sequences = fill_gaps(sequences, encoding.frequency, config.columns.missing)
    frequency, horizon = encoding.frequency, encoding.horizon
    if known is None or not encoding.known.names:
        require(known is None, "known", "some", "none: the model was trained without --known-columns")
        return extend_series(sequences, frequency, horizon)
    values = future_known(sequences, known, config, frequency, horizon)
    return extend_series(sequences, frequency, horizon, values)


def forecast(
    config: Config,
    encoding: SeriesEncoding,
    params: Any,
    other: Any,
    sequences: Sequences,
    horizon: int | None = None,
    known: Any = None,
) -> "pa.Table":
    """Forecasts the steps behind each series.

    Args:
      config: The run's configuration.
      encoding: What its training steps say.
      params: The parameters; of an ensemble with a leading axis of members.
      other: The rest of the model's state.
      sequences: The series.
      horizon: How many steps ahead to give; None for all.
      known: What is known of these steps: a path or a table; None if nothing needs to be.

    Returns:
      As `forecast_table`.

    Raises:
      UserError: More steps are asked for than the model forecasts, or what is known ahead is missing.
    """
    given = require_horizon(encoding, horizon)
    extended = extend(config, encoding, sequences, known)
    values = forecast_ahead(config, encoding, params, other, extended)
    return forecast_table(encoding, values, extended, quantiles=config.task.quantile_levels, horizon=given)


def column_names(encoding: SeriesEncoding, quantiles: tuple[float, ...]) -> list[str]:
    """Returns the names of the columns of forecasts: q0.1, .., or prediction."""
    return [f"q{level:g}" for level in quantiles] if encoding.levels > 1 else [POINT]


def forecast_table(
    encoding: SeriesEncoding,
    forecasts: NDArray[np.float64],
    extended: Sequences,
    *,
    quantiles: tuple[float, ...],
    horizon: int,
) -> "pa.Table":
    """Lays out forecasts: id, time, step, and a column for each quantile; target too, where there are several.

    Args:
      encoding: The model's.
      forecasts: (series, horizon, targets, quantiles).
      extended: The series, with the steps that were forecast.
      quantiles: The levels.
      horizon: How many steps to give.
    """
    import pyarrow as pa

    count, _, targets, _ = forecasts.shape
    lines = count * horizon * targets
    ends = extended.offsets[1:, None] - encoding.horizon + np.arange(horizon)
    own = {STEP, TARGET, *column_names(encoding, quantiles)}
    columns: dict[str, Any] = {}

    def free(name: str) -> str:  # a column of the series' table may be called as one of the forecasts'
        return f"{name} of the series" if name in own or name in columns else name

    ids = extended.rows.get(IDS)
    owner = np.repeat(np.arange(count), horizon * targets)
    columns[free("id" if ids is None else ids.names[0])] = (
        owner if ids is None else pa.array(np.array(ids.texts(), object)[owner], pa.string())
    )
    times = extended.steps.get(TIMES)
    values = ends - extended.offsets[:-1, None] if times is None else times.values[:, 0][ends]
    columns[free("time" if times is None else times.names[0])] = np.repeat(values.ravel(), targets)
    columns[STEP] = np.tile(np.repeat(np.arange(1, horizon + 1), targets), count)
    if targets > 1:
        columns[TARGET] = pa.array(list(encoding.targets.names) * (lines // targets), pa.string())
    for place, name in enumerate(column_names(encoding, quantiles)):
        columns[name] = np.ascontiguousarray(forecasts[:, :horizon, :, place]).ravel()
    return pa.table({name: pa.array(column) for name, column in columns.items()})


def like(table: "pa.Table", source: Any) -> Any:
    """Returns a table as what the source is: a DataFrame of pandas or polars; else as it is.

    Ids and times take the types that they have there, where they fit.
    """
    kind = type(source).__module__.partition(".")[0]
    if not hasattr(source, "__arrow_c_stream__"):
        return table
    import pyarrow as pa

    schema = pa.table(source).schema
    for place, field in enumerate(list(table.schema)[:2]):  # ids and times; forecasts keep their type
        if field.name in schema.names and (wanted := schema.field(field.name).type) != field.type:
            if pa.types.is_timestamp(field.type) and not pa.types.is_temporal(wanted):
                continue  # they were texts, which Arrow would write in another way
            try:
                column = table.column(place).cast(schema.field(field.name).type)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
                continue
            table = table.set_column(place, field.name, column)
    if kind == "pandas":
        return table.to_pandas()
    if kind == "polars":
        import polars

        return polars.from_arrow(table)
    return table
