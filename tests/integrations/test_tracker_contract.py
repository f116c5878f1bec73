"""What every tracker must do: the same training to the twin and to MLflow's API."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from support.doubles import MemoryTracker
from support.mlflow_server import Server, mlflow_server
from tailorbird.domain.errors import Unavailable
from tailorbird.domain.run import TrainingProgress, TrainingReport
from tailorbird.integrations import mlflow
from tailorbird.ports.tracker import TrackedTraining, Tracker, numbers

TRAINING = TrackedTraining(experiment="acme/desk", run="162292ef2971", name="make lora r16", settings={"learning_rate": "0.001"})
Curves = set[tuple[str, int, float]]


def line(step: int, held_out: float | None = None) -> TrainingProgress:
    return TrainingProgress(
        step=step,
        steps=3,
        loss=1 / (step + 1),
        held_out_loss=held_out,
        learning_rate=0.001,
        tokens=100 * step,
        tokens_per_second=50.0,
        memory_gb=0.5,
        seconds=float(step),
    )


def report() -> TrainingReport:
    digest = "sha256:" + "0" * 64
    return TrainingReport(
        settings=digest,
        snapshot=digest,
        base_model=digest,
        steps=3,
        best_step=2,
        best_held_out_loss=0.25,
        first_held_out_loss=1.0,
        history=(),
        trained_parameters=1,
        tokens=300,
        loss_tokens=30,
        seconds=3.0,
        peak_memory_gb=0.5,
        flops=1.0,
        environment={},
    )


@dataclass
class Place:
    """Opens trackers that show in one place, and reads what they showed: curves, settings, and how many trainings."""

    open: Callable[[], Tracker]
    curves: Callable[[], Curves]
    settings: Callable[[], str]
    trainings: Callable[[], int]


def mlflow_place(server: Server) -> Place:
    def curves() -> Curves:
        return {(name, step, round(value, 6)) for run in server.runs.values() for name, step, value in run["metrics"]}

    def settings() -> str:
        return str([run["params"] for run in server.runs.values()])

    return Place(lambda: mlflow.open_tracker(server.url, server.token), curves, settings, lambda: len(server.runs))


def memory_place() -> Place:
    twin = MemoryTracker()

    def curves() -> Curves:
        shown = {(name, one.step, round(value, 6)) for one in twin.lines for name, value in numbers(one).items()}
        return shown | {("best_held_out_loss", end.best_step, end.best_held_out_loss) for end in twin.ends if end}

    return Place(lambda: twin, curves, lambda: str(twin.trainings), lambda: len({one.run for one in twin.trainings}))


@pytest.fixture(params=["memory", "mlflow"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    if request.param == "mlflow":
        with mlflow_server("s3cret") as server:
            yield mlflow_place(server)
    else:
        yield memory_place()


def test_every_step_is_shown_and_so_are_the_settings(place: Place) -> None:
    tracker, lines = place.open(), [line(0, held_out=1.0), line(1), line(2, held_out=0.25)]
    tracker.begin(TRAINING)
    for one in lines:
        tracker.note(one)
    tracker.end(report())
    expected = {(name, one.step, round(value, 6)) for one in lines for name, value in numbers(one).items()}
    assert place.curves() == expected | {("best_held_out_loss", 2, 0.25)}
    assert "learning_rate" in place.settings()
    assert "0.001" in place.settings()


def test_a_training_that_is_gone_on_with_stays_one(place: Place) -> None:
    first = place.open()
    first.begin(TRAINING)
    first.note(line(1))
    first.end(None)
    second = place.open()
    second.begin(TRAINING)
    second.note(line(2))
    second.end(report())
    assert place.trainings() == 1
    assert {step for name, step, _ in place.curves() if name == "loss"} == {1, 2}


@pytest.mark.parametrize("token", ["wrong", "down"])
def test_a_server_that_cannot_be_used_is_named_as_such(token: str) -> None:
    with mlflow_server("s3cret") as server:
        url = server.url
        if token == "wrong":
            with pytest.raises(Unavailable, match="401"):
                mlflow.open_tracker(url, token).begin(TRAINING)
            return
    with pytest.raises(Unavailable) as caught:
        mlflow.open_tracker(url, "").begin(TRAINING)
    assert caught.value.error_code == "tracker_unreachable"
