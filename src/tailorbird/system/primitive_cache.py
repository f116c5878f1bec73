"""oneDNN's cache of compiled primitives, kept small: a multiplication in bf16 has one for each shape, of 0.6 MiB.

Rows of a pass, and tokens that an expert meets, differ from pass to pass. With oneDNN's own limit of 1,024 primitives a process grows by
0.6 GiB that no estimate knows of; compiling one takes half a millisecond (two cores, AVX512-BF16; oneDNN's manual, "Primitive Cache").
"""

from __future__ import annotations

import os

#: Primitives kept: more than the layers of a small model have shapes in one pass (docs/benchmarks.md).
KEPT_PRIMITIVES = 64
#: MiB of each.
PRIMITIVE_MIB = 0.6
_VARIABLE = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"


def limit_primitive_cache() -> None:
    """Sets the limit for this process and those that it starts, unless it is set. To be called before anything is computed."""
    os.environ.setdefault(_VARIABLE, str(KEPT_PRIMITIVES))
