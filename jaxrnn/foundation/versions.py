"""The versions that decide a run's numbers."""

import platform

_PACKAGES = ("jaxrnn", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "pyarrow")


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that decide a run's numbers."""
    import importlib.metadata  # takes longer than all else that --help needs

    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found
