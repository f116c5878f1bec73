"""A library of the cache is loaded only if it is this user's alone and holds the bytes that were recorded when it was made."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from tailorbird.inference.native import library
from tailorbird.inference.native.library import load_compiled

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")

COMMAND = ["g++", "-shared", "-fPIC"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tailorbird" / "kernels"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "answer.cpp"
    path.write_text('extern "C" int answer() { return 42; }')
    return path


def answer(source: Path) -> int:
    return int(load_compiled(source, COMMAND, "any").answer())


def forged(folder: Path, tmp_path: Path) -> bytes:
    """Another library, as an attacker would put it there."""
    (tmp_path / "forged.cpp").write_text('extern "C" int answer() { return 666; }')
    library._compile(tmp_path / "forged.cpp", COMMAND, tmp_path / "forged.so")
    return (tmp_path / "forged.so").read_bytes()


def put(path: Path, data: bytes) -> None:
    """In place of the file, so that what is loaded already stays as it is."""
    path.with_suffix(".new").write_bytes(data)
    path.with_suffix(".new").replace(path)


def test_it_is_compiled_once_and_taken_from_the_cache(folder: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert answer(source) == 42
    assert {path.stat().st_mode & 0o077 for path in (folder, *folder.iterdir())} == {0}
    monkeypatch.setattr(library, "_compile", lambda *_: pytest.fail("compiled again"))
    assert answer(source) == 42


def test_another_header_or_another_command_is_another_library(folder: Path, source: Path) -> None:
    """Forms of one source lie side by side, and none is taken for another."""
    answer(source)
    source.with_name("answer.h").write_text("// a header beside it")
    answer(source)
    assert len(list(folder.glob("*.so"))) == 2
    load_compiled(source, [*COMMAND, "-O1"], "any")
    load_compiled(source, [*COMMAND, "-O1"], "another")
    answer(source)
    assert len(list(folder.glob("*.so"))) == 4


@pytest.mark.parametrize("damage", ["bytes", "record", "link"])
def test_another_library_under_its_name_is_not_loaded(damage: str, folder: Path, source: Path, tmp_path: Path) -> None:
    assert answer(source) == 42
    [found] = folder.glob("*.so")
    wrong = forged(folder, tmp_path)
    if damage == "link":
        found.unlink()
        found.symlink_to(tmp_path / "forged.so")
    else:
        put(found, wrong)
    if damage == "record":
        found.with_suffix(".sha256").unlink()
    assert answer(source) == 42


@pytest.mark.parametrize("above", range(4))
def test_what_others_may_write_is_not_used(above: int, folder: Path, source: Path, tmp_path: Path) -> None:
    """The file, its folder, and each folder above."""
    assert answer(source) == 42
    [found] = folder.glob("*.so")
    wrong = forged(folder, tmp_path)
    put(found, wrong)
    put(found.with_suffix(".sha256"), hashlib.sha256(wrong).hexdigest().encode())
    [found, *found.parents][above].chmod(0o777)
    assert answer(source) == 42


def test_it_is_compiled_at_each_start_where_no_cache_can_be_made(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No home, or one that is no folder: the plain pass was used, five times as slow."""
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert answer(source) == 42
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert answer(source) == 42
    assert caplog.text.count("compiled anew at each start") == 2


@pytest.mark.parametrize(
    ("machine", "can", "expected"),
    [
        ("x86_64", {"avx2", "fma3", "avx512_bf16"}, library.AVX512),
        ("x86_64", {"avx2", "fma3", "amx_bf16"}, library.PORTABLE),
        ("x86_64", {"avx2"}, None),
        ("riscv64", set[str](), None),
    ],
)
def test_the_processor_chooses_the_form(
    machine: str, can: set[str], expected: library.Form | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library.platform, "machine", lambda: machine)
    monkeypatch.setattr(library.torch.cpu, "get_capabilities", lambda: dict.fromkeys(can, True))
    assert library.form_here() is expected
    if expected is None:
        assert "AVX2" in str(library.why_not())
        assert library.library() is None


@pytest.mark.parametrize(("loads", "expected"), [(True, library.AMX), (False, library.AVX512)])
def test_matrix_registers_are_used_where_they_are_given(loads: bool, expected: library.Form, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiler may not know them, and the system may keep them back."""
    monkeypatch.setattr(library.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(library.torch.cpu, "get_capabilities", lambda: dict.fromkeys(("avx2", "fma3", "avx512_bf16", "amx_bf16"), True))
    monkeypatch.setattr(library, "_loaded", lambda form: object() if loads and form is library.AMX else None)
    assert library.form_here() is expected


def test_without_a_compiler_the_pass_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "form_here", lambda: library.Form(("-no-such-flag",)))
    assert library.why_not() == "its compilation failed"
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "no C++ compiler" in str(library.why_not())
    assert library.library() is None
