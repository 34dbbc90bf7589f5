"""Prints the version of libtpu that the installed JAX wants, as its extra [tpu] pins it."""

import re
from importlib import metadata

for requirement in metadata.requires("jax") or []:
    found = re.match(r"libtpu *\(?==([\d.*]+)", requirement)
    if found and "tpu" in requirement.partition(";")[2]:
        print(found[1])
        break
else:
    raise SystemExit("jax does not say which libtpu it wants")
