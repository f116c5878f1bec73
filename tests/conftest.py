"""What all tests share: the test data's place, the base model, a clean environment."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from support.ray_cluster import RayCluster, ray_cluster
from tailorbird.ledger import sqlite
from tailorbird.system import sandbox

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# No test waits for a package index: what needs an encoder brings it.
os.environ.setdefault("TAILORBIRD_FETCH_ENCODER", "false")
# Nor does any look into the user's cache: each workspace has its models in itself.
os.environ.setdefault("TAILORBIRD_MODEL_CACHE", "models")

# A shell that starts the tests in the background has SIGINT ignored, and all processes that they start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A test is never timed: the machine may be busy. A nightly run tries a hundred examples of each property, or as many as are asked for.
EXAMPLES = int(os.environ.get("TAILORBIRD_FUZZ_EXAMPLES", "25"))
settings.register_profile("house", max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")


def pytest_make_parametrize_id(val: object) -> str | None:
    """Bytes that cannot be read are no name: packed ones hold the time of their making, and would differ in each worker."""
    if isinstance(val, bytes) and not (val.isascii() and val.decode("ascii").isprintable()):
        return f"{len(val)}-bytes"
    return None


def pytest_collection_finish() -> None:
    """What was imported by now stays: no collection of garbage walks it again."""
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def present_objects_walked_once() -> Iterator[None]:
    """As above, for what a module's tests imported and keep: a collection takes seconds once all that tests bring along is in memory."""
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def no_power_loss() -> Iterator[None]:
    """Processes are killed in tests, and the machine is not: what this one wrote is there without a wait for the disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _file: None)
        patch.setattr(sqlite, "SYNCHRONOUS", dict.fromkeys((True, False), "OFF"))
        yield


ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder with real data sets; its absence skips, aloud."""
    folder = Path(os.environ.get("TAILORBIRD_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no test data: set TAILORBIRD_TEST_DATA to the folder that holds banking77/")
    return folder


@pytest.fixture(scope="session")
def warm_converter() -> None:
    """What converts a model takes seconds to import: once, and not in each process that is confined."""
    sandbox.start("tailorbird.inference.model_converter")


@pytest.fixture(scope="session")
def base_model_folder() -> Path:
    """SmolLM2-135M-Instruct as safetensors, converted once into a cache that later runs share."""
    from tailorbird.base_models import pull
    from tailorbird.inference import open_model_reader

    cache = Path(os.environ.get("TAILORBIRD_MODELS", ROOT / ".cache" / "models"))
    return pull("smollm2-135m", cache, open_model_reader)


@pytest.fixture(scope="session")
def encoder_folder() -> Path:
    """MiniLM as safetensors, taken once into the same cache."""
    from tailorbird.base_models import pull
    from tailorbird.inference import open_model_reader

    cache = Path(os.environ.get("TAILORBIRD_MODELS", ROOT / ".cache" / "models"))
    return pull("minilm-l6-v2", cache, open_model_reader)


def installed_wheel_folder(package: str) -> Path | None:
    """The folder of an installed package that carries data, without importing it."""
    spec = find_spec(package)
    return Path(next(iter(spec.submodule_search_locations))) if spec and spec.submodule_search_locations else None


@pytest.fixture(scope="session")
def raylets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    """Two raylets of one core each, which this process may join. One cluster for all tests: Ray keeps the first token that it reads."""
    with ray_cluster(tmp_path_factory.mktemp("ray"), 1, 1) as started, pytest.MonkeyPatch.context() as patch:
        for name, value in started.environment.items():
            patch.setenv(name, value)
        yield started
        import ray

        ray.shutdown()
