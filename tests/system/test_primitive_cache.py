"""oneDNN keeps few compiled primitives in whatever process computes."""

from __future__ import annotations

import os
import subprocess
import sys

from tailorbird.system.process import KEPT_PRIMITIVES

VARIABLE = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"


def told(code: str, **environment: str) -> str:
    code = f"import os; from tailorbird.inference import *; from tailorbird.training import *; {code}"
    given = {name: value for name, value in os.environ.items() if name != VARIABLE} | environment
    return subprocess.run([sys.executable, "-c", code], env=given, capture_output=True, text=True, check=True).stdout


def test_whatever_computes_limits_the_cache_unless_a_limit_is_set() -> None:
    opened = "open_engine, open_encoder, open_model_reader, open_trainer"
    limits = told(f"print([(opened(), os.environ.pop('{VARIABLE}'))[1] for opened in ({opened})])")
    assert limits.strip() == str([str(KEPT_PRIMITIVES)] * 4)
    assert told(f"open_trainer(); print(os.environ['{VARIABLE}'])", **{VARIABLE: "7"}).strip() == "7"
