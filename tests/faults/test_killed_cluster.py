"""The story on Ray, PostgreSQL and S3 (``make ray``): it ends with the same release, whatever is killed meanwhile."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from support import cluster_story
from support.cluster_story import KINDS, Moment, Site, Told, in_namespace
from support.ray_cluster import ROOT


def test_a_story_that_was_over_before_its_kill_is_told_again_with_an_earlier_one(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = list[Moment | None]()

    def story(_site: Site, moment: Moment | None = None) -> Told:
        heard.append(moment)
        return Told("release", "" if moment is None or moment.after else moment.step, 1.0)

    monkeypatch.setattr(Site, "story", story)
    told, _ = cluster_story._told(Site.__new__(Site), Moment("worker", "plan", 1.2))
    assert told.step == "plan"
    assert heard == [Moment("worker", "plan", 1.2), Moment("worker", "plan", 0.0)]


@pytest.mark.ray
def test_one_kill_of_each_kind() -> None:
    """In a process and a network of their own: other tests have a cluster too. ``benchmarks/scale/run.py --only kills`` has more kills."""
    given = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tests'}"}
    done = subprocess.run(in_namespace(len(KINDS)), env=given, capture_output=True, text=True, check=False, timeout=1200)
    assert done.returncode == 0, done.stdout + done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each["kind"] for each in told] == ["", *KINDS]
    assert [bool(each["step"]) for each in told] == [False, *([True] * len(KINDS))], "a story was over before its kill"
    assert len({each["release"] for each in told}) == 1
