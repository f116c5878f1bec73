"""The catalogue is read from its file."""

import re

from tailorbird.base_models import address_of, catalogue
from tailorbird.base_models.sources import is_name


def test_every_entry_is_pinned_and_named_once() -> None:
    names = [entry.name for entry in catalogue()]
    assert len(names) == len(set(names)) > 0
    packaged = [entry for entry in catalogue() if entry.source.kind == "wheel"]
    assert {"smollm2-135m", "minilm-l6-v2"} <= {entry.name for entry in packaged}
    assert all(re.fullmatch(r"[0-9a-f]{64}", entry.source.sha256) for entry in packaged)
    # What the hub holds is pinned to a commit when it is pulled.
    assert all(is_name(address_of(entry)) for entry in catalogue() if entry not in packaged)
