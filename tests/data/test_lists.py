"""What a list is to a configuration: texts, paths, or arrays."""

import numpy as np
import pytest

import jaxrnn
from jaxrnn.data.tables.loading import load_sequences
from jaxrnn.foundation.errors import UserError
from jaxrnn.settings.config import Config


def test_a_list_of_texts_is_read_as_their_column(tmp_path):
    (tmp_path / "texts.csv").write_text("said,meant\nso good,yes\nbad,no\n")
    for tokens in ("character", "word"):
        columns = {"task": "classify", "text_column": "said", "tokens": tokens, "label_column": "meant"}
        config = Config().replace_flat(columns)
        of_file = load_sequences(str(tmp_path / "texts.csv"), config)
        of_list = load_sequences(["so good", "bad"], config, with_answers=False)
        assert of_list.steps == of_file.steps


def test_a_list_of_paths_has_the_configurations_columns(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text(f"unit,speed,state\n{name},1.5,up\n{name},2.5,up\n")
    columns = {"task": "classify", "id_column": "unit", "label_column": "state"}
    paths = [str(tmp_path / "a.csv"), tmp_path / "b.csv"]
    sequences = load_sequences(paths, Config().replace_flat(columns))
    assert sequences == jaxrnn.read(paths, id_column="unit", label_column="state")
    assert sequences.rows["labels"].texts() == ["up", "up"]


def test_a_list_of_arrays_has_no_columns():
    config = Config().replace_flat({"task": "classify", "id_column": "unit", "label_column": "state"})
    assert load_sequences([[1.0, 2.0], [3.0]], config, with_answers=False) == jaxrnn.read([[1.0, 2.0], [3.0]])


def test_labels_in_a_list_are_those_of_a_table():
    labels = jaxrnn.read([[1.0]] * 5, labels=[True, np.bool_(False), 2.0, np.float32(0.5), 3]).rows["labels"]
    assert labels.texts() == ["true", "false", "2", "0.5", "3"]
    assert jaxrnn.read([[1.0]] * 2, labels=["nan", "2.0"]).rows["labels"].texts() == ["nan", "2.0"]


@pytest.mark.parametrize("lost", [None, float("nan"), np.datetime64("NaT", "D"), "", " ", ["a"], np.zeros(2)])
def test_a_label_that_is_missing_is_no_class(lost):
    with pytest.raises(UserError, match=r"^labels 1: got .*; expected a text or a number"):
        jaxrnn.read([[1.0], [2.0]], labels=["a", lost])


def test_labels_are_a_list():
    with pytest.raises(UserError, match=r"^labels: got 'int'; expected 1, one for each array"):
        jaxrnn.read([[1.0]], labels=3)


@pytest.mark.parametrize(
    ("array", "found"), [(np.ma.array([1.0, 2.0], mask=[0, 1]), "masked values"), ([1e300], "values beyond float32")]
)
def test_arrays_hold_a_number_at_every_step(array, found):
    with pytest.raises(UserError, match=rf"array 0: got '?{found}"):
        jaxrnn.read([array])


def test_sequences_without_a_step_do_not_train():
    with pytest.raises(UserError, match="column '0': found no training values"):
        jaxrnn.fit([np.zeros((0, 1))] * 2, task="next", progress=False)
