"""What forecasting reads besides: numbers known ahead, targets that are missing, and targets to go on from."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import jaxrnn
from jaxrnn.data.tables.loading import load_sequences, read_options
from jaxrnn.foundation.errors import DataError, UserError
from jaxrnn.settings.columns_config import ColumnsConfig
from jaxrnn.settings.config import Config
from jaxrnn.settings.task_config import TaskConfig

ROLES: dict[str, Any] = {"id_column": "unit", "time_column": "t", "target_columns": "y", "known_columns": ["p", "q"]}
COLUMNS: dict[str, list[Any]] = {
    "unit": ["a", "b", "a", "b"], "t": [2, 1, 1, 2], "y": [2.0, 3.0, 1.0, 4.0],
    "p": [20, 30, 10, 40], "q": [0.2, 0.3, 0.1, 0.4],
}  # fmt: skip


def config_of(task: str, **columns: Any) -> Config:
    roles = {key: ",".join(value) if isinstance(value, list) else value for key, value in ROLES.items()}
    if task != "forecast":
        roles["input_columns"] = roles.pop("known_columns")
    settings = TaskConfig(task=task)  # type: ignore[arg-type]
    return dataclasses.replace(Config(), task=settings, columns=ColumnsConfig(**(roles | columns)))


class TestKnownColumns:
    def test_they_are_a_field_of_every_step(self, tmp_path: Path) -> None:
        table = pa.table(COLUMNS)
        found = jaxrnn.read(table, **ROLES)
        assert found.steps["known"].names == ("p", "q")
        assert found.steps["known"].values.tolist() == [[10, 0.1], [20, 0.2], [30, 0.3], [40, 0.4]]
        assert repr(found) == "Sequences(2, of 2 to 2 steps: 1 targets; 2 known; times; ids)"
        lines = [",".join(map(str, row)) for row in zip(*COLUMNS.values(), strict=True)]
        (tmp_path / "steps.csv").write_text("\n".join([",".join(COLUMNS), *lines]))
        assert jaxrnn.read(tmp_path / "steps.csv", **ROLES) == found
        wide = {"unit": ["a", "b"], "t": [[1, 2], [1, 2]], "y": [[1.0, 2], [3, 4]], "p": [[10, 20], [30, 40]]}
        wide = wide | {"q": [[0.1, 0.2], [0.3, 0.4]]}
        assert jaxrnn.read(pa.table(wide), **ROLES) == found
        assert load_sequences(table, config_of("forecast")) == found

    def test_they_tell_sequences_apart(self) -> None:
        inputs = {"x": [0.0] * 4}
        for known, different in (({"p": [10] * 4, "q": [0] * 4}, 1), ({}, 2)):
            found = jaxrnn.read(pa.table(COLUMNS | inputs | known), **ROLES, input_columns="x")
            assert len(set(found.contents())) == different

    def test_lists_of_lists_have_several(self) -> None:
        table = pa.table({"y": [[1.0, 2.0]], "p": [[[1.0, 2.0], [3.0, 4.0]]]})
        found = jaxrnn.read(table, target_columns="y", known_columns="p")
        assert found.steps["known"].names == ("p.0", "p.1")
        assert found.steps["known"].values.tolist() == [[1, 2], [3, 4]]
        assert set(found.steps) == {"targets", "known"}

    @pytest.mark.parametrize("missing", ["error", "forward", "mask"])
    def test_missing_ones_are_as_inputs(self, missing: str) -> None:
        table = pa.table(COLUMNS | {"p": [None, 30, 10, 40]})
        if missing == "error":
            with pytest.raises(DataError, match=r"the table:1:4: found a missing value in 'p', the only one; .*=mask"):
                jaxrnn.read(table, **ROLES)
            return
        field = jaxrnn.read(table, **ROLES, missing=missing).steps["known"]
        if missing == "mask":
            assert field.names == ("p", "q", "p is missing", "q is missing")
            assert field.values[:2].tolist() == [[10, 0.1, 0, 0], [0, 0.2, 1, 0]]
        else:
            assert field.values[:2].tolist() == [[10, 0.1], [10, 0.2]]

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (
                {"known_columns": "y"},
                "known_columns: got 'y'; expected a column without another role; it has that",
            ),
            (
                {"input_columns": "p"},
                "known_columns: got 'p'; expected a column without another role; it has that",
            ),
            ({"known_columns": ["p", "p"]}, "known_columns: got .*; expected each column once"),
            ({"known_columns": "r"}, "found no column 'r'; expected one of .*; mend --known-columns"),
            ({"known_columns": "unit", "id_column": None, "time_column": None}, "found 'a'; expected a number"),
        ],
    )
    def test_wrong_ones_are_refused(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(UserError, match=message):
            jaxrnn.read(pa.table(COLUMNS), **(ROLES | options))
        with pytest.raises(UserError, match=r"known_columns: got .*; expected none beside text_column"):
            jaxrnn.read(pa.table({"x": ["a"], "y": [1]}), text_column="x", known_columns="y")


class TestMissingTargets:
    TABLE = pa.table(COLUMNS | {"y": [None, 3.0, 1.0, None]})

    def test_error_names_the_ways_out(self) -> None:
        message = "found a missing value in 'y', the first of 2; expected a number; give --missing=forward .*=mask"
        with pytest.raises(DataError, match=message):
            load_sequences(self.TABLE, config_of("forecast"))

    def test_forward_fills_them(self) -> None:
        found = load_sequences(self.TABLE, config_of("forecast", missing="forward"))
        assert found.steps["targets"].values.ravel().tolist() == [1, 1, 3, 3]
        first = pa.table(COLUMNS | {"y": [2.0, 3.0, None, 4.0]})
        with pytest.raises(DataError, match="the table:3:3: found a missing value before the first of its sequence"):
            load_sequences(first, config_of("forecast", missing="forward"))

    def test_mask_keeps_them_without_a_mark(self) -> None:
        field = load_sequences(self.TABLE, config_of("forecast", missing="mask")).steps["targets"]
        assert field.names == ("y",)
        np.testing.assert_array_equal(field.values[:, 0], [1, np.nan, 3, np.nan])

    @pytest.mark.parametrize("missing", ["error", "forward", "mask"])
    def test_other_tasks_refuse_them(self, missing: str) -> None:
        assert "targets_may_be_missing" not in read_options(config_of("regress"))
        with pytest.raises(DataError, match=r"in 'y', the first of 2; .*--missing is of inputs only"):
            load_sequences(self.TABLE, config_of("regress", missing=missing))

    @pytest.mark.parametrize("role", ["inputs", "targets"])
    def test_question_marks_of_monash_are_missing_values(self, role: str, tmp_path: Path) -> None:
        text = "@attribute series_name string\n@attribute start date\n@frequency daily\n@missing true\n@data\n"
        (tmp_path / "a.tsf").write_text(text + "T1:2024-01-01:1,?,3\n")
        roles: dict[str, Any] = {"target_columns": "values"} if role == "targets" else {}
        config = dataclasses.replace(Config(), task=TaskConfig(task="forecast"))
        for missing, expected in (("error", None), ("forward", [1, 1, 3]), ("mask", [1, np.nan, 3])):
            columns = ColumnsConfig(**roles, missing=missing)  # type: ignore[arg-type]
            chosen = dataclasses.replace(config, columns=columns)
            if expected is None:
                with pytest.raises(DataError, match=r"a.tsf:6:3: found a missing value in 'values', .*=forward"):
                    load_sequences(tmp_path / "a.tsf", chosen)
                continue
            found = load_sequences(tmp_path / "a.tsf", chosen)
            assert set(found.steps) == {role, "times"}
            values = found.steps[role].values
            if role == "inputs" and missing == "mask":
                assert values.tolist() == [[1, 0], [0, 1], [3, 0]]
            else:
                np.testing.assert_array_equal(values[:, 0], expected)


class TestAnswers:
    def test_a_forecast_needs_its_history(self) -> None:
        table = pa.table({key: value for key, value in COLUMNS.items() if key != "y"})
        with pytest.raises(DataError, match="found no column 'y'"):
            load_sequences(table, config_of("forecast"), with_answers=False)
        assert "targets" not in load_sequences(table, config_of("regress"), with_answers=False).steps

    def test_other_answers_may_be_missing(self) -> None:
        found = load_sequences(pa.table(COLUMNS), config_of("forecast", group_column="g"), with_answers=False)
        assert found.steps["targets"].values.ravel().tolist() == [1, 2, 3, 4]
        assert "groups" not in found.rows

    def test_known_columns_are_of_forecasts(self) -> None:
        message = r"known_columns: got 'p'; expected none with task = regress: they are inputs, for --input-columns"
        with pytest.raises(UserError, match=message):
            config_of("regress", known_columns="p")
