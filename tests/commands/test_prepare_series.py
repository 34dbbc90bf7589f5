"""Preparing series to forecast: the same batches or the same refusal as in memory, whatever the file holds."""

import json
from pathlib import Path

import numpy as np
import pytest
from series_tables import COLUMNS, HORIZON, ROLES, write_series
from small_runs import call
from streamed_runs import assert_same_batches

from jaxrnn.commands.training_data import open_training_data
from jaxrnn.data.store.dataset import Dataset
from jaxrnn.foundation.errors import UserError
from jaxrnn.settings.columns_config import ColumnsConfig
from jaxrnn.settings.config import Config
from jaxrnn.training import super_batches
from jaxrnn.training.disk_arranging import arrange_dataset

ASKED = {"task": "forecast", "horizon": HORIZON}
NAMED = {"id_column": "id", "time_column": "t", "target_columns": "y"}
GENERATOR = np.random.default_rng(0)
WALK = 100 + np.cumsum(GENERATOR.normal(size=(8, 40)), axis=1)


def panel(*series: tuple[str, list], columns: str = "id,t,y") -> str:
    """Writes rows of series: each an id, and what stands behind it in each of its rows."""
    return "\n".join([columns, *(f"{name},{row}" for name, rows in series for row in rows)]) + "\n"


def steps(values, first: int = 0, jump: int = 1) -> list[str]:
    return [f"{first + jump * place},{value}" for place, value in enumerate(values)]


def usual(*more: tuple[str, list], columns: str = "id,t,y") -> str:
    return panel(*((f"s{i}", steps(WALK[i, : 12 + 3 * i])) for i in range(5)), *more, columns=columns)


def shuffled(text: str) -> str:
    header, *lines = text.splitlines()
    return "\n".join([header, *(lines[place] for place in GENERATOR.permutation(len(lines)))]) + "\n"


def dated(times, letter: str = "s") -> str:
    rows = [[f"{time},{value}" for time, value in zip(times, walk, strict=False)] for walk in WALK[:4]]
    return panel(*((f"{letter}{number}", each) for number, each in enumerate(rows)))


DAYS = np.arange("2024-01-01", "2024-02-20", dtype="M8[D]")
MONTH_ENDS = np.arange("2020-01", "2023-01", dtype="M8[M]").astype("M8[D]") - np.timedelta64(1, "D")
TSF = "\n".join(
    [
        "@relation x", "@attribute series_name string", "@attribute start_timestamp date", "@frequency monthly",
        f"@horizon {HORIZON}", "@missing true", "@equallength false", "@data",
        *(f"T{i}:2001-0{i + 1}-01 00-00-00:{','.join(map(str, WALK[i, : 14 + i]))}" for i in range(6)),
    ]
)  # fmt: skip
# A file's text, and the settings beside those of ASKED and NAMED.
FILES: dict[str, tuple[str, dict]] = {
    "shorter-than-the-horizon": (usual(("short", steps([1.0, 2.0]))), {}),
    "one-step": (usual(("one", steps([5.0]))), {}),
    "constant": (usual(("still", steps([7] * 20))), {}),
    "all-constant": (panel(*((f"c{i}", steps([i + 1] * 15)) for i in range(4))), {}),
    "zeros": (usual(("nothing", steps([0] * 20))), {"scaling": "global"}),
    "all-short": (panel(*((f"s{i}", steps(WALK[i, :4])) for i in range(4))), {}),
    "just-too-short": (panel(*((f"s{i}", steps(WALK[i, : HORIZON + 4])) for i in range(4))), {}),
    "a-gap": (usual(("gap", steps(WALK[6, :8]) + steps(WALK[6, 8:20], 10))), {}),
    "a-gap-forward": (usual(("gap", steps(WALK[6, :8]) + steps(WALK[6, 8:20], 10))), {"missing": "forward"}),
    "a-gap-masked": (usual(("gap", steps(WALK[6, :8]) + steps(WALK[6, 8:20], 10))), {"missing": "mask"}),
    "a-gap-among-the-last": (usual(("gap", steps(WALK[6, :15]) + steps(WALK[6, 15:17], 17))), {"missing": "mask"}),
    "empty-values": (usual(("e", steps(["", 2, "", 4, 5, "", 7, 8, 9, 1, "", ""]))), {"missing": "mask"}),
    "empty-values-refused": (usual(("e", steps(["", 2, "", 4]))), {}),
    "no-value-at-all": (usual(("none", steps([""] * 12))), {"missing": "mask"}),
    "no-value-in-training": (usual(("late", steps([""] * 12 + [3, 4, 5]))), {"missing": "mask"}),
    "unsorted": (shuffled(usual()), {}),
    "times-twice": (usual(("s0", steps([1.0, 2.0]))), {}),
    "irregular": (usual(("odd", [f"{t},{t}" for t in (0, 1.5, 2.25, 7)])), {}),
    "coarser": (usual(("two", steps(WALK[6, :15], jump=2))), {}),
    "ids-of-text": (usual(('"a, b"', steps(WALK[5, :15])), ("é \U0001f600", steps(WALK[6, :15]))), {}),
    "no-ids": ("t,y\n" + "\n".join(steps(WALK[0])) + "\n", {"id_column": None}),
    "no-times": ("id,y\n" + "\n".join(f"a,{v}" for v in WALK[0]) + "\n", {"time_column": None}),
    "days": (dated(DAYS), {"calendar": "weekday,day"}),
    "business-days": (dated(DAYS[np.is_busday(DAYS)]), {"calendar": "weekday"}),
    "a-week-of-business-days": (dated(DAYS[np.is_busday(DAYS)][:11]), {}),
    "ends-of-months": (dated(MONTH_ENDS), {"calendar": "month"}),
    "ends-of-months-and-one-day": (dated(MONTH_ENDS) + "x,2021-02-28,4\nx,2021-03-28,5\n", {}),
    "hours-with-zones": (dated([f"{hour}:00Z" for hour in np.arange("2024-01-01", "2024-01-03", dtype="M8[h]")]), {}),
    "calendar-without-times": (usual(), {"time_column": None, "calendar": "month", "input_columns": "y"}),
    "no-logarithm": (usual(("low", steps([1, 2, 0, 4, 5, 6, 7, 8]))), {"transform": "log"}),
    "logarithms": (usual(), {"transform": "log", "scaling": "none"}),
    "large": (panel(*((f"s{i}", steps(1e38 * WALK[i, :16])) for i in range(4))), {}),
    "too-large": (panel(*((f"s{i}", steps(1e38 * WALK[i, :16])) for i in range(4))), {"scaling": "none"}),
    "changes-that-no-float-holds": (usual(("far", steps([-1.7e308, 1.7e308] * 8))), {}),
    "no-horizon": (usual(), {"horizon": 0}),
    "several-targets": (
        panel(*((f"s{i}", [f"{t},{a},{b}" for t, (a, b) in enumerate(WALK[i : i + 2].T)]) for i in range(4)),
              columns="id,t,y,z"), {"target_columns": "y,z"},
    ),
    "known-ahead": (
        panel(*((f"s{i}", [f"{t},{v if t < 20 else ''},{t % 7}" for t, v in enumerate(WALK[i])]) for i in range(4)),
              columns="id,t,y,price"), {"known_columns": "price", "missing": "mask"},
    ),
    "known-missing": (
        panel(*((f"s{i}", [f"{t},{v},{t % 7 or ''}" for t, v in enumerate(WALK[i, :24])]) for i in range(4)),
              columns="id,t,y,price"), {"known_columns": "price", "missing": "mask"},
    ),
    "infinite": (usual(("inf", steps([1, 2, "inf", 4, 5, 6, 7, 8]))), {}),
    "text": (usual(("text", steps([1, 2, "x", 4]))), {}),
    "no-rows": ("id,t,y\n", {}),
    "no-such-column": (usual(), {"target_columns": "sales"}),
    "groups": (
        panel(*((f"s{i}", [f"{t},{v + i},{i % 12}" for t, v in enumerate(WALK[i % 8])]) for i in range(32)),
              columns="id,t,y,g"), {"group_column": "g", "split": "hashed"},
    ),
    "tsf": (TSF, {"horizon": 0, **dict.fromkeys(("id_column", "time_column"), None), "target_columns": ""}),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch):
    monkeypatch.setattr(super_batches, "SUPER_VALUES", 1)


def outcome(path: Path, settings: dict):
    """Returns what training in memory would begin with, or its complaint."""
    flat = {
        "split": "time",
        "split_seed": 0,
        "seed": 5,
        "batch_size": 2,
        "loss": "pinball",
        **ASKED,
        **NAMED,
        **settings,
    }
    try:
        config = Config().replace_flat({"data": str(path), **flat})
        data = open_training_data(config)
        data.arrange()
    except UserError as error:
        return str(error)
    return data


def as_flags(settings: dict) -> list[str]:
    return [f"--{key.replace('_', '-')}={value}" for key, value in settings.items() if value not in (None, "", 0)]


@pytest.mark.parametrize("name", list(FILES))
def test_the_same_batches_or_the_same_refusal(tmp_path, name):
    text, more = FILES[name]
    path = tmp_path / ("file.tsf" if name == "tsf" else "file.csv")
    path.write_text(text)
    memory = outcome(path, more)
    done = call("prepare", path, *as_flags({**ASKED, **NAMED, **more}), "--split-seed=0", f"--out={tmp_path / 'set'}")
    if isinstance(memory, str):
        assert done.code == 2, memory
        assert done.err.count("\n") == 1
        assert not (tmp_path / "set").exists()
        assert done.err.removeprefix("error: ").strip() == memory
        return
    assert done.code == 0, done.err
    of_set = outcome(tmp_path / "set", more | dict.fromkeys(NAMED, None) | {"target_columns": ""})
    assert not isinstance(of_set, str), of_set
    dataset = Dataset(tmp_path / "set")
    assert (of_set.shared_rows, of_set.overlapping) == (memory.shared_rows, memory.overlapping)
    assert {name: len(part) for name, part in of_set.parts.items()} == {
        name: len(part) for name, part in memory.parts.items()
    }
    several = name not in ("no-ids", "no-times")  # of one series
    assert_same_batches(arrange_dataset(of_set.config, dataset), memory.source, several=several)
    for part, held in memory.parts.items():
        assert dict(of_set.parts[part].whole().steps) == dict(held.steps)


class TestSeveralFiles:
    def test_they_are_one_panel(self, tmp_path):
        """Categories are numbered as in a file of both, whatever comes first."""
        whole = write_series(tmp_path / "whole.csv", 24)
        header, *lines = whole.read_text().splitlines()
        for number in range(3):
            own = [line for line in lines if 8 * number <= int(line.split(",")[0].split()[1]) < 8 * (number + 1)]
            (tmp_path / f"part-{number}.csv").write_text("\n".join([header, *own]) + "\n")
        flags = [*COLUMNS, "--task=forecast", f"--horizon={HORIZON}"]
        for name, source in (("one", whole), ("several", tmp_path / "part-*.csv")):
            done = call("prepare", source, *flags, f"--out={tmp_path / name}")
            assert done.code == 0, done.err
        one, several = Dataset(tmp_path / "one"), Dataset(tmp_path / "several")
        config = Config().replace_flat({**ASKED, "split": "time", "batch_size": 4})
        found, expected = (data.sequences.fit_encoding(data.adapt(config)) for data in (several, one))
        assert (found.categories, found.frequency, found.sizes) == (
            expected.categories, expected.frequency, expected.sizes
        )  # fmt: skip
        assert found.first_scales == pytest.approx(expected.first_scales)  # the series are in another order
        for name, part in one.parts.items():
            found, expected = several.parts[name].whole(), part.whole()
            order = np.argsort(np.argsort(expected.rows["ids"].texts()))
            assert sorted(found.rows["ids"].texts()) == sorted(expected.rows["ids"].texts())
            again = found.take(np.argsort(found.rows["ids"].texts())).take(order)
            for field, held in expected.steps.items():
                np.testing.assert_array_equal(again.steps[field].texts(), held.texts())

    def test_of_two_frequencies_are_refused(self, tmp_path):
        for name, times in (("days", DAYS), ("months", MONTH_ENDS)):
            (tmp_path / f"{name}.csv").write_text(dated(times, name))
        flags = as_flags({**ASKED, **NAMED})
        done = call("prepare", tmp_path / "days.csv", tmp_path / "months.csv", *flags, f"--out={tmp_path / 'set'}")
        assert done.code == 2
        assert "months.csv: found series whose steps are monthly; expected daily, as those before" in done.err

    def test_of_two_horizons_are_refused(self, tmp_path):
        (tmp_path / "a.tsf").write_text(TSF)
        (tmp_path / "b.tsf").write_text(TSF.replace("T", "U").replace(f"@horizon {HORIZON}", "@horizon 2"))
        files = tmp_path / "a.tsf", tmp_path / "b.tsf"
        done = call("prepare", *files, "--task=forecast", f"--out={tmp_path / 'set'}")
        assert done.code == 2
        assert f"b.tsf: found a horizon of 2; expected {HORIZON}, as the files before have; give --horizon" in done.err
        assert call("prepare", *files, "--task=forecast", "--horizon=2", f"--out={tmp_path / 'set'}").code == 0
        assert Dataset(tmp_path / "set").sequences.settings["horizon"] == 2

    def test_an_id_of_two_files_is_refused(self, tmp_path):
        source = write_series(tmp_path / "a.csv", 8)
        write_series(tmp_path / "b.csv", 8, first=7)
        flags = [*COLUMNS, "--task=forecast", f"--horizon={HORIZON}"]
        done = call("prepare", source, tmp_path / "b.csv", *flags, f"--out={tmp_path / 'set'}")
        assert "b.csv: found the id 'shop 7', which" in done.err

    def test_a_test_file_that_is_too_short(self, tmp_path):
        source = write_series(tmp_path / "a.csv", 8)
        test = write_series(tmp_path / "b.csv", 8, lengths=(HORIZON,))
        flags = [*COLUMNS, "--task=forecast", f"--horizon={HORIZON}", f"--test-data={test}"]
        done = call("prepare", source, *flags, f"--out={tmp_path / 'set'}")
        assert f"found {HORIZON} steps; expected more than the horizon of {HORIZON}" in done.err


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("prepared")
    flags = [*COLUMNS, "--task=forecast", f"--horizon={HORIZON}", "--season=4", "--scaling=global"]
    done = call("prepare", write_series(place / "a.csv", 20), *flags, f"--out={place / 'set'}")
    assert done.code == 0, done.err
    return place / "set"


class TestWhatTrainingMayNotChange:
    @pytest.mark.parametrize(
        ("flag", "expected"),
        [
            ("--horizon=12", "--horizon: got 12; expected 3, with which"),
            ("--season=7", "--season: got 7; expected 4, with which"),
            ("--scaling=none", "--scaling: got 'none'; expected 'global', with which"),
            ("--transform=log", "--transform: got 'log'; expected 'none', with which"),
            ("--calendar=month", "--calendar: got 'month'; expected '', with which"),
            ("--origins=4", "--origins: got 4; expected 1, with which"),
            ("--split=hashed", "--split: got 'hashed'; expected 'time', with which"),
            ("--split-seed=4", "--split-seed: got 4; expected 0, with which"),
            ("--missing=mask", "--missing: got missing = 'mask'; expected none with prepared data"),
            ("--known-columns=area", "--known-columns: got known_columns = 'area'; expected none with prepared data"),
            ("--test-data=b.csv", "--test-data: got 'b.csv'; expected none with prepared data"),
            ("--task=tag", "--task: got 'tag'; expected 'forecast', for which"),
        ],
    )
    def test_is_refused_in_words(self, prepared, tmp_path, flag, expected):
        task = [] if flag.startswith("--task") else ["--task=forecast"]
        done = call("train", *task, f"--data={prepared}", flag, f"--run-dir={tmp_path / 'run'}")
        assert done.code == 2
        assert expected in done.err
        assert "expected none" in done.err or f"once more with {flag}" in done.err or "once more\n" in done.err
        assert done.err.count("\n") == 1
        assert not (tmp_path / "run" / "config.toml").exists()

    def test_what_it_has_is_taken_over(self, prepared):
        dataset = Dataset(prepared)
        config = dataset.adapt(Config().replace_flat({"task": "forecast", "split": "time", "season": 4}))
        task = config.task
        assert (task.horizon, task.season, task.scaling, config.data.split) == (HORIZON, 4, "global", "time")
        assert config.columns == ColumnsConfig(
            id_column="shop", time_column="month", target_columns="sales", input_columns="visits",
            known_columns="price", static_columns="area", category_columns="kind",
        )  # fmt: skip


@pytest.mark.parametrize("flag", ["--horizon=3", "--season=4", "--calendar=month", "--origins=2", "--split=time"])
def test_settings_of_forecasts_belong_to_forecasts(tmp_path, flag):
    source = write_series(tmp_path / "a.csv", 8)
    roles = [*ROLES[:2], "--label-column=kind", "--input-columns=visits"]
    done = call("prepare", source, *roles, "--task=classify", flag, f"--out={tmp_path / 'set'}")
    assert done.code == 2
    assert flag.partition("=")[0] in done.err
    assert done.err.count("\n") == 1


def test_what_is_written_says_how_series_are_cut(prepared):
    description = json.loads((prepared / "dataset.json").read_text())
    assert description["format_version"] == 3
    assert list(description["parts"]) == ["series"]
    assert description["split"]["kind"] == "time"
    assert description["sequences"]["settings"]["horizon"] == HORIZON
    lengths = dict(description["parts"]["series"]["lengths"])
    assert sum(lengths.values()) == description["parts"]["series"]["rows"] == 20, "each series once"
