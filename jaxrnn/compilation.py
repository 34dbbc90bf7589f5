"""Counts what XLA compiles, and how long it takes."""

import jax

_COMPILE_EVENT = "/jax/core/compile/backend_compile_duration"
_OTHER_EVENTS = (
    "/jax/core/compile/jaxpr_trace_duration",
    "/jax/core/compile/jaxpr_to_mlir_module_duration",
)


class CompilationCounter:
    """Counts compilations while it is entered.

    Attributes:
      count: Programs that XLA compiled, small ones included.
      seconds: Spent on tracing, lowering and compiling.
    """

    def __init__(self) -> None:
        self.count = 0
        self.seconds = 0.0
        self._active = False

    def __enter__(self) -> "CompilationCounter":
        # JAX offers no way to take a listener off again that all supported versions share, so it stays, idle.
        jax.monitoring.register_event_duration_secs_listener(self._listen)
        self._active = True
        return self

    def __exit__(self, *exception: object) -> None:
        self._active = False

    def _listen(self, event: str, duration_secs: float, **details: str | int) -> None:
        del details
        if not self._active:
            return
        self.count += event == _COMPILE_EVENT
        if event == _COMPILE_EVENT or event in _OTHER_EVENTS:
            self.seconds += duration_secs
