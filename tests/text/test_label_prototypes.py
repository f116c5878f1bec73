"""Prototypes of labels as a file: what was written is read, and what does not fit is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tailorbird.domain.errors import ModelInvalid
from tailorbird.text.label_rules import PROTOTYPES, LabelPrototypes, read_prototypes, write_prototypes

FOUND = LabelPrototypes(np.array([[1.0, -2.0, 0.5], [0.0, 4.0, 0.25]]), np.array([-3.0, 1.0]))


def test_log_odds_are_those_that_were_written(tmp_path: Path) -> None:
    write_prototypes(FOUND, tmp_path)
    read = read_prototypes(tmp_path, 2)
    vectors = np.array([[1, 0, 0], [0, 0.6, 0.8]], dtype=np.float32)
    np.testing.assert_allclose(read.log_odds(vectors), [[-2.0, 1.0], [-3.8, 3.6]], rtol=1e-6)


@pytest.mark.parametrize("spoiled", ["missing", "labels", "numbers", "format"])
def test_a_file_that_does_not_fit_is_refused(tmp_path: Path, spoiled: str) -> None:
    write_prototypes(FOUND, tmp_path)
    if spoiled == "missing":
        (tmp_path / PROTOTYPES).unlink()
    if spoiled == "format":
        (tmp_path / PROTOTYPES).write_bytes(b"no array")
    if spoiled == "numbers":
        np.save(tmp_path / PROTOTYPES, np.full((2, 4), np.nan))
    with pytest.raises(ModelInvalid) as told:
        read_prototypes(tmp_path, 3 if spoiled == "labels" else 2)
    assert told.value.error_code == "prototypes"
