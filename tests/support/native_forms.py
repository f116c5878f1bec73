"""The forms of the native pass that this processor can run: its own, and the portable one as others compile it."""

from __future__ import annotations

import platform

from tailorbird.inference.native import library
from tailorbird.inference.native.library import Form

_CONTRACT = "-ffp-contract=fast"
#: As a processor with AVX2 compiles it; elsewhere as this one does.
PORTABLE = library.PORTABLE if platform.machine() == "aarch64" else Form(("-march=x86-64-v3", _CONTRACT))
FORMS: dict[str, Form] = {"portable": PORTABLE}
if library.form_here() is library.AVX512:
    FORMS["avx512"] = library.AVX512
    # Registers as wide as these without products of bf16, and as narrow as those of ARM.
    FORMS["wide"] = Form(("-march=native", "-mno-avx512bf16", _CONTRACT))
    FORMS["narrow"] = Form(("-march=x86-64-v2", _CONTRACT))
#: Those that an engine is tried with.
ENGINE_FORMS = FORMS.keys() & {"portable", "avx512"}
