"""What processes of a cluster do in tests: plain functions for the contract, and steps with twins for all that needs torch."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path


def plain(task: str) -> str:
    """``echo TEXT``, ``fail``, ``die``, ``process``: its number, or ``sleep FILE``: until it is interrupted or FILE says ``wake``."""
    verb, _, rest = task.partition(" ")
    if verb == "fail":
        raise ValueError("the text of a row")
    if verb == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if verb == "process":
        return str(os.getpid())
    return _sleep(Path(rest)) if verb == "sleep" else rest


def _sleep(file: Path) -> str:
    """Says in FILE that it sleeps, and how that ended."""
    try:
        file.write_text("asleep")
        while file.read_text() != "wake":
            time.sleep(0.05)
    except KeyboardInterrupt:
        file.write_text("interrupted")
        raise
    return "awake"


def twin_step(task: str) -> str:
    """The step, and those after it, with twins and short leases. At the first of the moments in the workspace's file ``kills`` the process
    takes it out and dies; where it begins with ``stop``, the process stops there instead, as if its machine were cut off."""
    from support.moments import Passing, watch
    from support.story_process import hurry, use_twins
    from tailorbird.processes.worker import perform_step
    from tailorbird.usecases.runs.placement import StepTask

    use_twins()
    hurry()
    file = Path(StepTask.model_validate_json(task).workspace) / "kills"

    class Listed(Passing):
        def __call__(self, name: str) -> None:
            first, *others = file.read_text().splitlines() or [""]
            if first and threading.current_thread() is threading.main_thread() and name.startswith(first.removeprefix("stop ")):
                file.write_text("\n".join(others))
                os.kill(os.getpid(), signal.SIGSTOP if first.startswith("stop ") else signal.SIGKILL)

    if file.exists():
        watch(Listed(None))
    return perform_step(task)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def adapt_on_ray(workspace: str, objective: str, address: str, cores: str) -> None:
    """``tailorbird adapt`` with twins, whose steps are done by the cluster at ``address``, with so many cores each."""
    from dataclasses import replace

    from support.story_process import hurry, use_twins
    from tailorbird import settings, wiring
    from tailorbird.integrations.ray import RayCompute
    from tailorbird.usecases import Progress
    from tailorbird.usecases.identities import act_as
    from tailorbird.usecases.runs.submit import adapt

    use_twins()
    hurry()
    cluster = RayCompute(address, "support.placed_tasks:twin_step")
    deps = replace(wiring.open_dependencies(settings.load_settings(Path(workspace))), compute=lambda: cluster, step_cores=int(cores))
    adapt(deps, act_as(deps, "acme", "author"), Path(objective), Progress(tell=_say))


if __name__ == "__main__":
    from support.placed_tasks import adapt_on_ray as adapt_by_name

    adapt_by_name(*sys.argv[1:])
