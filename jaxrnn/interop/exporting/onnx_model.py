"""A trained model as an ONNX model: native recurrent operators, preprocessing and decoding inside."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxrnn.evaluation.trained_model import TrainedModel
from jaxrnn.foundation.errors import UserError
from jaxrnn.foundation.files import to_json
from jaxrnn.interop.exporting import programs, signature
from jaxrnn.interop.exporting.onnx_graph import IR_VERSION, OPSET, OPSET_ML, TEXT, Graph, Value, onnx, onnx_type
from jaxrnn.interop.exporting.onnx_ops import OnnxOps
from jaxrnn.interop.exporting.signature import Port, Signature, signature_of

METADATA_KEY = "jaxrnn"
_DTYPES: dict[str, Any] = {"float64": np.float64, "int64": np.int64, "text": TEXT}


def to_onnx(model: TrainedModel, *, codes: bool = False) -> bytes:
    """Returns an ONNX model that computes what `TrainedModel.predict` does, from and to the data's units.

    Its metadata say, below "jaxrnn", what it takes and gives (`Signature.to_json`).

    Args:
      model: The model.
      codes: Let categories go in, and classes come out, as codes in place of texts.

    Raises:
      UserError: ONNX has no operator for the model; or the package is missing.
    """
    require_operators(model)
    graph, given = Graph(), signature_of(model, has_texts=not codes)
    ops = OnnxOps(graph, cell=model.config.model.cell, nonlinearity=model.config.model.nonlinearity)
    inputs = {port.name: graph.input(port.name, _DTYPES[port.kind]) for port in given.inputs}
    computed = programs.run(ops, model, programs.members_of(model, "onnx"), _within(ops, inputs, given))
    if given.classes:
        number = ops.argmax(computed[signature.PROBABILITIES])
        computed[signature.CODE] = number
        if not codes:
            computed[signature.CLASS] = ops.lookup(np.array(given.classes, object), number)
    for port in given.outputs:
        graph.name(computed[port.name], port.name)
    return bytes(_model_of(graph, given).SerializeToString())


def require_operators(model: TrainedModel) -> None:
    """Refuses what ONNX's recurrent operators do not compute.

    Raises:
      UserError: The model is such; names the setting.
    """
    settings = model.config
    if settings.model.proj_size:
        raise UserError(
            f"--format=onnx: got a model with proj_size = {settings.model.proj_size}; expected proj_size = 0: ONNX's"
            " LSTM has no projection; give --format=stablehlo or --format=torch"
        )
    if settings.training.compute_dtype != "float32":
        raise UserError(
            f"--format=onnx: got a model with compute_dtype = {settings.training.compute_dtype}; expected float32:"
            " ONNX's recurrent operators compute in one type; give --format=stablehlo or --format=torch"
        )


class OnnxRunner:
    """Runs an ONNX model in onnxruntime, on the CPU.

    Args:
      content: The model's bytes.

    Raises:
      ImportError: onnxruntime is not installed.
    """

    def __init__(self, content: bytes):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors
        self.session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def __call__(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Returns the outputs by name."""
        names = [output.name for output in self.session.get_outputs()]
        return dict(zip(names, self.session.run(names, dict(feeds)), strict=True))


def _within(ops: OnnxOps, inputs: Mapping[str, Value], given: Signature) -> dict[str, Value]:
    """Returns the inputs as a program takes them: lengths within the steps, categories as codes."""
    timed = next(name for name in (signature.VALUES, signature.INPUTS, signature.CATEGORIES) if name in inputs)
    time = ops.size(inputs[timed], 1)
    lengths = ops.maximum(ops.minimum(inputs[signature.LENGTHS], time), np.int64(0))
    found = {**inputs, signature.LENGTHS: lengths}
    texts = inputs.get(signature.CATEGORIES)
    if texts is not None and texts.dtype == TEXT:
        columns = [
            ops.graph.add(
                "LabelEncoder", ops.columns(texts, column, column + 1), dtype=np.int64, domain="ai.onnx.ml",
                keys_strings=list(words), values_int64s=list(range(1, len(words) + 1)), default_int64=0,
            )
            for column, (_, words) in enumerate(given.categories)
        ]  # fmt: skip
        found[signature.CATEGORIES] = ops.concat(columns)
    return found


def _model_of(graph: Graph, given: Signature) -> Any:
    helper = onnx().helper

    def declared(port: Port) -> Any:
        return helper.make_tensor_value_info(port.name, onnx_type(_DTYPES[port.kind]), list(port.dims))

    sides = ([declared(port) for port in ports] for ports in (given.inputs, given.outputs))
    built = helper.make_model(
        helper.make_graph(graph.nodes, "jaxrnn", *sides, initializer=graph.initializers),
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", OPSET_ML)],
        ir_version=IR_VERSION,
        producer_name="jaxrnn",
    )
    helper.set_model_props(built, {METADATA_KEY: to_json(given.to_json(), ensure_ascii=False)})
    onnx().checker.check_model(built, full_check=True)
    return built
