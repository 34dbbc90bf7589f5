"""Layers' calls under JAX's transformations: every one returns results and, of most, gradients."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import NamedSharding

from benchmarks.layer_calls import (
    Call,
    Results,
    Tree,
    as_arrays,
    build,
    call_of,
    loss_of,
    model_axes,
    run_layer,
    settings_of,
    weigh,
)
from benchmarks.layer_data import Data
from benchmarks.layer_devices import make_mesh, nnx_shard_mapped, of_rows, pmapped, shard_mapped, spec_of
from benchmarks.layer_programs import Program

CUSTOM_CALLS = ("jaxrnn_forward2", "jaxrnn_backward2")


class Found(NamedTuple):
    """What a program returned.

    Attributes:
      results: By name.
      gradients: Of the loss, as what is given; None if none were asked for.
      tangents: Of the results, along the directions.
      second: The gradient of the gradient's product with the directions.
    """

    results: Results
    gradients: Tree = None
    tangents: Results | None = None
    second: Tree = None


def runner_of(program: Program) -> Callable[[Data], Found]:
    """Returns what runs a program on data; it compiles once."""
    make = _FORMS.get(program.outer.removeprefix("eager_"), _plainly)
    with settings_of(program):
        run = make(program, call_of(program))
    if not program.outer.startswith(("eager", "disable_jit", "export", "nnx_grad", "sharded", "pmap")):
        run = jax.jit(run)
    is_symbolic = program.outer.startswith("export")
    prepared: list[Any] = []

    def run_on(data: Data) -> Found:
        with settings_of(program):
            arguments = as_arrays(program, data)
            if is_symbolic and not prepared:
                prepared.append(run(*arguments))
            found = (prepared[0] if is_symbolic else run)(*arguments)
            return Found(*jax.tree.map(_to_numpy, tuple(found)))

    return run_on


def _to_numpy(leaf: Any) -> np.ndarray:
    return np.asarray(leaf, np.float64) if leaf.dtype == jnp.bfloat16 else np.asarray(leaf)


def _plainly(program: Program, call: Call) -> Callable[..., Any]:
    """Returns a function of what is given, options, weights and directions that gives the fields of `Found`."""
    slopes = jax.value_and_grad(loss_of(call), has_aux=True)

    def value_and_grad(given: Tree, options: Tree, weights: Tree, _: Tree) -> Any:
        (_, results), gradients = slopes(given, options, weights)
        return results, gradients

    def forward(given: Tree, options: Tree, *_: Tree) -> Any:
        return (call(given, options),)

    def jvp(given: Tree, options: Tree, _: Tree, directions: Tree) -> Any:
        results, tangents = jax.jvp(lambda given: call(given, options), (given,), (directions,))
        return results, None, tangents

    def jacrev(given: Tree, options: Tree, weights: Tree, _: Tree) -> Any:
        results, pull = jax.vjp(lambda given: call(given, options), given)
        typed = jax.tree.map(lambda weight, result: weight.astype(result.dtype), _like(results, weights), results)
        both = jax.tree.map(lambda weight: jnp.stack([weight, -2 * weight]), typed)
        (gradients,) = jax.vmap(pull)(both)
        return results, jax.tree.map(lambda two: -(two[0] + two[1]), gradients)

    def grad_of_grad(given: Tree, options: Tree, weights: Tree, directions: Tree) -> Any:
        def along(given: Tree) -> Any:
            (_, results), gradients = slopes(given, options, weights)
            return weigh(gradients, directions), (results, gradients)

        (_, (results, gradients)), second = jax.value_and_grad(along, has_aux=True)(given)
        return results, gradients, None, second

    def vmapped_grad(given: Tree, options: Tree, weights: Tree, _: Tree) -> Any:
        (_, results), gradients = jax.vmap(slopes, in_axes=(*model_axes(program), 0))(given, options, weights)
        return results, {
            group: value if group in program.mapped else jax.tree.map(lambda leaf: leaf.sum(0), value)
            for group, value in gradients.items()
        }

    forms = {"eager": forward, "jit": forward, "jvp": jvp, "jacrev": jacrev, "grad_of_grad": grad_of_grad}
    return (forms | {"vmapped_grad": vmapped_grad}).get(program.outer, value_and_grad)


def _like(results: Results, weights: Tree) -> Tree:
    return jax.tree.unflatten(jax.tree.structure(results), jax.tree.leaves(weights))


def _with_nnx(program: Program, call: Call) -> Callable[..., Any]:
    """Differentiates with respect to a module."""
    built = build(program)

    @nnx.jit
    def run(layer: Any, given: Tree, options: Tree, weights: Tree) -> Any:
        def loss(layer: Any, given: Tree) -> Any:
            results = run_layer(program, built, layer, given, options)
            return weigh(results, weights), results

        return nnx.value_and_grad(loss, argnums=(0, 1), has_aux=True)(layer, given)

    def run_given(given: Tree, options: Tree, weights: Tree, _: Tree) -> Any:
        rest = {name: value for name, value in given.items() if name != "params"}
        (_, results), (of_layer, of_rest) = run(built.with_params(given["params"]), rest, options, weights)
        of_params = {path[0]: leaf.get_value() for path, leaf in nnx.to_flat_state(of_layer)}
        return results, {"params": of_params, **of_rest}

    return run_given


def _exported(program: Program, call: Call) -> Callable[..., Any]:
    """Returns what exports on arguments, and gives the program read back."""
    slopes = jax.value_and_grad(loss_of(call), has_aux=True)
    platforms = ("cpu", "cuda", "tpu") if program.outer == "export_all" else ("cpu",)
    checks = [jax.export.DisabledSafetyCheck.custom_call(name) for name in CUSTOM_CALLS]
    inside = program.outer != "export_all"

    def export(given: Tree, options: Tree, weights: Tree, _: Tree) -> Any:
        names = jax.export.symbolic_shape("b") if program.outer == "export_symbolic" else ()

        def shape(leaf: Any, axis: int | None) -> Any:
            size = leaf.shape if not names or axis is None else (*leaf.shape[:axis], *names, *leaf.shape[axis + 1 :])
            return jax.ShapeDtypeStruct(size, leaf.dtype)

        arguments = (given, options, weights) if inside else (given, options)
        shapes = [of_rows(program, argument, shape) for argument in arguments]
        exporter = jax.export.export(jax.jit(slopes if inside else call), platforms=platforms, disabled_checks=checks)
        exported = exporter(*shapes)
        if program.backend != "compiled" and any(name in exported.mlir_module() for name in CUSTOM_CALLS):
            raise AssertionError("the exported program holds a call of the compiled recurrence")
        read = jax.export.deserialize(exported.serialize(vjp_order=0 if inside else 1))
        run = jax.jit(read.call if inside else jax.value_and_grad(loss_of(read.call), has_aux=True))

        def run_read(given: Tree, options: Tree, weights: Tree, _: Tree) -> Any:
            (_, results), gradients = run(given, options, weights)
            return results, gradients

        return run_read

    return export


def _sharded(program: Program, call: Call) -> Callable[..., Any]:
    """Puts the rows on devices, and lets XLA deal out the plain program."""
    plain, mesh = jax.jit(_plainly(program, call)), make_mesh()

    def place(leaf: Any, axis: int | None) -> Any:
        return jax.device_put(leaf, NamedSharding(mesh, spec_of(leaf, axis)))

    return lambda *arguments: plain(*(of_rows(program, tree, place) for tree in arguments))


_FORMS: dict[str, Callable[..., Any]] = {
    "nnx_grad": _with_nnx,
    "export_cpu": _exported,
    "export_all": _exported,
    "export_symbolic": _exported,
    "shard_map_inside": shard_mapped,
    "shard_map_outside": shard_mapped,
    "nnx_shard_map": nnx_shard_mapped,
    "sharded_jit": _sharded,
    "pmap_inside": pmapped,
    "pmap_outside": pmapped,
}
