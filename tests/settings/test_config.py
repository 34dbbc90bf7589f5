"""The configuration: where a value comes from, and what is said of one that no field takes."""

import dataclasses
import inspect
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrnn import train
from jaxrnn.console.command_line import load_config, parse
from jaxrnn.foundation.errors import UserError
from jaxrnn.settings import toml_files as config_module
from jaxrnn.settings.checking import checked, ranges_wait
from jaxrnn.settings.columns_config import ColumnsConfig
from jaxrnn.settings.config import CELLS, FIELD_TYPES, Config, ModelConfig, OptimizerConfig, TrainingConfig
from jaxrnn.settings.data_config import DataConfig, ReaderConfig
from jaxrnn.settings.task_config import FIGURES_OF_TASK, OF_FORECASTS
from jaxrnn.settings.toml_files import read_toml, recipe_names, to_toml

INFINITY = float("inf")


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def parse_settings(*flags: str, default: Config | None = None) -> Config:
    start = train.TrainCommand(settings=default or Config())
    return parse(train.TrainCommand, flags, program="train", default=start).settings


class TestPrecedence:
    def test_each_source_covers_the_one_before(self, tmp_path):
        recipe = read_toml(config_module.recipe_directory() / "gru.toml")
        assert recipe["schedule"] == "cosine", "the recipe of the cell has to set something for this test"
        assert "momentum" not in recipe
        file = write(tmp_path / "my.toml", "hidden_size = 7\nepochs = 11\nmomentum = 0.5\n")
        loaded = load_config("gru", file).check()
        chosen = parse_settings("--epochs=13", default=loaded)
        assert chosen.training.accuracy_epsilon == TrainingConfig.accuracy_epsilon  # a default
        assert chosen.training.batching == recipe["batching"] != TrainingConfig.batching  # the recipe's
        assert chosen.model.hidden_size == 7 != recipe["hidden_size"]  # --config
        assert chosen.optimizer.momentum == 0.5  # --config over a default
        assert chosen.training.epochs == 13  # the flag over --config
        assert chosen.model.cell == "gru"

    def test_cell_of_the_file_chooses_the_recipe(self, tmp_path, monkeypatch):
        recipes = tmp_path / "recipes"
        recipes.mkdir()
        for cell, size in (("rnn", 3), ("lstm", 4), ("gru", 5)):
            write(recipes / f"{cell}.toml", f'cell = "{cell}"\nhidden_size = {size}\n')
        monkeypatch.setattr("jaxrnn.console.command_line.recipe_directory", lambda: recipes)
        file = write(tmp_path / "my.toml", 'cell = "gru"\n')
        assert load_config(None, None).check().model.hidden_size == 4
        assert load_config(None, file).check().model == ModelConfig(cell="gru", hidden_size=5)
        assert load_config("rnn", file).check().model == ModelConfig(cell="rnn", hidden_size=3)

    def test_main_hands_on_what_the_sources_say(self, tmp_path, monkeypatch):
        seen = {}
        monkeypatch.setattr(
            "jaxrnn.commands.train_run.train", lambda config, run_dir, **rest: seen.update(config=config)
        )
        file = write(tmp_path / "my.toml", "hidden_size = 7\nepochs = 11\n")
        arguments = ["--cell", "rnn", f"--config={file}", "--epochs=13", "--no-shuffle", f"--run-dir={tmp_path / 'r'}"]
        assert train.main(arguments) == 0
        chosen = seen["config"]
        assert (chosen.model.cell, chosen.model.hidden_size, chosen.training.epochs) == ("rnn", 7, 13)
        assert not chosen.training.shuffle

    def test_recipes_load_from_anywhere(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert {"rnn", "lstm", "gru", "smoke", "tutorial"} <= set(recipe_names())
        for name in recipe_names():
            assert (
                load_config(None, name).check().to_flat().items()
                >= read_toml(config_module.recipe_directory() / f"{name}.toml").items()
            )
        for cell in CELLS:
            assert load_config(cell).check().model.cell == cell

    def test_a_file_comes_before_a_recipe_of_its_name_and_a_directory_does_not(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Path("smoke").mkdir()
        assert load_config(None, "smoke").check().training.epochs == 20
        Path("smoke").rmdir()
        write(tmp_path / "smoke", "epochs = 21\n")
        assert load_config(None, "smoke").check().training.epochs == 21


class TestNames:
    def test_every_field_is_a_key_and_a_flag(self, capsys):
        with pytest.raises(SystemExit):
            parse_settings("--help")
        text = capsys.readouterr().out
        sections = [f.default_factory for f in dataclasses.fields(Config)]
        names = [field.name for section in sections for field in dataclasses.fields(section)]
        assert len(names) == len(set(names)), "two sections have a field of one name"
        assert set(names) == set(FIELD_TYPES) == set(Config().to_flat())
        for name in names:
            assert f"--{name.replace('_', '-')}" in text

    @pytest.mark.parametrize("section", [field.default_factory for field in dataclasses.fields(Config)])
    def test_every_field_can_be_set_by_its_flag_and_by_its_key(self, section, tmp_path):
        other_values: dict[str, Any] = {
            "cell": "rnn", "nonlinearity": "relu", "proj_size": 3, "dropout": 0.5, "delimiter": ";",
            "blank_lines": "skip", "column": "x", "data": "x.csv", "split": "random",
            "split_fractions": (0.5, 0.25, 0.25), "normalizer": "none", "optimizer": "sgd", "schedule": "linear",
            "momentum": 0.25, "target": "every", "loss": "huber", "monitor": "mae", "batching": "pack",
            "compute_dtype": "bfloat16", "split_seed": 7, "backend": "scan", "mesh": "data:2",
            "validation_data": "v.ts", "test_data": "t.ts", "task": "tag", "readout": "mean",
            "class_weights": "balanced", "missing": "mask", "comment": "#", "decimal": ",",
            "id_column": "id", "text_column": "x", "tokens": "word", "row_end": "nan",
            "time_column": "t", "label_column": "c", "group_column": "g", "input_columns": "a,b",
            "category_columns": "a,b", "target_columns": "a,b", "known_columns": "a,b", "static_columns": "a,b",
            "quantiles": "0.2,0.5", "scaling": "global", "transform": "log", "calendar": "month,hour",
        }  # fmt: skip
        beside = dict.fromkeys(
            ("validation_data", "test_data", "bidirectional", "readout", "class_weights", "missing"), "classify"
        ) | dict.fromkeys(("known_columns", *OF_FORECASTS), "forecast")
        for field in dataclasses.fields(section):
            before = field.default
            value = other_values.get(field.name, not before if isinstance(before, bool) else before)
            value = before + 1 if value is before else value
            assert value != before
            name = field.name.replace("_", "-")
            if isinstance(value, bool):
                flags = [f"--{name}" if value else f"--no-{name}"]
            else:
                flags = [f"--{name}", *map(str, value)] if isinstance(value, tuple) else [f"--{name}={value}"]
            task = {"task": beside[field.name]} if field.name in beside else {}
            from_flag = parse_settings(*flags, *(f"--task={name}" for name in task.values())).to_flat()
            wanted = Config().replace_flat({field.name: value} | task)
            file = write(tmp_path / f"{field.name}.toml", to_toml(wanted))
            from_key = Config().replace_flat(read_toml(file)).to_flat()
            plain = list(value) if isinstance(value, tuple) else value
            assert from_flag[field.name] == from_key[field.name] == plain, field.name
            assert type(from_flag[field.name]) is type(before if plain is value and before is not None else plain)

    def test_unknown_key_suggests_the_nearest(self, tmp_path):
        file = write(tmp_path / "bad.toml", "# a comment\nepochs = 5\nhiden_size = 8\n")
        with pytest.raises(UserError) as caught:
            load_config("rnn", file)
        assert str(caught.value) == f"{file}:3: hiden_size: unknown key; did you mean hidden_size?"

    def test_unknown_key_like_no_other_lists_all(self, tmp_path):
        with pytest.raises(UserError, match=r":1: zzz: unknown key; known keys: cell, hidden_size, .*seed"):
            read_toml(write(tmp_path / "bad.toml", "zzz = 1\n"))

    @pytest.mark.parametrize(
        ("flag", "message"),
        [
            ("--learning-rte=0.1", "--learning-rte: unknown flag; did you mean --learning-rate?"),
            ("--hiden_size=3", "--hiden_size: unknown flag; did you mean --hidden-size?"),
            ("--no-shufle", "--no-shufle: unknown flag; did you mean --no-shuffle?"),
            ("--zzz", "--zzz: unknown flag; --help lists them"),
            ("-x", "'-x': unexpected; expected flags such as --config=.."),
            ("rows.csv", "'rows.csv': unexpected; expected flags such as --config=.."),
        ],
    )
    def test_unknown_flag_suggests_the_nearest(self, tmp_path, monkeypatch, capsys, flag, message):
        monkeypatch.chdir(tmp_path)
        assert train.main([flag]) == 2
        assert capsys.readouterr().err == f"error: {message}\n"
        assert not list(tmp_path.iterdir())


# Key, value, and what the message has to say of the values that are allowed.
BAD_VALUES: list[tuple[str, Any, str]] = [
    ("hidden_size", 0, "1 to 2147483647"),
    ("hidden_size", 1.5, "a whole number"),
    ("hidden_size", "8", "a whole number"),
    ("hidden_size", True, "a whole number"),
    ("num_layers", 0, "1 to 10000"),
    ("dropout", 1.5, "0 or more, less than 1"),
    ("dropout", 1.0, "0 or more, less than 1"),
    ("dropout", -0.1, "0 or more, less than 1"),
    ("dropout", float("nan"), "0 or more, less than 1"),
    ("dropout", "much", "a number"),
    ("proj_size", 32, "0 or more, less than hidden_size = 32"),
    ("proj_size", -1, "0 or more, less than hidden_size = 32"),
    ("cell", "lstn", "did you mean 'lstm'?"),
    ("cell", 1, "one of rnn, lstm, gru"),
    ("cell", ["lstm"], "one of rnn, lstm, gru"),
    ("bias", 1, "true or false"),
    ("bias", "yes", "true or false"),
    ("data", 7, "a text"),
    ("data", "caf\udce9.csv", "in UTF-8"),
    ("data", "", "not standard input"),
    ("data", "-", "not standard input"),
    ("column", 7, "a text"),
    ("split", "chance", "one of grouped, hashed, random, tutorial"),
    ("split_fractions", [0.5, 0.5, 0.5], "sum to 1"),
    ("split_fractions", [0.5, 0.5], "a list of 3 numbers"),
    ("split_fractions", [0.0, 0.5, 0.5], "the first above 0"),
    ("split_fractions", [1.5, -0.25, -0.25], "from 0 to 1"),
    ("split_fractions", 0.5, "a list of 3 numbers"),
    ("split_block", 2, "3 to 9223372036854775807"),
    ("divisor", 0.0, "a positive number"),
    ("divisor", INFINITY, "a positive number"),
    ("learning_rate", -1.0, "a positive number"),
    ("learning_rate", 0.0, "a positive number"),
    ("learning_rate", float("nan"), "a positive number"),
    ("learning_rate", INFINITY, "a positive number"),
    ("momentum", 1.0, "0 or more, less than 1"),
    ("weight_decay", -0.1, "0 or more"),
    ("clip_norm", -1.0, "0 or more"),
    ("warmup_epochs", 300, "less than epochs = 300"),
    ("warmup_epochs", -1, "0 or more"),
    ("epochs", 0, "1 to 2147483647"),
    ("epochs", 2**31, "1 to 2147483647"),
    ("batch_size", 0, "1 to 2147483647"),
    ("num_buckets", 0, "1 to 2147483647"),
    ("patience", -1, "0 to 2147483647"),
    ("patience", 2**31, "0 to 2147483647"),
    ("accuracy_epsilon", 0.0, "a positive number"),
    ("seed", -1, "0 to 4294967295"),
    ("seed", 2**32, "0 to 4294967295"),
    ("checkpoint_seconds", -1.0, "0 or more"),
    ("checkpoint_seconds", INFINITY, "0 or more"),
    ("delimiter", "ab", "one ASCII character"),
    ("delimiter", "5", "one ASCII character"),
    ("delimiter", ".", "one ASCII character"),
    ("blank_lines", "drop", "one of error, skip"),
    ("max_row_length", 0, "1 to 9223372036854775807"),
    ("max_bytes", 0, "1 to 9223372036854775807"),
]


class TestValues:
    @pytest.mark.parametrize(("key", "value", "expected"), BAD_VALUES)
    def test_impossible_value_names_key_value_and_range(self, key, value, expected):
        with pytest.raises(UserError) as caught:
            Config().replace_flat({key: value})
        found, _, rest = str(caught.value).partition("; expected ")
        assert found == f"{key}: got {value!r}"
        assert expected in rest

    def test_impossible_value_within_a_list_or_beyond_every_float(self):
        with pytest.raises(UserError, match="split_fractions: got 'a'; expected a number"):
            Config().replace_flat({"split_fractions": [0.5, "a", 0.5]})
        with pytest.raises(UserError, match="learning_rate: got inf; expected a positive number"):
            Config().replace_flat({"learning_rate": 10**400})

    @pytest.mark.parametrize("cell", ["rnn", "gru"])
    def test_only_lstm_projects(self, cell):
        with pytest.raises(UserError, match="proj_size: got 4; expected 0: only lstm projects"):
            Config().replace_flat({"cell": cell, "proj_size": 4})

    @pytest.mark.parametrize(
        ("text", "line", "message"),
        [
            ("hidden_size = 0\n", 1, "hidden_size: got 0; expected 1 to 2147483647"),
            ("# one\n\nlearning_rate = nan\n", 3, "learning_rate: got nan; expected a positive number"),
            ("epochs = 5\nlearning_rate = inf\n", 2, "learning_rate: got inf"),
            ("epochs = 5\n dropout = 1.5 # much\n", 2, "dropout: got 1.5; expected 0 or more, less than 1"),
            ('"seed" = -1\n', 1, "seed: got -1; expected 0 to 4294967295"),
            ('cell = "gru"\nproj_size = 4\n', 2, "proj_size: got 4; expected 0: only lstm projects"),
            ("split_fractions = [\n 0.5,\n 0.5,\n 0.5]\n", 1, "split_fractions: got [0.5, 0.5, 0.5]"),
            ("warmup_epochs = 9\nepochs = 9\n", 1, "warmup_epochs: got 9; expected less than epochs = 9"),
            ("epochs = 2\nmax_bytes = 0\n", 2, "max_bytes: got 0; expected 1 to"),
            ("epochs = '5'\n", 1, "epochs: got '5'; expected a whole number"),
            ("epochs = 2024-01-01\n", 1, "expected a whole number"),
        ],
    )
    def test_bad_value_of_a_file_names_file_and_line(self, tmp_path, text, line, message):
        file = write(tmp_path / "bad.toml", text)
        with pytest.raises(UserError) as caught:
            load_config("lstm" if "gru" not in text else None, file).check()
        assert str(caught.value).startswith(f"{file}:{line}: ")
        assert message in str(caught.value)

    def test_bad_flag_is_not_blamed_on_a_file(self, tmp_path):
        file = write(tmp_path / "fine.toml", 'cell = "rnn"\n')
        with pytest.raises(UserError) as caught:
            load_config("lstn", file)
        assert str(caught.value).startswith("cell: got 'lstn'")

    @pytest.mark.parametrize(
        ("flags", "message"),
        [
            (["--hidden-size=0"], "--hidden-size: got 0; expected 1 to 2147483647"),
            (["--hidden-size=1.5"], "--hidden-size: got '1.5'; expected a whole number"),
            (["--hidden-size=1_000"], "--hidden-size: got '1_000'; expected a whole number"),
            (["--hidden-size=True"], "--hidden-size: got 'True'; expected a whole number"),
            (["--hidden-size="], "--hidden-size: got ''; expected a whole number"),
            (["--seed=" + "9" * 5000], f"--seed: got '{'9' * 76}...; expected a whole number"),
            (["--hidden-size"], "--hidden-size: got none; expected a value"),
            (["--hidden-size", "--epochs=3"], "--hidden-size: got none; expected a value"),
            (["--learning-rate=nan"], "--learning-rate: got nan; expected a positive number"),
            (["--learning-rate=-1"], "--learning-rate: got -1.0; expected a positive number"),
            (["--learning_rate", "-1"], "--learning-rate: got -1.0; expected a positive number"),
            (["--learning-rate=fast"], "--learning-rate: got 'fast'; expected a number"),
            (["--dropout=1.5"], "--dropout: got 1.5; expected 0 or more, less than 1"),
            (
                ["--split-fractions", "0.5", "0.5", "0.5"],
                "--split-fractions: got [0.5, 0.5, 0.5]; expected three",
            ),
            (["--split-fractions", "0.5", "0.5"], "--split-fractions: got 0.5 0.5; expected 3 values"),
            (["--split-fractions", "0.5", "half", "0.5"], "--split-fractions: got 'half'; expected a number"),
            (["--cell=gru", "--proj-size=4"], "--proj-size: got 4; expected 0: only lstm projects"),
            (["--proj-size=32"], "--proj-size: got 32; expected 0 or more, less than hidden_size = 32"),
            (["--optimizer=adm"], "expected one of sgd, adam, adamw, rmsprop; did you mean 'adam'?"),
            (["--cell=lstn"], "--cell: got 'lstn'; expected one of rnn, lstm, gru; did you mean 'lstm'?"),
            (["--shuffle=maybe"], "--shuffle: got 'maybe'; expected no value: --shuffle or --no-shuffle alone"),
            (["--run-dir="], "--run-dir: got ''; expected the name of a directory"),
            (["--seed=3", "--seed=-3"], "--seed: got -3; expected 0 to 4294967295"),
            (["--tbptt=5", "--batching=pack"], "--batching: got 'pack'; expected auto, bucket or pad with tbptt = 5"),
            (["--epochs=5", "--warmup-epochs=9"], "--warmup-epochs: got 9; expected less than epochs = 5"),
            (["--ensemble=3", "--seed=4294967295"], "--ensemble: got 3; expected a last seed of at most 4294967295"),
        ],
    )
    def test_bad_flag_names_itself_its_value_and_the_range(self, tmp_path, monkeypatch, capsys, flags, message):
        monkeypatch.chdir(tmp_path)
        assert train.main(flags) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: --")
        assert message in said
        assert said.count("\n") == 1
        assert not list(tmp_path.iterdir())


class TestPairs:
    """Values that fit, or do not, only together with one from elsewhere."""

    @pytest.mark.parametrize(
        ("text", "flags"),
        [
            ("proj_size = 40\n", ["--hidden-size=64"]),
            ('cell = "gru"\nproj_size = 4\n', ["--cell=lstm"]),
            ("warmup_epochs = 500\n", ["--epochs=1000"]),
            ('tbptt = 5\nbatching = "pack"\n', ["--batching=pad"]),
            ('tbptt = 5\nbatching = "pack"\n', ["--tbptt=0"]),
            ("ensemble = 4\nseed = 4294967295\n", ["--seed=7"]),
            ("hidden_size = 0\n", ["--hidden-size=8"]),
        ],
    )
    def test_a_flag_makes_a_files_value_fit(self, tmp_path, text, flags):
        file = write(tmp_path / "my.toml", text)
        loaded = load_config(None, file)
        with pytest.raises(UserError, match=r"my\.toml:\d: "):
            loaded.check()
        parsed = parse(train.TrainCommand, flags, program="train", default=train.TrainCommand(settings=loaded.config))
        assert parsed.settings == Config().replace_flat(parsed.settings.to_flat())

    @pytest.mark.parametrize(
        ("text", "flags", "message"),
        [
            (
                "\nproj_size = 16\n",
                ["--hidden-size=8"],
                "my.toml:2: proj_size: got 16; expected 0 or more, less",
            ),
            (
                "hidden_size = 8\n",
                ["--proj-size=8"],
                "--proj-size: got 8; expected 0 or more, less",
            ),
            ("warmup_epochs = 9\n", ["--epochs=9"], "my.toml:1: warmup_epochs: got 9; expected less than epochs = 9"),
            ('batching = "pack"\n', ["--tbptt=3"], "my.toml:1: batching: got 'pack'; expected auto, bucket or pad"),
        ],
    )
    def test_what_does_not_fit_is_blamed_where_it_stands(self, tmp_path, monkeypatch, capsys, text, flags, message):
        monkeypatch.chdir(tmp_path)
        write(tmp_path / "my.toml", text)
        assert train.main(["--config=my.toml", *flags]) == 2
        assert capsys.readouterr().err.startswith(f"error: {message}")
        assert [path.name for path in tmp_path.iterdir()] == ["my.toml"]

    def test_ranges_are_checked_again_afterwards(self):
        with ranges_wait():
            config = Config(ModelConfig(hidden_size=0))
        with pytest.raises(UserError, match="hidden_size: got 0"):
            checked(config)
        with pytest.raises(UserError, match="hidden_size: got 0"):
            ModelConfig(hidden_size=0)


class TestFiles:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("[model]\nhidden_size = 3\n", ":1: model: got a table; expected keys outside tables"),
            ("epochs = 3\n\n[[model]]\nhidden_size = 3\n", ":3: model: got a table"),
            ("model.hidden_size = 3\n", ":1: model: got a table"),
            ("hidden_size = {a = 3}\n", ":1: hidden_size: got {'a': 3}; expected a whole number"),
            ("hidden_size = [3]\n", ":1: hidden_size: got [3]; expected a whole number"),
            ("hidden_size = \n", ":1:15: not a TOML file: Invalid value; expected lines such as"),
            ("# one\nhidden_size 3\n", ":2:13: not a TOML file: Expected '='"),
            ("epochs = [1,\n", ":2: not a TOML file: "),
            ("epochs = 3\nepochs = 4\n", ":2:11: not a TOML file: Cannot overwrite a value"),
            ("epochs = 0x" + "f" * 9000 + "\n", ":1: epochs: got a huge number; expected a whole number of 64 bits"),
            ("cell = 0x" + "f" * 9000 + "\n", ":1: cell: got a huge number; expected one of rnn, lstm, gru"),
            (f"'{chr(27)}x' = 1\n", ":1:2: not a TOML file: Found invalid character"),
            ('"\\u001b" = 1\n', ":1: \\x1b: unknown key"),
            ("cell = ''\n", ":1: cell: got ''; expected one of rnn, lstm, gru"),
            (f"cell = '{'x' * 999}'\n", f":1: cell: got '{'x' * 76}...; expected one of"),
            (f"seed = {'9' * 5000}\n", ": not a TOML file: "),
            (f"seed = {'[' * 5000}\n", ": not a TOML file: "),
        ],
    )
    def test_file_that_is_no_flat_toml(self, tmp_path, text, message):
        file = write(tmp_path / "bad.toml", text)
        with pytest.raises(UserError) as caught:
            load_config(None, file).check()
        assert str(caught.value).startswith(f"{file}{message}")

    def test_file_that_cannot_be_read(self, tmp_path):
        for path in (tmp_path / "missing.toml", tmp_path, tmp_path / ("x" * 300)):
            with pytest.raises(UserError) as caught:
                load_config(None, str(path))
            assert str(caught.value).startswith(f"{path}: ")
            assert "the recipes: classify, forecast, gru, lstm, regress, rnn" in str(caught.value)

    def test_file_that_is_not_utf8(self, tmp_path):
        path = tmp_path / "latin.toml"
        path.write_bytes(b'data = "caf\xe9.csv"\n')
        with pytest.raises(UserError, match=r"latin\.toml:1: not a TOML file: got bytes that are not UTF-8"):
            load_config(None, str(path))

    def test_command_refuses_a_bad_file_with_2(self, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        write(tmp_path / "bad.toml", "hidden_size = 0\n")
        assert train.main(["--config=bad.toml"]) == 2
        assert capsys.readouterr().err == "error: bad.toml:1: hidden_size: got 0; expected 1 to 2147483647\n"
        assert not Path("runs").exists()


FINITE = st.floats(1e-30, 1e30)
SHARES = st.tuples(st.integers(1, 98), st.integers(1, 98)).filter(lambda pair: sum(pair) < 100)
# Anything a path may hold but lone surrogates, which no TOML file can.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
PATHS = TEXTS.filter(lambda text: text not in ("", "-"))


@st.composite
def configs(draw: st.DrawFn) -> Config:
    cell = draw(st.sampled_from(["rnn", "lstm", "gru"]))
    hidden_size = draw(st.integers(1, 10**6))
    first, second = draw(SHARES)
    epochs = draw(st.integers(1, 2**31 - 1))
    return Config(
        ModelConfig(
            cell,
            hidden_size=hidden_size,
            num_layers=draw(st.integers(1, 9)),
            nonlinearity=draw(st.sampled_from(["tanh", "relu"])),
            bias=draw(st.booleans()),
            dropout=draw(st.floats(0, 1, exclude_max=True)),
            proj_size=draw(st.integers(0, hidden_size - 1)) if cell == "lstm" else 0,
        ),
        DataConfig(
            draw(PATHS),
            split=draw(st.sampled_from(["grouped", "random", "tutorial"])),
            split_fractions=(first / 100, second / 100, 1 - (first + second) / 100),
            split_block=draw(st.integers(3, 10**9)),
            normalizer=draw(st.sampled_from(["standard", "divide", "none"])),
            divisor=draw(FINITE),
        ),
        ReaderConfig(
            draw(st.sampled_from([",", ";", "\t", "|", " ", '"', "\\"])),
            header=draw(st.booleans()),
            blank_lines=draw(st.sampled_from(["error", "skip"])),
            column=draw(st.none() | TEXTS),
            max_row_length=draw(st.integers(1, 2**62)),
            max_bytes=draw(st.integers(1, 2**62)),
        ),
        ColumnsConfig(
            id_column=draw(st.none() | TEXTS),
            input_columns=draw(st.sampled_from(["", "a", "a,b", 'x", y'])),
            missing=draw(st.sampled_from(["error", "forward"])),
            comment=draw(TEXTS),
            skip_lines=draw(st.integers(0, 9)),
        ),
        optimizer=OptimizerConfig(
            draw(st.sampled_from(["sgd", "adam", "adamw", "rmsprop"])),
            learning_rate=draw(FINITE),
            schedule=draw(st.sampled_from(["constant", "cosine", "linear"])),
            warmup_epochs=draw(st.integers(0, epochs - 1)),
            momentum=draw(st.floats(0, 1, exclude_max=True)),
            weight_decay=draw(FINITE),
            clip_norm=draw(st.just(0.0) | FINITE),
        ),
        training=TrainingConfig(
            epochs,
            batch_size=draw(st.integers(1, 10**9)),
            target=draw(st.sampled_from(["last", "every"])),
            loss=draw(st.sampled_from(["mse", "mae", "huber"])),
            shuffle=draw(st.booleans()),
            num_buckets=draw(st.integers(1, 99)),
            patience=draw(st.integers(0, 2**31 - 1)),
            monitor=draw(st.sampled_from(FIGURES_OF_TASK["next"])),
            accuracy_epsilon=draw(FINITE),
            seed=draw(st.integers(0, 2**32 - 1)),
            checkpoint_seconds=draw(st.just(0.0) | FINITE),
            tensorboard=draw(st.booleans()),
        ),
    )


@settings(max_examples=100, deadline=None)
@given(configs())
def test_every_valid_configuration_survives_its_toml_file(tmp_path_factory, config):
    file = tmp_path_factory.getbasetemp() / "config.toml"
    file.write_text(to_toml(config), encoding="utf-8", newline="")
    assert Config().replace_flat(read_toml(file)) == config
    assert tomllib.loads(file.read_text(encoding="utf-8")) == {
        key: value for key, value in config.to_flat().items() if value is not None
    }
    assert Config().replace_flat(config.to_flat()) == config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"quantiles": "0.1,0.9"}, "0.5 among them"),
        ({"quantiles": "0.9,0.5"}, "rising numbers"),
        ({"quantiles": "0.5,0.5"}, "rising numbers"),
        ({"quantiles": "0.5,nan"}, "rising numbers"),
        ({"quantiles": "0.5,1"}, "between 0 and 1"),
        ({"quantiles": ""}, "rising numbers"),
        ({"calendar": "month,moon"}, "some of month"),
        ({"horizon": -1}, "1 to 10000"),
        ({"horizon": 10_001}, "1 to 10000"),
        ({"origins": 0}, "1 to"),
        ({"loss": "huber"}, "pinball, mae or mse"),
        ({"bidirectional": True}, "false with task = forecast"),
        ({"target": "every"}, "last with task = forecast"),
        ({"monitor": "mae"}, "one of loss, mase"),
        ({"task": "classify", "horizon": 3}, "0 with task = classify"),
        ({"task": "regress", "loss": "pinball"}, "mse, mae or huber"),
        ({"task": "tag", "split": "time"}, "another one but with task = forecast"),
    ],
)
def test_what_forecasts_cannot_be_is_refused(settings, message):
    with pytest.raises(UserError, match=message):
        Config().replace_flat({"task": "forecast", **settings})


def test_what_is_said_of_a_group_of_flags_is_what_its_class_says():
    """Standing in one docstring, it is not read from the source of all of them at every start."""
    said = inspect.getdoc(Config)
    for field in dataclasses.fields(Config):
        assert f"  {field.name}: {inspect.getdoc(type(getattr(Config(), field.name)))}" in said
