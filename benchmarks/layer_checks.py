"""Compares what layers return with what the plain loop says, and sees that wrong requests are refused."""

import functools
import traceback
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

import jaxrnn
from benchmarks import layer_mistakes, layer_oracle, layer_transformations
from benchmarks.layer_data import Data, draw_data
from benchmarks.layer_oracle import leaves_of
from benchmarks.layer_programs import CASES_PER_PROGRAM, Program, Wrong, draw_program

# By how much a value may differ, by the largest of its array, and a derivative, by the sum of its terms' sizes.
TOLERANCES = {"float64": 1e-10, "float32": 1e-5, "bfloat16": 16 * 2.0**-8}  # 16 roundings: one for each few steps
REFUSALS = (ValueError, TypeError, AttributeError)
PLACES = (Path(jaxrnn.__file__).parent, Path(nnx.__file__).parent)
# Closer to 0 than this, relu's argument may be on the other side in float32, or where second derivatives look.
KINK, KINK_OF_SECOND = 1e-4, 1e-3


def precision_of(program: Program) -> str:
    """The type that decides how exact a program's numbers are."""
    types = (program.param_dtype, program.input_dtype, program.compute_dtype)
    return "bfloat16" if "bfloat16" in types else program.param_dtype


def expected_of(seed: int, number: int, program: Program) -> tuple[Data, Any, Any]:
    """Draws a case's numbers, and computes its results and slopes."""
    kink = KINK_OF_SECOND if program.outer == "grad_of_grad" else KINK
    for attempt in range(100):
        data = draw_data(seed, number, program, attempt=attempt)
        results, slopes, margin = layer_oracle.values(program, data)
        if margin > kink:
            break
    return data, results, slopes


def check(seed: int, number: int) -> str:
    """Runs case `number` of a seed.

    Returns:
      What came of it: "right".

    Raises:
      Wrong: A result or a derivative is.
    """
    program = draw_program(seed, number // CASES_PER_PROGRAM)
    complaints, _ = compare(program, *expected_of(seed, number, program))
    if complaints:
        raise Wrong("; ".join(complaints))
    return "right"


@functools.lru_cache(maxsize=1)
def _runner_of(program: Program) -> Any:
    return layer_transformations.runner_of(program)


def compare(program: Program, data: Data, results: Any, slopes: Any) -> tuple[list[str], dict[str, float]]:
    """Runs a program on data.

    Returns:
      What is wrong, and by how much each array deviates, as a part of what is allowed.
    """
    found = _runner_of(program)(data)
    tolerance = TOLERANCES[precision_of(program)]
    complaints: list[str] = []
    parts: dict[str, float] = {}

    def hold(name: str, difference: float, scale: float) -> None:
        parts[name] = difference / (tolerance * scale) if scale else 0.0 if difference == 0 else np.inf
        if not parts[name] <= 1:
            complaints.append(f"{name}: differs by {difference:.3g}; allowed {tolerance * scale:.3g}")

    def hold_array(name: str, array: np.ndarray, wanted: np.ndarray) -> None:
        if array.shape != wanted.shape:
            complaints.append(f"{name}: got shape {array.shape}; expected {wanted.shape}")
            return
        difference = np.abs(array.astype(np.float64) - wanted)
        hold(name, float(difference.max(initial=0)), float(np.abs(wanted).max(initial=0)))
        is_padding = np.zeros(wanted.shape, bool)
        if name == "outputs" or name.startswith("states"):
            valid = layer_oracle.valid_steps(program, data.options)
            if name != "outputs":  # layers come before rows and steps
                valid = np.expand_dims(valid, valid.ndim - (1 if program.batch is None else 2))
            is_padding = np.broadcast_to(~valid[..., None], wanted.shape)
        if array[is_padding].any():
            complaints.append(f"{name}: not 0 at padding")

    def hold_slopes(name: str, gradients: Any, wanted: dict[str, float]) -> None:
        directions = leaves_of(data.directions)
        products = {path: leaf.astype(np.float64) * directions[path] for path, leaf in leaves_of(gradients).items()}
        if set(products) != set(wanted) - {"all"}:
            complaints.append(f"{name}: got {sorted(products)}; expected {sorted(wanted)}")
            return
        sizes = {path: float(np.abs(product).sum()) for path, product in products.items()}
        largest = max(sizes.values())
        for path, product in products.items():
            if not np.isfinite(product).all():
                complaints.append(f"{name} {path}: not finite")
            hold(f"{name} {path}", abs(float(product.sum()) - wanted[path]), sizes[path] + 0.1 * largest)

    arrays = leaves_of(found.results)
    if set(arrays) != set(results):
        return [f"results: got {sorted(arrays)}; expected {sorted(results)}"], parts
    for path, wanted in results.items():
        hold_array(path, arrays[path], wanted)
    if found.tangents is not None:
        for path, tangent in leaves_of(found.tangents).items():
            hold_array(f"tangent {path}", tangent, slopes["all"][path])
    if found.gradients is not None:
        hold_slopes("gradient", found.gradients, layer_oracle.derivatives(data, slopes))
        valid = layer_oracle.valid_steps(program, data.options)
        gradient = found.gradients["inputs"]
        valid = valid.any(0) if valid.ndim + 1 > gradient.ndim else valid
        if gradient[~np.broadcast_to(valid, gradient.shape[:-1])].any():
            complaints.append("gradient inputs: not 0 at padding")
    if found.second is not None:
        hold_slopes("second", found.second, layer_oracle.second_derivatives(program, data))
    return complaints, parts


def check_refused(seed: int, number: int) -> str:
    """Makes wrong request `number` of a seed.

    Returns:
      What came of it: "refused".

    Raises:
      Wrong: It was served, or refused by someone else.
    """
    described = "an attribute that was set"
    try:
        request, mode, what = layer_mistakes.draw(seed, number)
        described = f"{what}; {mode} {request.method} of {request.program}"
        jax.block_until_ready(jax.tree.leaves(request.run(mode)))
    except REFUSALS as error:
        if not _is_own(error):
            raise Wrong(f"refused by someone else: {described}: {type(error).__name__}: {error}") from error
        return "refused"
    except Exception as error:
        raise Wrong(f"refused as {type(error).__name__}: {described}: {error}") from error
    raise Wrong(f"served: {described}")


def _is_own(error: Exception) -> bool:
    """Whether an error is a refusal: raised by this package, or by Python or Flax of a name that does not exist.

    JAX's own errors come when something is computed.
    """
    if isinstance(error, AttributeError):
        return True
    last = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    return any(last.is_relative_to(place) for place in PLACES)
