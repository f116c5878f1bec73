"""MLflow tracker, by the REST API 2.0 of its tracking server."""

from __future__ import annotations

import time
from functools import cached_property
from typing import Any

import httpx

from tailorbird.domain.errors import InvalidInput, Unavailable
from tailorbird.domain.run import TrainingProgress, TrainingReport
from tailorbird.ports.tracker import TrackedTraining, Tracker, numbers
from tailorbird.system.outward_access import outward_client

#: Steps are sent together, at the latest after so many seconds.
_EVERY_SECONDS = 5.0
#: What one call may hold, by MLflow's limits: 1,000 metrics, 100 parameters, 6,000 characters a parameter's value.
_METRICS, _PARAMETERS, _CHARACTERS = 1000, 100, 6000
_TAG = "tailorbird.training"


def open_tracker(place: str, secret: str) -> Tracker:
    """A tracker for the server at ``place``; ``secret`` is sent as bearer token. Raises InvalidInput unless that is an http(s) URL."""
    if not place.startswith(("http://", "https://")):
        raise InvalidInput("MLflow's address is no http or https URL", "set tracking to a value such as mlflow:http://localhost:5000")
    return MlflowTracker(place, secret)


class MlflowTracker:
    """Implements ``Tracker``. A training that is gone on with is found by its tag and goes on as the same run."""

    def __init__(self, url: str, secret: str = "", timeout: float = 10.0) -> None:
        self._url, self._timeout = url.rstrip("/") + "/api/2.0/mlflow/", timeout
        self._headers = {"authorization": f"Bearer {secret}"} if secret else {}
        self._run = ""
        self._kept: list[dict[str, Any]] = []
        self._sent_at = time.monotonic()

    @cached_property
    def _client(self) -> httpx.Client:
        return outward_client(self._url, base_url=self._url, headers=self._headers, timeout=self._timeout)

    def begin(self, training: TrackedTraining) -> None:
        """Finds or makes experiment and run; settings become the run's parameters."""
        experiment, name = self._experiment(training.experiment), f"{training.run} {training.name}"
        self._kept.clear()
        found = self._post("runs/search", experiment_ids=[experiment], filter=f"tags.`{_TAG}` = '{name}'", max_results=1).get("runs")
        if found:
            self._run = found[0]["info"]["run_id"]
            self._post("runs/update", run_id=self._run, status="RUNNING")
            return
        made = self._post("runs/create", experiment_id=experiment, run_name=name, start_time=_now(), tags=[{"key": _TAG, "value": name}])
        self._run = made["run"]["info"]["run_id"]
        given = [{"key": key, "value": value[:_CHARACTERS]} for key, value in sorted(training.settings.items())]
        self._post("runs/log-batch", run_id=self._run, params=given[:_PARAMETERS])

    def note(self, line: TrainingProgress) -> None:
        """Keeps a step, and sends what is kept every few seconds."""
        now = _now()
        self._kept += [{"key": name, "value": value, "timestamp": now, "step": line.step} for name, value in numbers(line).items()]
        if time.monotonic() - self._sent_at > _EVERY_SECONDS or len(self._kept) > _METRICS // 2:
            self._send()

    def end(self, report: TrainingReport | None) -> None:
        """Sends the rest; the run is finished, or killed where it ended early (MLflow's word for it)."""
        if report is not None:
            best = {"key": "best_held_out_loss", "value": report.best_held_out_loss, "timestamp": _now(), "step": report.best_step}
            self._kept.append(best)
        self._send()
        self._post("runs/update", run_id=self._run, status="KILLED" if report is None else "FINISHED", end_time=_now())

    def _send(self) -> None:
        if self._kept:
            self._post("runs/log-batch", run_id=self._run, metrics=self._kept)
        self._kept.clear()
        self._sent_at = time.monotonic()

    def _experiment(self, name: str) -> str:
        found = self._ask("GET", "experiments/get-by-name", params={"experiment_name": name})
        if found.status_code == httpx.codes.NOT_FOUND:
            return str(self._post("experiments/create", name=name)["experiment_id"])
        return str(_checked(found)["experiment"]["experiment_id"])

    def _post(self, path: str, **body: Any) -> Any:
        return _checked(self._ask("POST", path, json=body))

    def _ask(self, method: str, path: str, **what: Any) -> httpx.Response:
        try:
            return self._client.request(method, path, **what)
        except httpx.TransportError as error:
            raise _unreachable(type(error).__name__) from error


def _checked(answer: httpx.Response) -> Any:
    if not answer.is_success:
        raise _unreachable(f"it answered {answer.status_code}")
    return answer.json()


def _unreachable(why: str) -> Unavailable:
    return Unavailable(
        f"the MLflow server cannot be used: {why}",
        "see that it is up and lets this machine in, or take it out of the setting tracking",
        code="tracker_unreachable",
    )


def _now() -> int:
    """Milliseconds, as MLflow counts."""
    return time.time_ns() // 1_000_000
