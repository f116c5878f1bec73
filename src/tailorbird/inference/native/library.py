"""``kernels.cpp`` as a library, compiled once for this processor and loaded from a cache that only this user can write.

A library that is loaded may do whatever this process may. So its name, which says what it was made from, is not enough: it, its record and
each folder above must be this user's (or root's) and writable by nobody else, and its bytes those that were recorded when it was made. The
bytes that are loaded are those that were checked, even if the file is replaced meanwhile.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from ctypes import POINTER, Structure, c_char_p, c_float, c_int32, c_int64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

from tailorbird.system.files import OWNER_FILE, private_folder, user_cache

_log = logging.getLogger("tailorbird.engine")

#: Seconds that the compiler may take.
_PATIENCE = 120.0
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def load_compiled(source: Path, command: Sequence[str], processor: str) -> ctypes.CDLL:
    """The library that ``command`` makes of ``source`` for ``processor``. A change of any of them, or of a header beside ``source``,
    compiles anew.

    Raises OSError, SubprocessError: it cannot be compiled or loaded.
    """
    version = subprocess.run([command[0], "--version"], capture_output=True, check=True, timeout=_PATIENCE).stdout
    texts = b"".join(each.read_bytes() for each in (source, *sorted(source.parent.glob("*.h"))))
    named = hashlib.sha256(texts + version + processor.encode() + " ".join(command[1:]).encode()).hexdigest()
    folder = _own_cache()
    if folder is not None:
        target = folder / f"{named[:32]}.so"
        found = _load_checked(target)
        if found is None:
            with suppress(OSError):  # it may be read, and not written
                _compile(source, command, target)
            found = _load_checked(target)
        if found is not None:
            return found
    _log.warning(
        "%s is not this user's alone, or cannot be written: the native forward pass is compiled anew at each start",
        folder or "the cache folder",
    )
    with tempfile.TemporaryDirectory(prefix="tailorbird-") as own:
        target = Path(own) / "kernels.so"
        _compile(source, command, target)
        return _loaded_from(target.read_bytes())


def is_ours(path: Path) -> bool:
    """True when ``path``, each folder above it and each link on the way are this user's or root's, and nobody else may write there; a
    folder above in which everybody may write, but each only to his own (sticky), is fine."""
    lexical, real = path.absolute(), path.resolve()
    links = [place for place in (lexical, *lexical.parents) if place.is_symlink()]
    folders = [(place.lstat(), place == real) for place in (real, *real.parents)]
    trusted = (os.getuid(), 0)
    return all(link.lstat().st_uid in trusted for link in links) and all(
        told.st_uid in trusted and (not told.st_mode & _OTHERS_WRITE or (bool(told.st_mode & stat.S_ISVTX) and not last))
        for told, last in folders
    )


def _own_cache() -> Path | None:
    """The folder of libraries; None where there is none that this user alone can write."""
    cache = user_cache()
    with suppress(OSError):
        return cache / "kernels" if cache and is_ours(private_folder(cache / "kernels")) else None
    return None


def _record_of(target: Path) -> Path:
    return target.with_suffix(".sha256")


def _load_checked(target: Path) -> ctypes.CDLL | None:
    """The library at ``target``, if its bytes are those that were recorded; None where there is none, or another."""
    try:
        recorded, library = _read_own(_record_of(target)), _read_own(target)
    except OSError:
        return None
    if hashlib.sha256(library).hexdigest().encode() != recorded:
        _log.warning("the native library in the cache is not the one that was compiled: it is compiled anew")
        return None
    return _loaded_from(library)


def _loaded_from(library: bytes) -> ctypes.CDLL:
    """The library with these bytes, whatever becomes of a file: from memory where the system offers that, for folders of temporary files
    are often barred from holding programs (noexec)."""
    with suppress(OSError, AttributeError):
        # Never closed: the linker knows a library by its name, and would give this one to whoever gets the number next.
        held = os.memfd_create("tailorbird-kernels")
        Path(f"/proc/self/fd/{held}").write_bytes(library)
        return ctypes.CDLL(f"/proc/self/fd/{held}")
    with tempfile.TemporaryDirectory(prefix="tailorbird-") as own:
        copy = Path(own) / "kernels.so"
        copy.write_bytes(library)
        return ctypes.CDLL(str(copy))


def _read_own(path: Path) -> bytes:
    """The bytes of a plain file of this user. Raises OSError: there is none, it is a link, somebody else's, or writable by others."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb") as file:
        told = os.fstat(descriptor)
        if not stat.S_ISREG(told.st_mode) or told.st_uid != os.getuid() or told.st_mode & _OTHERS_WRITE:
            raise PermissionError(f"{path} is not this user's alone")
        return file.read()


def _compile(source: Path, command: Sequence[str], target: Path) -> None:
    """Makes the library and its record; each is whole or not there."""
    with tempfile.TemporaryDirectory(dir=target.parent) as making:
        made, record = Path(making) / "kernels.so", Path(making) / "record"
        subprocess.run([*command, "-o", str(made), str(source)], capture_output=True, check=True, timeout=_PATIENCE)
        made.chmod(OWNER_FILE)
        record.touch(mode=OWNER_FILE)
        record.write_text(hashlib.sha256(made.read_bytes()).hexdigest(), encoding="ascii")
        made.replace(target)
        record.replace(_record_of(target))


_SOURCE = Path(__file__).with_name("kernels.cpp")
_FLAGS = ("-std=c++20", "-O3", "-pthread", "-fPIC", "-shared")


class Form(NamedTuple):
    """How the kernels compute sixteen numbers at a time: by the instructions that ``flags`` let the compiler use (lanes.h)."""

    flags: tuple[str, ...]

    @property
    def command(self) -> tuple[str, ...]:
        """What the compiler is told."""
        return (*_FLAGS, *self.flags)


#: By matrix registers (AMX) beside AVX512-BF16, by the instructions of AVX512-BF16 alone, and by the compiler's vectors in whatever
#: registers there are.
AMX = Form(("-march=native", "-mamx-tile", "-mamx-bf16", "-DUSE_MATRICES"))
AVX512 = Form(("-march=native",))
PORTABLE = Form(("-march=native", "-ffp-contract=fast"))


class NativeMatrix(Structure):
    """As in kernels.cpp."""

    _fields_ = (("packed", c_void_p), ("bias", c_void_p), ("inputs", c_int64), ("outputs", c_int64), ("eight", c_int64))


class NativeLayer(Structure):
    """As in kernels.cpp."""

    _fields_ = (
        *(
            (name, c_void_p)
            for name in ("norm_attention", "after_attention", "norm_mlp", "after_mlp", "norm_query", "norm_key", "cos", "sin")
        ),
        ("window", c_int64),
        ("qkv", NativeMatrix),
        ("out", NativeMatrix),
        ("gate_up", NativeMatrix),
        ("down", NativeMatrix),
    )


class NativeModel(Structure):
    """As in kernels.cpp."""

    _fields_ = (
        *(
            (name, c_int64)
            for name in ("layers", "hidden", "query_heads", "key_heads", "head_size", "inner", "vocabulary", "threads", "gelu")
        ),
        *((name, c_float) for name in ("epsilon", "scale", "embedding_scale")),
        *((name, c_void_p) for name in ("embedding", "norm")),
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
        ("outputs", c_int64 * 3),
    )


class NativePiece(Structure):
    """As in kernels.cpp."""

    _fields_ = (
        ("from_", c_void_p),
        *((name, c_int64) for name in ("kind", "rows", "columns")),
        ("packed", c_void_p),
        *((name, c_int64) for name in ("to_rows", "to_columns", "length")),
        ("factor", c_float),
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


def form_here() -> Form | None:
    """The form for this processor; None where it has neither AVX2 with FMA nor the vectors of 64-bit ARM."""
    if platform.machine() == "aarch64":
        return PORTABLE
    can: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    if platform.machine() not in ("x86_64", "AMD64") or not (can.get("avx2") and can.get("fma3")):
        return None
    if not can.get("avx512_bf16"):
        return PORTABLE
    return AMX if can.get("amx_bf16") and _loaded(AMX) is not None else AVX512


def why_not() -> str | None:
    """Reason why the library cannot be used here; None where it can."""
    if form_here() is None:
        return "the processor has neither AVX2 with FMA nor is it 64-bit ARM"
    if _compiler() is None:
        return "there is no C++ compiler (g++)"
    return None if library() is not None else "its compilation failed"


def form_name() -> str:
    """``avx512``, ``amx`` or ``portable``, as the library for this processor was compiled. Once ``why_not`` says None."""
    return str(library().form().decode())


def library(form: Form | None = None) -> Any:
    """The loaded library in ``form``, else in that for this processor; None where it has none or it could not be compiled (the log says
    why)."""
    chosen = form or form_here()
    return None if chosen is None else _loaded(chosen)


@cache
def _loaded(form: Form) -> Any:
    compiler = _compiler()
    if compiler is None:
        return None
    try:
        loaded = load_compiled(_SOURCE, [compiler, *form.command], _processor())
    except (OSError, subprocess.SubprocessError) as error:
        instead = "it computes without matrix registers (AMX)" if form is AMX else "the plain one is used"
        _log.warning("the native forward pass could not be compiled (%s); %s", type(error).__name__, instead)
        return None
    loaded.form.argtypes, loaded.form.restype = [], c_char_p
    loaded.usable.argtypes, loaded.usable.restype = [], c_int32
    if not loaded.usable():
        _log.warning("the system does not let this process use the processor's matrix registers (AMX): it computes without them")
        return None
    loaded.pack.argtypes = [c_void_p, c_int64, c_int64, c_void_p]
    loaded.pack8.argtypes = [c_void_p, c_int64, c_int64, c_void_p]
    loaded.lay.argtypes = [POINTER(NativePiece), c_int64]
    loaded.hidden.argtypes = [POINTER(NativeModel), POINTER(NativeBatch), c_void_p, c_void_p, c_int64, c_void_p]
    loaded.logits.argtypes = [POINTER(NativeModel), c_void_p, c_int64, c_void_p]
    for name in ("pack", "pack8", "lay", "hidden", "logits"):
        getattr(loaded, name).restype = None
    return loaded


def pack(weight_OI: torch.Tensor, packed: torch.Tensor) -> None:
    """Lays a bf16 matrix into ``packed`` as the kernels read it; both its sizes are multiples of 16."""
    outputs, inputs = weight_OI.shape
    source = weight_OI.contiguous()
    library().pack(source.data_ptr(), outputs, inputs, packed.data_ptr())


#: Number formats of an adapter's file that are read as they lie there.
_KINDS = {torch.bfloat16: 0, torch.float16: 1, torch.float32: 2}


class AdapterLayout:
    """Matrices of an adapter that are laid out in one call, which does not hold Python's lock, in int8."""

    def __init__(self) -> None:
        self._pieces: list[NativePiece] = []
        self._held: list[torch.Tensor] = []

    def add(self, matrix: torch.Tensor | None, shape: tuple[int, int], length: int, factor: float, place: int) -> None:
        """``matrix`` times ``factor``, in runs of ``length`` inputs, at the address ``place``: ``shape``, multiples of 16 and of
        ``length``, zeros where it has nothing; None: zeros alone."""
        if matrix is None:
            self._pieces.append(NativePiece(None, 0, 0, 0, place, *shape, length, 0.0))
            return
        source = (matrix if matrix.dtype in _KINDS else matrix.float()).contiguous()
        self._held.append(source)
        self._pieces.append(NativePiece(source.data_ptr(), _KINDS[source.dtype], *source.shape, place, *shape, length, factor))

    def write(self) -> None:
        """Lays all of them out."""
        library().lay((NativePiece * len(self._pieces))(*self._pieces), len(self._pieces))


#: Inputs of a run, of weights in int8: of all but the second matrix of an adapter, and of that.
RUN, SHORT_RUN = 64, 16


def quantised_bytes(outputs: int, inputs: int, run: int = RUN) -> int:
    """Bytes that a matrix in int8 takes, its scales included, in runs of so many inputs, the last one filled up."""
    return outputs * -(-inputs // run) * (run + (2 if run == SHORT_RUN else 4))


def packed_size(outputs: int, inputs: int, *, eight_bits: bool) -> int:
    """16-bit numbers that a packed matrix takes."""
    return quantised_bytes(outputs, inputs) // 2 if eight_bits else outputs * inputs


def pack_eight(weight_OI: torch.Tensor, packed: torch.Tensor) -> None:
    """The same in int8, into ``packed`` of ``packed_size``; the inputs are a multiple of ``RUN``."""
    outputs, inputs = weight_OI.shape
    source = weight_OI.contiguous()
    library().pack8(source.data_ptr(), outputs, inputs, packed.data_ptr())


def _compiler() -> str | None:
    return shutil.which(os.environ.get("CXX", "g++"))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith("flags")), "") + next(
        (line for line in lines if line.startswith("model name")), ""
    )
