"""Layers whose rows several devices share: by shard_map, or by pmap."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from benchmarks.layer_calls import AXIS, Call, Results, Tree, build, loss_of, run_layer
from benchmarks.layer_programs import DEVICES, Program


def of_rows(program: Program, tree: Tree, make: Callable[[Any, int | None], Any], group: str = "") -> Tree:
    """Replaces every array of a tree of groups by ``make(array, axis of its rows)``."""
    if isinstance(tree, dict):
        return {key: of_rows(program, value, make, group or key) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [of_rows(program, value, make, group) for value in tree]
    return make(tree, program.batch_axis(group, tree.ndim))


def spec_of(leaf: Any, axis: int | None) -> PartitionSpec:
    return PartitionSpec() if axis is None else PartitionSpec(*[None] * axis, AXIS)


def make_mesh() -> Mesh:
    return Mesh(np.array(jax.devices()[:DEVICES]), (AXIS,))


def shard_mapped(program: Program, call: Call) -> Callable[..., Any]:
    """Shares the rows by shard_map, with the gradient inside or outside."""
    mesh, loss = make_mesh(), loss_of(call)
    rows_in_front = 1 if "params" in program.mapped else 0

    def is_shared(leaf: Any) -> bool:
        return program.sharded_weights and leaf.shape[rows_in_front] % DEVICES == 0

    def specs_of(tree: Tree) -> Tree:
        specs = of_rows(program, tree, spec_of)
        if "params" in specs:
            parts = PartitionSpec(*[None] * rows_in_front, AXIS)
            specs["params"] = {n: parts if is_shared(leaf) else PartitionSpec() for n, leaf in tree["params"].items()}
        return specs

    def run(given: Tree, options: Tree, weights: Tree, _: Tree) -> Any:
        shared = {name for name, leaf in given["params"].items() if is_shared(leaf)}

        def gathered(given: Tree) -> Tree:
            params = {
                name: lax.all_gather(leaf, AXIS, axis=rows_in_front, tiled=True) if name in shared else leaf
                for name, leaf in given["params"].items()
            }
            return given | {"params": params}

        specs = tuple(map(specs_of, (given, options, weights)))
        if program.outer.endswith("outside"):
            forward = jax.shard_map(
                lambda given, options: call(gathered(given), options), mesh=mesh, in_specs=specs[:2], out_specs=specs[2]
            )
            (_, results), gradients = jax.value_and_grad(loss_of(forward), has_aux=True)(given, options, weights)
            return results, gradients

        def inside(given: Tree, options: Tree, weights: Tree) -> Any:
            slopes = jax.value_and_grad(lambda given: loss(gathered(given), options, weights), has_aux=True)
            (_, results), gradients = slopes(given)
            return results, gradients

        return jax.shard_map(inside, mesh=mesh, in_specs=specs, out_specs=(specs[2], specs[0]))(given, options, weights)

    return run


def nnx_shard_mapped(program: Program, call: Call) -> Callable[..., Any]:
    """Shares the rows by nnx.shard_map, with the gradient outside."""
    built, mesh = build(program), make_mesh()

    def run(given: Tree, options: Tree, weights: Tree, _: Tree) -> Any:
        def forward(given: Tree, options: Tree) -> Results:
            rest = {name: value for name, value in given.items() if name != "params"}
            in_specs = (PartitionSpec(), of_rows(program, rest, spec_of), of_rows(program, options, spec_of))
            mapped = nnx.shard_map(
                functools.partial(run_layer, program, built),
                mesh=mesh, in_specs=in_specs, out_specs=of_rows(program, weights, spec_of),
            )  # fmt: skip
            return mapped(built.with_params(given["params"]), rest, options)

        (_, results), gradients = jax.value_and_grad(loss_of(forward), has_aux=True)(given, options, weights)
        return results, gradients

    return run


def pmapped(program: Program, call: Call) -> Callable[..., Any]:
    """Shares the rows by pmap, with the gradient inside or outside."""

    def split(leaf: Any, axis: int | None) -> Any:
        return leaf if axis is None else leaf.reshape(resized(leaf, axis, (DEVICES, leaf.shape[axis] // DEVICES)))

    def join(leaf: Any, axis: int | None) -> Any:
        if axis is None:
            return leaf
        return leaf.reshape(resized(leaf, axis, (leaf.shape[axis] * leaf.shape[axis + 1],), instead_of=2))

    def resized(leaf: Any, axis: int, sizes: tuple[int, ...], instead_of: int = 1) -> tuple[int, ...]:
        return (*leaf.shape[:axis], *sizes, *leaf.shape[axis + instead_of :])

    def axes(tree: Tree) -> Tree:
        return of_rows(program, tree, lambda _, axis: axis)

    slopes = jax.value_and_grad(loss_of(call), has_aux=True)

    def inside(given: Tree, options: Tree, weights: Tree) -> Any:
        (_, results), gradients = slopes(given, options, weights)
        summed = of_rows(program, gradients, lambda leaf, axis: lax.psum(leaf, AXIS) if axis is None else leaf)
        return results, summed

    compiled: dict[str, Any] = {}

    def run(given: Tree, options: Tree, weights: Tree, _: Tree) -> Any:
        arguments = (given, options, weights)
        axes_in, parts = tuple(map(axes, arguments)), tuple(of_rows(program, tree, split) for tree in arguments)
        out = axes_in[2]
        if program.outer == "pmap_inside":
            of_gradients = (out, jax.tree.map(lambda axis: axis, axes_in[0], is_leaf=lambda axis: axis is None))
            if "run" not in compiled:
                compiled["run"] = jax.pmap(inside, axis_name=AXIS, in_axes=axes_in, out_axes=of_gradients)
            results, gradients = compiled["run"](*parts)
        else:
            if "run" not in compiled:
                mapped = jax.pmap(call, axis_name=AXIS, in_axes=axes_in[:2], out_axes=out)
                compiled["run"] = jax.value_and_grad(loss_of(mapped), has_aux=True)
            (_, results), gradients = compiled["run"](*parts)
        return of_rows(program, results, join), of_rows(program, gradients, join)

    return run
