"""A layer in `flax.nnx.Sequential`, which hands all that a module returns to the next one."""

import inspect
import itertools
import sys
from typing import Any

from flax import nnx

from jaxrnn.nn.cell_stack import AbstractCellStack
from jaxrnn.nn.cells import AbstractCell

# Between a layer's call and who made it; the last two check annotations in tests.
_PACKAGES_IN_BETWEEN = ("jaxrnn", "jaxtyping", "beartype")


def check_sequential(layer: nnx.Module) -> None:
    """Raises where a layer is called by an `nnx.Sequential` whose next module does not take what it returns.

    An `nnx.Sequential` calls the next module with the outputs and the final state, as two arguments. A `Linear` would
    complain of the second in terms of its own, and another recurrent layer would begin with it.

    Raises:
      TypeError: The next module is one that takes the outputs alone.
    """
    frame = sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__", "").split(".")[0] in _PACKAGES_IN_BETWEEN:
        frame = frame.f_back
    if frame.f_code is not getattr(nnx.Sequential.__call__, "__code__", None):
        return
    modules = list(getattr(frame.f_locals.get("self"), "layers", ()))
    for module, following in itertools.pairwise(modules):
        if module is layer and not _takes_both(following):
            name = getattr(following, "__name__", type(following).__name__)
            raise TypeError(
                f"nnx.Sequential: got {type(layer).__name__} followed by {name}, which would be called with the outputs"
                " and the final state; expected a function of both between them: use lambda outputs, state: outputs"
            )


def _takes_both(module: Any) -> bool:
    if isinstance(module, nnx.Sequential):
        return not module.layers or _takes_both(module.layers[0])
    if isinstance(module, AbstractCellStack | AbstractCell) or type(module).__module__.startswith("flax."):
        return False
    try:
        inspect.signature(module).bind(None, None)
    except TypeError:
        return False
    except ValueError:  # it has no signature to look at
        return True
    return True
