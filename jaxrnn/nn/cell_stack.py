"""What a stack of recurrent cells is made of: sizes, options and parameters."""

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh

from jaxrnn.foundation.array_types import Array, Backend, Size, State
from jaxrnn.nn import checks, equation_checks, equations, parameters
from jaxrnn.nn.engine import loops
from jaxrnn.nn.layer_options import CHECKS
from jaxrnn.nn.shared_units import MODEL_AXIS

_DIRECTION_SUFFIXES = ("", "_reverse")


class AbstractCellStack(nnx.Module):
    """Cells of one equation, layer upon layer, in one direction or both.

    Parameters are attributes with PyTorch's names, layouts and initial distribution:
    ``weight_ih_l{k}``, ``weight_hh_l{k}``, ``bias_ih_l{k}``, ``bias_hh_l{k}`` and, with a projection,
    ``weight_hr_l{k}``; those of the reverse direction end in ``_reverse``.

    Args:
      equation: How gates become the next state.
      input_size: Features of a step.
      hidden_size: Hidden units of each direction.
      num_layers: Layers stacked, each reading the one below.
      bias: Whether there are bias_ih and bias_hh.
      dropout: Probability of zeroing an element of the output of every layer but the last, in training.
      bidirectional: Whether a second direction reads the sequence from its end; outputs are joined.
      reverse: Whether a layer of one direction reads each row from its last valid step to its first. Outputs stay in
        the order of the inputs; the final state is that after the first step. Parameters keep names without a suffix.
      proj_size: Where positive, the hidden vector is projected to this size by ``weight_hr_l{k}``.
      backend: "auto" runs the recurrence compiled ahead for CPUs where it can (`cpu_kernels`), which is faster and the
        same to float tolerance; "compiled" does so in exported programs too, and refuses where it cannot; "scan" always
        runs `lax.scan`.
      remat_steps: Where set, the gradient keeps the state of every so many steps only, and computes the others again:
        memory then grows with time / remat_steps + remat_steps, the least of it where that is the root of time.
      compute_dtype: Where set, the type of the operands of matmuls, such as jnp.bfloat16; states, sums and everything
        pointwise keep the type of the parameters.
      custom_gradient: Whether the gradient is the engine's own reverse rule, the fast one. False lets JAX differentiate
        the plain loop instead: what forward mode (`jax.jvp`, `jax.jacfwd`) needs.
      kernel_init: Where the initial values of ``weight_ih_l{k}`` and ``weight_hr_l{k}`` come from; PyTorch's
        distribution if None. A function such as those of `jax.nn.initializers`, called for each gate
        (`parameters.Initializers`).
      recurrent_init: The same for ``weight_hh_l{k}``.
      bias_init: The same for both biases.
      param_dtype: The type of the parameters, and so of states and outputs, whatever that of the inputs is: they, and
        states that are given, are converted to it. Of parameters of several types it is the one that holds them all.
      rngs: Where initial values and dropout's masks come from.

    All of them are attributes too, but for the last five. `reverse`, and those from `backend` to
    `custom_gradient`, may be set later; they are checked then as here.

    Attributes:
      mesh: Where set, the hidden units are shared by the devices along its axis "model" (`shared_units`): the same
        numbers to float tolerance. Their number, and that of projected ones, must be a multiple of the axis's size.
    """

    reverse: bool
    backend: Backend
    remat_steps: int | None
    compute_dtype: Any
    custom_gradient: bool
    mesh: Mesh | None = None

    def __init__(
        self,
        equation: equations.Equation,
        input_size: int,
        hidden_size: int,
        *,
        num_layers: int = 1,
        bias: bool = True,
        dropout: float = 0.0,
        bidirectional: bool = False,
        reverse: bool = False,
        proj_size: int = 0,
        backend: Backend = "auto",
        remat_steps: int | None = None,
        compute_dtype: Any = None,
        custom_gradient: bool = True,
        kernel_init: parameters.Initializer | None = None,
        recurrent_init: parameters.Initializer | None = None,
        bias_init: parameters.Initializer | None = None,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        if not isinstance(equation, equations.Equation):
            raise TypeError(f"equation: got {type(equation).__name__}; expected a jaxrnn.Equation")
        checks.check_size("input_size", input_size)
        checks.check_size("hidden_size", hidden_size)
        checks.check_size("num_layers", num_layers)
        checks.check_size("proj_size", proj_size, minimum=0)
        checks.check_flag("bias", bias)
        checks.check_flag("bidirectional", bidirectional)
        checks.check_flag("reverse", reverse)
        checks.check_probability("dropout", dropout)
        checks.check_floating_type("param_dtype", param_dtype)
        checks.check_rngs(rngs, dropout=dropout)
        initializers = parameters.Initializers(kernel_init, recurrent_init, bias_init)
        initializers.check()
        _check_directions(reverse, bidirectional)
        if proj_size >= hidden_size:
            raise ValueError(f"proj_size: got {proj_size}; expected less than hidden_size = {hidden_size}")
        if dropout > 0 and num_layers == 1:
            checks.warn_caller(
                f"dropout = {dropout} has no effect with num_layers = 1: it acts on the output of every"
                " layer but the last"
            )
        self.equation = equation
        self.input_size = int(input_size)
        self.hidden_size = int(hidden_size)
        self.num_layers = int(num_layers)
        self.bias = bool(bias)
        self.bidirectional = bool(bidirectional)
        self.reverse = reverse
        self.proj_size = int(proj_size)
        self.backend = backend
        self.remat_steps = remat_steps
        self.compute_dtype = compute_dtype
        self.custom_gradient = custom_gradient
        self.dropout = nnx.Dropout(dropout, rngs=rngs if dropout > 0 else None)
        equation_checks.check_sizes(equation, self.hidden_size, self.output_size)
        shapes = {
            name + _ending(layer, direction): shape
            for layer, direction in self._places()
            for name, shape in self._shapes(layer).items()
        }
        parameters.check_shapes(shapes)
        created = parameters.create_parameters(shapes, self.hidden_size, initializers, rngs=rngs, dtype=param_dtype)
        for name, parameter in created.items():
            setattr(self, name, parameter)
        for layer, direction in self._places():
            ending = _ending(layer, direction)
            extras = equation.extra_parameters(self.hidden_size)
            equation_checks.check_extra_parameters(equation, extras)
            for name, value in extras.items():
                setattr(self, name + ending, nnx.Param(jnp.asarray(value, param_dtype)))

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> nnx.Param: ...  # weight_hh_l0 and the others, as many as there are layers

    else:  # of a class that has it, type checkers believe that it takes any attribute

        def __setattr__(self, name: str, value: Any) -> None:
            check = CHECKS.get(name)
            super().__setattr__(name, value if check is None else check(value))

    def __repr__(self) -> str:
        """The call that builds such a layer; `str` and `print` give Flax's tree of it, with every parameter's shape."""
        return parameters.call_of(self, weight=self.__dict__.get("weight_ih_l0"))

    @property
    def num_directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def directions(self) -> tuple[bool, ...]:
        """Whether each direction reads from the last step to the first."""
        return (False, True) if self.bidirectional else (self.reverse,)

    @property
    def output_size(self) -> int:
        """Size of the hidden state that each direction puts out: proj_size where there is one."""
        return self.proj_size or self.hidden_size

    @property
    def endings(self) -> tuple[str, ...]:
        """What the names of the parameters of each cell end in, in the order of states: _l0, _l0_reverse, _l1."""
        return tuple(_ending(*place) for place in self._places())

    def _places(self) -> list[tuple[int, int]]:
        """Layer and direction of every cell, in the order of states and parameters."""
        return [(layer, direction) for layer in range(self.num_layers) for direction in range(self.num_directions)]

    def _shapes(self, layer: int) -> dict[str, tuple[int, ...]]:
        input_size = self.input_size if layer == 0 else self.num_directions * self.output_size
        return equations.parameter_shapes(
            self.equation, input_size, self.hidden_size, proj_size=self.proj_size, bias=self.bias
        )

    def cell_parameters(self, layer: int, direction: int = 0) -> loops.Weights:
        """Returns the parameters of one layer in one direction (0 forward, 1 reverse).

        Raises:
          IndexError: There is no such layer or direction.
          ValueError: A parameter does not have the shape that the layer's sizes ask for, or there is one too many or
            too few.
        """
        if (layer, direction) not in self._places():
            raise IndexError(
                f"cell_parameters: got layer {layer}, direction {direction}; expected less than {self.num_layers} and"
                f" {self.num_directions}"
            )
        shapes = self._shapes(layer)
        absent = [name for name in loops.Weights._fields if name not in shapes]
        found = parameters.read_parameters(self, shapes, ending=_ending(layer, direction), absent=absent)
        return loops.Weights(**found)

    def _extras(self, layer: int, direction: int) -> tuple[Array, ...]:
        """The equation's own parameters, in its order."""
        shapes = equations.extra_parameter_shapes(self.equation.extra_parameters, self.hidden_size)
        return tuple(parameters.read_parameters(self, shapes, ending=_ending(layer, direction)).values())

    def _check_parameters(self) -> Any:
        """Raises unless every parameter has the shape that the sizes ask for, and a mesh can share the units.

        Returns:
          The type of states and outputs.

        Raises:
          ValueError: A parameter has another shape; the units are no multiple of the devices.
        """
        _check_directions(self.reverse, self.bidirectional)
        devices = 1 if self.mesh is None else self.mesh.shape[MODEL_AXIS]
        for name, size in (("hidden_size", self.hidden_size), ("proj_size", self.proj_size)):
            if size % devices:
                raise ValueError(
                    f"{name}: got {size}; expected a multiple of {devices}, the devices along the mesh's axis"
                    f" {MODEL_AXIS!r}"
                )
        weights = [self.cell_parameters(layer, direction) for layer, direction in self._places()]
        extras = [self._extras(layer, direction) for layer, direction in self._places()]
        return jnp.result_type(*jax.tree.leaves((weights, extras)))

    def _check_equation(self, batch: Size, dtype: Any) -> None:
        """Raises unless an equation that a user wrote makes states of `batch` rows and this type."""
        if self.equation.kernel is None:  # this package's own need no check
            sizes, extras = (self.hidden_size, self.output_size), self._extras(0, 0)
            equation_checks.check_equation(self.equation, *sizes, batch=batch, dtype=dtype, extras=extras)

    def initial_state(self, batch_size: Size | None = None) -> State:
        """Returns zeros: arrays of (num_layers * num_directions, batch, size), without batch if None."""
        if batch_size is not None:
            checks.check_batch_size(batch_size)
        return self._zero_state(() if batch_size is None else (batch_size,), self._check_parameters())

    def _zero_state(self, rows: tuple[Size, ...], dtype: Any) -> State:
        leading = (self.num_layers * self.num_directions, *rows)
        return self.equation.zero_state(self.hidden_size, self.output_size, leading=leading, dtype=dtype)


def _check_directions(reverse: bool, bidirectional: bool) -> None:
    if reverse and bidirectional:
        raise ValueError("reverse: got True with bidirectional=True; expected one of them: that reads both ways")


def _ending(layer: int, direction: int) -> str:
    return f"_l{layer}{_DIRECTION_SUFFIXES[direction]}"
