"""What lengths, masks, segments and resets become for the engine."""

import jax.numpy as jnp
import numpy as np

from jaxrnn.nn.engine.masks import SEGMENT_CODE, reset_code, steps_from_masks


def test_at_padding_the_state_goes_on_whatever_stands_there() -> None:
    """The engine's loops and its kernels rely on it: a code is acted on wherever it is not 0."""
    segments = jnp.array([[1, 0, 2, 2, 0, 3], [0, 1, 1, 0, 0, 0]])
    resets = jnp.array([[0, 1, 0, 1, 1, 0], [1, 0, 0, 1, 1, 1]], bool)
    steps = steps_from_masks((2, 6), segment_ids=segments, valid=segments > 0, resets=resets)
    forward, backward = np.asarray(steps.reset_forward).T, np.asarray(steps.reset_backward).T
    again = reset_code(segments)
    np.testing.assert_array_equal(forward, [[0, 0, SEGMENT_CODE, again, 0, SEGMENT_CODE], [0, 0, 0, 0, 0, 0]])
    np.testing.assert_array_equal(backward, [[SEGMENT_CODE, 0, again, SEGMENT_CODE, 0, 0], [0, 0, 0, 0, 0, 0]])
