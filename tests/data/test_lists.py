"""What a list is to a configuration: texts, paths, or arrays."""

import jaxrnn
from jaxrnn.data.tables.loading import load_sequences
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
