"""The forms of the native pass that this processor can run: its own, the portable one as others compile it, and that of matrix registers,
which are simulated where the processor has none."""

from __future__ import annotations

import platform

from tailorbird.inference.native import library
from tailorbird.inference.native.library import Form

_CONTRACT = "-ffp-contract=fast"
#: As a processor with AVX2 compiles it; elsewhere as this one does.
PORTABLE = library.PORTABLE if platform.machine() == "aarch64" else Form(("-march=x86-64-v3", _CONTRACT))
FORMS: dict[str, Form] = {"portable": PORTABLE}
#: What other processors do in a register, done in a loop.
SIMULATED = Form(("-march=native", "-DUSE_MATRICES", "-DSIMULATE_MATRICES"))
if library.form_here() in (library.AVX512, library.AMX):
    FORMS["avx512"] = library.AVX512
    FORMS["amx"] = library.AMX if library.form_here() is library.AMX else SIMULATED
    # Registers as wide as these without products of bf16, and as narrow as those of ARM.
    FORMS["wide"] = Form(("-march=native", "-mno-avx512bf16", _CONTRACT))
    FORMS["narrow"] = Form(("-march=x86-64-v2", _CONTRACT))
#: Those that an engine is tried with.
ENGINE_FORMS = FORMS.keys() & {"portable", "amx" if library.form_here() is library.AMX else "avx512"}
