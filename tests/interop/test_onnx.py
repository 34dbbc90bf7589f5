"""Models as ONNX: onnxruntime against the models' own predictions, whatever they read and predict."""

import json
import sys

import numpy as np
import pytest
from made_models import draw_settings, make_model

from jaxrnn.data.series.calendar import CYCLES, calendar_features
from jaxrnn.evaluation.trained_model import TrainedModel
from jaxrnn.foundation.errors import UserError
from jaxrnn.interop.exporting import calendar_program, checking, onnx_graph, programs, samples
from jaxrnn.interop.exporting.onnx_model import METADATA_KEY, OnnxRunner, to_onnx
from jaxrnn.interop.exporting.onnx_ops import OnnxOps
from jaxrnn.interop.exporting.signature import signature_of

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


TOLERANCE = 1e-5
SHORT = np.array([1, 2, 3, 4, 5, 6, 7, 8])  # one padded length, so one program
MIXED = np.array([1, 2, 3, 5, 8, 40])

TASKS = {
    "next": ({"task": "next", "cell": "lstm"}, {}),
    "next of several": ({"task": "next", "cell": "gru", "target_columns": "y0,y1", "target": "every"}, {"targets": 2}),
    "classify": ({"task": "classify", "cell": "lstm", "bidirectional": True, "num_layers": 2}, {}),
    "regress": ({"task": "regress", "cell": "gru", "readout": "mean", "bidirectional": True}, {"targets": 2}),
    "tag": ({"task": "tag", "cell": "rnn", "bidirectional": True, "missing": "mask"}, {}),
    "forecast": (
        {"task": "forecast", "loss": "pinball", "horizon": 3, "season": 4, "calendar": "month,week", "missing": "mask"},
        {"targets": 2, "known": 1},
    ),
}


def model_of(task: str, *, seed: int = 0, **settings) -> TrainedModel:
    given, columns = TASKS[task]
    columns = columns or ({"inputs": 2} if task != "next" else {})
    return make_model({"hidden_size": 4, **given, **settings}, seed=seed, **columns)


def compare(model: TrainedModel, lengths: np.ndarray, *, codes: bool = False, seed: int = 0) -> float:
    """Returns the difference that the check of the command finds."""
    run = OnnxRunner(to_onnx(model, codes=codes))
    checked = checking.check(model, run, codes=codes, tolerance=TOLERANCE, lengths=lengths, seed=seed)
    return checked.difference


def compare_drawn(number: int, copies: int, lengths: np.ndarray) -> list[float]:
    """Compares models of one drawn configuration with several draws of weights: they share compiled programs."""
    settings, columns = draw_settings(np.random.default_rng(number))
    found = []
    for seed in range(copies):
        try:
            found.append(compare(make_model(settings, seed=seed, **columns), lengths, codes=bool(seed % 2), seed=seed))
        except UserError as error:
            raise AssertionError(f"{settings}, {columns}, seed {seed}: {error}") from error
    return found


@pytest.mark.parametrize("number", [0, 1, 2, *(pytest.param(number, marks=pytest.mark.slow) for number in (3, 4, 5))])
def test_random_models_agree(number):
    compare_drawn(number, 2, SHORT)


@pytest.mark.slow
def test_200_random_models_agree():
    differences = [difference for number in range(100, 150) for difference in compare_drawn(number, 4, MIXED)]
    assert len(differences) == 200
    print(f"200 random models: the greatest difference is {max(differences):.1e}")


@pytest.mark.parametrize("task", TASKS)
def test_every_task_agrees_on_long_and_short_sequences(task):
    compare(model_of(task), MIXED)


@pytest.mark.parametrize("readout", ["mean", "max"])
def test_readouts_see_no_padding(readout):
    compare(model_of("classify", readout=readout), SHORT)


@pytest.mark.parametrize(
    ("scaling", "transform", "season", "missing"),
    [("global", "none", 1, "error"), ("none", "log", 7, "mask"), ("series", "log", 7, "error")],
)
def test_options_of_forecasts(scaling, transform, season, missing):
    settings = {"scaling": scaling, "transform": transform, "season": season, "missing": missing, "loss": "mse"}
    compare(model_of("forecast", **settings, calendar=""), SHORT)


def test_ensembles_are_their_mean():
    model = model_of("classify", ensemble=3)
    compare(model, SHORT)
    kinds = [node.op_type for node in onnx.load_from_string(to_onnx(model)).graph.node]
    assert kinds.count("LSTM") == 6, "two layers of three members"


@pytest.mark.parametrize("task", TASKS)
def test_native_operators_and_nothing_of_control_flow(task):
    model = model_of(task)
    graph = onnx.load_from_string(to_onnx(model)).graph
    kinds = {node.op_type for node in graph.node}
    assert len({node.name for node in graph.node}) == len(graph.node), "older runtimes make names from these"
    assert model.config.model.cell.upper() in kinds
    assert not kinds & {"Loop", "Scan", "If"}


def test_the_data_may_have_any_offset():
    """Numbers as large as seconds since 1970: normalised in float32 they would all be the same."""
    model = model_of("next")
    model = TrainedModel(model.config, type(model.normalizer)(1.7e9, 3.0), model.params, model.other)
    compare(model, SHORT)


def feeds_and_runner(task: str, *, codes: bool = False, lengths: np.ndarray = SHORT, **settings):
    model = model_of(task, **settings)
    rows = samples.draw_rows(model, lengths, np.random.default_rng(5))
    return model, samples.feeds_of(model, rows, codes=codes), OnnxRunner(to_onnx(model, codes=codes))


@pytest.mark.parametrize("task", TASKS)
def test_a_sequence_alone_is_as_in_any_batch(task):
    model, feeds, run = feeds_and_runner(task)
    together = run(checking.spoil_padding(feeds, signature_of(model, has_texts=True)))
    for row, length in enumerate(SHORT):
        alone = {}
        for port in signature_of(model, has_texts=True).inputs:
            array = feeds[port.name][row : row + 1]
            ahead = {"time": length, "time_ahead": length + (array.shape[1] - SHORT.max() if array.ndim > 1 else 0)}
            alone[port.name] = array[:, : ahead[port.dims[1]]] if set(port.dims) & set(ahead) else array
        for name, found in run(alone).items():
            wanted = together[name][row][:length] if task == "tag" else together[name][row]
            if found.dtype.kind == "f":
                np.testing.assert_allclose(found[0], wanted, rtol=1e-6, atol=1e-7)
            else:
                assert np.array_equal(found[0], wanted)


@pytest.mark.parametrize("task", ["classify", "tag", "next", "regress"])
def test_rows_without_a_step_and_lengths_beyond_the_steps(task):
    model, feeds, run = feeds_and_runner(task, missing="error")
    given = run(feeds)
    longer = feeds | {"lengths": np.where(feeds["lengths"] == 8, 99, feeds["lengths"])}
    none = feeds | {"lengths": np.where(feeds["lengths"] == 1, 0, feeds["lengths"])}
    first = next(iter(given))
    np.testing.assert_array_equal(run(longer)[first], given[first], err_msg="counts as all steps")
    found = run(none)[first]
    np.testing.assert_array_equal(found[1:], given[first][1:])
    bias = np.asarray(model.params["linear"]["bias"].get_value(), np.float64)
    if task == "classify":
        np.testing.assert_allclose(found[0], np.exp(bias) / np.exp(bias).sum(), rtol=1e-6)
    if task == "next":
        np.testing.assert_allclose(found[0], model.normalizer.denormalize(bias), rtol=1e-6)


@pytest.mark.parametrize("task", ["regress", "forecast"])
def test_missing_numbers_are_those_before(task):
    _, feeds, run = feeds_and_runner(task, missing="forward")
    names = {"inputs", "known"} & feeds.keys()
    generator = np.random.default_rng(0)
    filled, holes = dict(feeds), dict(feeds)
    for name in names:
        lost = generator.random(feeds[name].shape) < 0.4
        lost[:, 0] = False
        filled[name], holes[name] = feeds[name].copy(), np.where(lost, np.nan, feeds[name])
        for step in range(1, lost.shape[1]):
            filled[name][:, step] = np.where(lost[:, step], filled[name][:, step - 1], feeds[name][:, step])
    first = next(iter(run(feeds)))
    np.testing.assert_array_equal(run(holes)[first], run(filled)[first])
    assert not np.array_equal(run(holes)[first], run(feeds)[first])


def test_a_model_that_reads_no_steps_is_refused():
    model = make_model({"task": "regress", "hidden_size": 4}, inputs=0, categories=(), statics=2)
    with pytest.raises(UserError, match="reads nothing of single steps"):
        to_onnx(model)


def test_a_file_of_more_than_2_gib_is_refused(monkeypatch):
    monkeypatch.setattr(programs, "MAX_BYTES", 100)
    with pytest.raises(UserError, match=r"--format=onnx: got .* of weights; expected less than 2 GiB"):
        to_onnx(model_of("next"))


def test_texts_and_codes_say_the_same_and_what_is_unseen_is_code_0():
    model, feeds, by_text = feeds_and_runner("classify")
    rows = samples.draw_rows(model, SHORT, np.random.default_rng(5))
    codes, by_code = samples.feeds_of(model, rows, codes=True), OnnxRunner(to_onnx(model, codes=True))
    unseen = feeds["categories"] == samples.UNSEEN
    assert unseen.any()
    assert not codes["categories"][unseen].any()
    told, numbered = by_text(feeds), by_code(codes)
    np.testing.assert_array_equal(told["probabilities"], numbered["probabilities"])
    assert told["class"].tolist() == [model.classes[code] for code in numbered["class_code"]]
    assert told["class"].tolist() == model.predict(rows).tolist()
    wrong = codes | {"categories": np.where(codes["categories"] == 0, 77, codes["categories"])}
    np.testing.assert_array_equal(by_code(wrong)["probabilities"], numbered["probabilities"], err_msg="no such code")


def test_the_file_says_what_it_takes_and_gives():
    model = model_of("forecast")
    written = onnx.load_from_string(to_onnx(model))
    said = json.loads(next(entry.value for entry in written.metadata_props if entry.key == METADATA_KEY))
    assert [port["name"] for port in said["inputs"]] == [value.name for value in written.graph.input]
    assert said["task"] == "forecast"
    assert said["quantiles"] == [0.1, 0.5, 0.9]
    assert said["horizon"] == 3
    assert said["missing"] == "mask"
    assert said["categories"] == {"c0": ["low", "mid", "high"]}
    dims = {value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
            for value in [*written.graph.input, *written.graph.output]}  # fmt: skip
    assert dims["values"] == ["batch", "time", 2]
    assert dims["known"] == ["batch", "time_ahead", 1]
    assert dims["forecasts"] == ["batch", 3, 2, 3]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"proj_size": 2}, "--format=onnx: got a model with proj_size = 2; expected proj_size = 0"),
        ({"compute_dtype": "bfloat16"}, "got a model with compute_dtype = bfloat16; expected float32"),
    ],
)
def test_what_onnx_cannot_hold_is_refused_by_name(settings, message):
    with pytest.raises(UserError, match=message):
        to_onnx(model_of("next", **settings))


def test_a_missing_package_is_named(monkeypatch):
    onnx_graph.onnx.cache_clear()
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UserError, match="python -m pip install onnx onnxruntime"):
        to_onnx(model_of("next"))
    onnx_graph.onnx.cache_clear()


def test_a_model_that_differs_is_not_taken():
    model, other = model_of("next"), model_of("next", seed=1)
    with pytest.raises(UserError, match=r"differs from the model's own predictions by .*; expected at most 1e-05"):
        checking.check(model, OnnxRunner(to_onnx(other)), codes=False, tolerance=TOLERANCE, lengths=SHORT)


def test_the_calendar_is_that_of_training():
    graph, names = onnx_graph.Graph(), tuple(CYCLES)
    times = np.random.default_rng(0).integers(-(6 * 10**16), 10**17, (4, 5000))  # years from 69 to 5138
    times[0, :366] = np.arange(366) * 86_400 * 10**6 + 946_684_800 * 10**6  # every day of 2000, a leap year
    ops = OnnxOps(graph, cell="rnn", nonlinearity="tanh")
    graph.name(calendar_program.calendar(ops, graph.input("times", np.int64), names), "found")
    helper, kinds = onnx.helper, onnx.TensorProto
    built = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "calendar",
            [helper.make_tensor_value_info("times", kinds.INT64, ["batch", "time"])],
            [helper.make_tensor_value_info("found", kinds.FLOAT, None)],
            initializer=graph.initializers,
        ),
        opset_imports=[helper.make_opsetid("", onnx_graph.OPSET)],
        ir_version=onnx_graph.IR_VERSION,
    )
    found = OnnxRunner(built.SerializeToString())({"times": times})["found"]
    wanted = calendar_features(times.ravel().astype("M8[us]"), names).reshape(*times.shape, -1)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)
