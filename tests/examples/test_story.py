"""The parts that the example scripts share, on a workspace without a model."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(scope="module")
def story_module() -> ModuleType:
    found = importlib.util.spec_from_file_location("story", EXAMPLES / "story.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules["story"] = module
    found.loader.exec_module(module)
    return module


def test_commands_are_shown_with_what_they_print(story_module: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    story = story_module.Story(tmp_path / "workspace")
    story.run("init", "--tenant", "acme", "--workspace", str(story.workspace))
    assert story.newest_release() is None
    assert story.key("shop").startswith("tb_")
    told = capsys.readouterr().out
    assert f"$ tailorbird init --tenant acme --workspace {story.workspace}\n" in told
    assert "release list" not in told
    assert "tb_" not in told
    with pytest.raises(SystemExit, match="tailorbird release ended with status 1"):
        story.run("release", "show", "0123456789ab")
