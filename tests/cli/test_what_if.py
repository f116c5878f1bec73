"""What another machine is said to have, before it is planned for."""

from __future__ import annotations

import pytest

from tailorbird.cli.plan import changes_of
from tailorbird.domain.errors import InvalidInput
from tailorbird.usecases.registry import validated
from tailorbird.usecases.runs.what_if import PlanChange

RUN = "run_0123456789abcdef"


def test_what_is_asked_is_read() -> None:
    assert changes_of("memory=8, gpu = h100,") == {"memory": "8", "gpu": "h100"}
    assert changes_of("") == {}


@pytest.mark.parametrize("text", ["gpu=", "gpu= ", "memory", "=8", "cpu=4", "run=abc", "memory=8,memory=16", "memory=8,gpu=h100, memory=8"])
def test_what_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        changes_of(text)
    assert refused.value.error_code == "what_if"


@pytest.mark.parametrize(
    "text",
    [
        *("cores=1e11", "cores=0", "cores=10001", "cores=1.5", "memory=0", "memory=-1", "memory=inf", "memory=nan", "memory=1e9"),
        *("budget=inf", "budget=-1", "hours=0", "hours=nan", "price=1e300", "traffic=1e300", "memory=8GB"),
    ],
)
def test_what_no_machine_has_is_refused(text: str) -> None:
    name = text.partition("=")[0]
    with pytest.raises(InvalidInput) as refused:
        validated(PlanChange, {"run": RUN} | changes_of(text))
    assert refused.value.param == name
    assert validated(PlanChange, {"run": RUN, name: "1"})
