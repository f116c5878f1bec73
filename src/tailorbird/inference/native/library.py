"""``kernels.cpp`` as a library: compiled once for this processor, kept in the user's cache, loaded."""

from __future__ import annotations

import logging
import os
import platform
import shutil
import subprocess
from ctypes import POINTER, Structure, c_float, c_int32, c_int64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

import torch

from tailorbird.inference.native.compiler import load_compiled

_log = logging.getLogger("tailorbird.engine")

_SOURCE = Path(__file__).with_name("kernels.cpp")
_FLAGS = ("-std=c++20", "-O3", "-march=native", "-pthread", "-fPIC", "-shared")


class NativeMatrix(Structure):
    """As in kernels.cpp."""

    _fields_ = (("packed", c_void_p), ("bias", c_void_p), ("inputs", c_int64), ("outputs", c_int64))


class NativeLayer(Structure):
    """As in kernels.cpp."""

    _fields_ = (
        ("norm_attention", c_void_p),
        ("norm_mlp", c_void_p),
        ("qkv", NativeMatrix),
        ("out", NativeMatrix),
        ("gate_up", NativeMatrix),
        ("down", NativeMatrix),
    )


class NativeModel(Structure):
    """As in kernels.cpp."""

    _fields_ = (
        *((name, c_int64) for name in ("layers", "hidden", "query_heads", "key_heads", "head_size", "inner", "vocabulary", "threads")),
        ("epsilon", c_float),
        ("scale", c_float),
        *((name, c_void_p) for name in ("embedding", "norm", "cos", "sin")),
        ("layer", POINTER(NativeLayer)),
        ("head", NativeMatrix),
    )


class NativeDelta(Structure):
    """As in kernels.cpp."""

    _fields_ = (
        ("down", c_void_p),
        ("up", c_void_p),
        ("inputs", c_int64),
        ("rank", c_int64),
        ("parts", c_int64),
        ("outputs", POINTER(c_int64)),
    )


class NativeGroup(Structure):
    """As in kernels.cpp."""

    _fields_ = (("start", c_int64), ("stop", c_int64), ("deltas", c_void_p))


class NativeBatch(Structure):
    """As in kernels.cpp."""

    _fields_ = (
        ("rows", c_int64),
        ("groups", c_int64),
        ("wanted", c_int64),
        *(
            (name, POINTER(c_int32))
            for name in (
                "tokens",
                "positions",
                "slots",
                "contexts",
                "tables",
                "table_at",
                "branches",
                "branch_at",
                "branch_count",
                "wants",
            )
        ),
        ("group", POINTER(NativeGroup)),
    )


def why_not() -> str | None:
    """Why the library cannot be used here; None where it can."""
    if platform.machine() not in ("x86_64", "AMD64") or not _multiplies_bf16():
        return "the processor has no AVX512-BF16"
    if _compiler() is None:
        return "there is no C++ compiler (g++)"
    return None if library() is not None else "its compilation failed"


@cache
def library() -> Any:
    """The loaded library; None when it could not be compiled (the log says why)."""
    compiler = _compiler()
    if compiler is None:
        return None
    try:
        loaded = load_compiled(_SOURCE, [compiler, *_FLAGS], _processor())
    except (OSError, subprocess.SubprocessError) as error:
        _log.warning("the native forward pass could not be compiled (%s); the plain one is used", type(error).__name__)
        return None
    loaded.pack.argtypes = [c_void_p, c_int64, c_int64, c_void_p]
    loaded.hidden.argtypes = [POINTER(NativeModel), POINTER(NativeBatch), c_void_p, c_void_p, c_int64, c_void_p]
    loaded.logits.argtypes = [POINTER(NativeModel), c_void_p, c_int64, c_void_p]
    for name in ("pack", "hidden", "logits"):
        getattr(loaded, name).restype = None
    return loaded


def pack(weight_OI: torch.Tensor, packed: torch.Tensor) -> None:
    """Lays a bf16 matrix into ``packed`` as the kernels read it; both its sizes are multiples of 16."""
    outputs, inputs = weight_OI.shape
    source = weight_OI.contiguous()
    library().pack(source.data_ptr(), outputs, inputs, packed.data_ptr())


def _compiler() -> str | None:
    return shutil.which(os.environ.get("CXX", "g++"))


def _multiplies_bf16() -> bool:
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16"))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith("flags")), "") + next(
        (line for line in lines if line.startswith("model name")), ""
    )
