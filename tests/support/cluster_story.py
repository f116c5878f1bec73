"""The small story on Ray, PostgreSQL and S3, while one of them, or the process that asks, is killed.

As a program: ``cluster_story.py POINTS SEED`` tells so many stories, each with one kill at a moment drawn from those of a story, and says
one JSON object a line; status 1 where one did not end as it should. It is started by ``in_namespace``: Ray listens beyond loopback, and
everything ends with its namespace.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

from support.faults import Desk, Ending, ending_of, write_job
from support.postgresql import TEMPLATE, Server, running_server
from support.ray_cluster import RayCluster, ray_cluster
from support.s3 import S3Server, killable_s3
from tailorbird import settings
from tailorbird.domain.errors import TailorbirdError

#: What can be killed.
KINDS = ("worker", "raylet", "head", "driver", "database", "artifacts")
#: Cores of the raylets: the head does no step, as where a cluster's head is a small machine.
CORES = (0, 1, 1)
#: Seconds of a lease; between a server's end and its start; that a story may take in all.
_LEASE, _AWAY, _PATIENCE = 1.5, 1.0, 180.0
#: The latest moment, in seconds after a step was told of: some steps are longer, others are over by then.
_LATEST = 1.5
#: Seconds over which no thread sleeps too long because of others.
_PAUSE = 20.0
_SCRIPT = Path(__file__).with_name("placed_tasks.py")


@dataclass(frozen=True)
class Moment:
    """``kind`` is killed so many seconds after the process that asks told of ``step``: in that step, or in one after it."""

    kind: str
    step: str
    after: float


@dataclass
class Driver:
    """``tailorbird adapt`` in a process of its own, and the steps that it told of; ``holder`` is the process that does the last of them, or
    did the one before."""

    process: subprocess.Popen[str]
    said: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    holder: int = 0

    def listen(self) -> None:
        """Reads what is said, to the end."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line)
            if line.startswith("step "):
                self.steps.append(line.strip().removeprefix("step "))
            if line.strip().endswith("does the step"):
                self.holder = int(line.split()[0].rpartition(":")[2])

    @property
    def lives(self) -> bool:
        """True until it has ended."""
        return self.process.poll() is None

    def await_moment(self, moment: Moment) -> bool:
        """Until it is there; False where the process has ended by then."""
        while self.lives and moment.step not in self.steps:
            time.sleep(0.01)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(moment.after)
        return self.lives

    def kill_holder(self) -> None:
        """The process that does the step; where that is gone, the one that does the next."""
        while self.lives:
            with suppress(ProcessLookupError):
                if self.holder:
                    os.kill(self.holder, signal.SIGKILL)
                    return
            time.sleep(0.05)


@dataclass(frozen=True)
class Told:
    """A story that ended: its release, the step at which something was killed, empty where it was over by then, and seconds in all."""

    release: str
    step: str
    seconds: float


@dataclass
class Site:
    """A cluster, a database server and an S3 server; stories begin in copies of one workspace."""

    folder: Path
    cluster: RayCluster
    database: Server
    artifacts: S3Server
    template: Desk
    undisturbed: Ending | None = None

    def desk(self) -> Desk:
        """A workspace in which nothing has happened yet, with a database and a place for artifacts of its own."""
        desk = self.template.copy(self.folder / uuid4().hex)
        settings.save_settings(desk.workspace, _values(self.database.copy()))
        return desk

    def story(self, moment: Moment | None = None) -> Told:
        """Adapts, while something is killed at a moment, until a process ends well. Asserts that it ends with the release and the steps of
        the first story here, which nothing should disturb."""
        desk, began, said, at = self.desk(), time.monotonic(), list[str](), ""
        while True:
            assert time.monotonic() < began + _PATIENCE, "".join(said)
            driver = _started(desk, self.cluster)
            listener = threading.Thread(target=driver.listen)
            listener.start()
            try:
                if moment and not said:
                    at = self._disturb(moment, driver)
                with suppress(subprocess.TimeoutExpired):
                    driver.process.wait(max(1.0, began + _PATIENCE - time.monotonic()))
            finally:
                driver.process.kill()
                listener.join()
                said += driver.said
            if driver.process.returncode == 0:
                break
        seconds, ended = time.monotonic() - began, ending_of(desk)
        self.undisturbed = self.undisturbed or ended
        assert (ended.release, ended.steps) == (self.undisturbed.release, self.undisturbed.steps)
        return Told(ended.release, at, seconds)

    def _disturb(self, moment: Moment, driver: Driver) -> str:
        """Kills once, and has what was killed started again, as whoever runs such a place would. The step that was told of last by then."""
        if not driver.await_moment(moment):
            return ""
        at = driver.steps[-1]
        kills: dict[str, Callable[[], None]] = {
            "worker": driver.kill_holder,
            "raylet": lambda: self._lose_raylet(driver.holder),
            "head": lambda: self._lose_head(driver),
            "driver": driver.process.kill,
            "database": lambda: self._restart(self.database),
            "artifacts": lambda: self._restart(self.artifacts),
        }
        kills[moment.kind]()
        return at

    def _lose_raylet(self, pid: int) -> None:
        """The raylet that does the step, or the last one; another takes its place."""
        number = max(self.cluster.numbers())
        with suppress(OSError, ValueError):
            number = self.cluster.raylet_of(pid)
        self.cluster.end(number)
        self.cluster.start(max(self.cluster.numbers() | {number}) + 1)

    def _lose_head(self, driver: Driver) -> None:
        """Without it the cluster is gone; a new one is started, and the process that asks anew."""
        self.cluster.kill("gcs_server")
        time.sleep(_AWAY)
        driver.process.kill()
        self.renew()

    def renew(self) -> None:
        """Another cluster in place of this one."""
        self.cluster.clear()
        for number, cores in enumerate(CORES, 1):
            self.cluster.start(number, cores)

    @staticmethod
    def _restart(server: Server | S3Server) -> None:
        server.kill()
        time.sleep(_AWAY)
        server.start()


def _started(desk: Desk, cluster: RayCluster) -> Driver:
    command = [sys.executable, str(_SCRIPT), str(desk.workspace), str(desk.objective), cluster.address, "1"]
    given = os.environ | cluster.environment
    return Driver(subprocess.Popen(command, env=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))


def _values(database: str) -> dict[str, str]:
    return {"tenant": "acme", "database": database, "artifacts": f"s3://started/{uuid4().hex}"}


@contextmanager
def site(folder: Path) -> Iterator[Site]:
    """The place, in a network namespace of its own."""
    with running_server() as database, killable_s3() as artifacts, _environment(artifacts.url):
        template = Desk.new(folder / "template", write_job(folder / "job"), **_values(database.url(TEMPLATE)))
        with ray_cluster(folder, *CORES) as cluster:
            yield Site(folder, cluster, database, artifacts, template)


def moments(count: int, steps: Sequence[str], seed: int = 0) -> list[Moment]:
    """So many, of each kind in turn, in steps drawn from those of a story; in its last one at once, for it is soon over."""
    random = Random(seed)
    drawn = [(KINDS[number % len(KINDS)], random.choice(steps), random.uniform(0.0, _LATEST)) for number in range(count)]
    return [Moment(kind, step, 0.0 if step == steps[-1] else round(after, 2)) for kind, step, after in drawn]


@contextmanager
def _environment(url: str) -> Iterator[None]:
    names = {"ENDPOINT_URL": url, "ACCESS_KEY_ID": "any", "SECRET_ACCESS_KEY": "any", "DEFAULT_REGION": "us-east-1"}
    values = {f"AWS_{name}": value for name, value in names.items()} | {
        "TAILORBIRD_TEST_LEASE": str(_LEASE),
        "TAILORBIRD_FETCH_ENCODER": "false",
        "TAILORBIRD_MODEL_CACHE": "models",
        "OMP_NUM_THREADS": "1",
    }
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def in_namespace(count: int, seed: int = 0) -> list[str]:
    """The command of this program in a network of its own. By the same user: PostgreSQL does not run as root, and root cannot become
    another user where only one is known. The shell stays, as the process that asks how orphans ended: a database server that nobody asks
    about is held for one that runs."""
    user = [] if os.geteuid() == 0 else ["--map-current-user", "--keep-caps"]
    namespace = ["unshare", *user, "--net", "--pid", "--fork", "--mount-proc", "--kill-child"]
    program = [sys.executable, str(Path(__file__)), str(count), str(seed)]
    return [*namespace, "bash", "-c", 'ip link set lo up && "$@"; exit $?', "bash", *program]


class Pauses:
    """How often everything here was stopped from outside, as for a measurement on the same machine: a thread slept far too long."""

    def __init__(self) -> None:
        self.count = 0
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        while True:
            before = time.monotonic()
            time.sleep(1.0)
            self.count += time.monotonic() - before > _PAUSE


def main(count: int, seed: int) -> int:
    """Tells the stories, the first without a kill. Status 1 where one did not end as it should."""
    with tempfile.TemporaryDirectory(prefix="site-") as folder, site(Path(folder)) as made:
        pauses = Pauses()
        if not _tell(made, None, pauses) or made.undisturbed is None:
            return 1
        ended = [_tell(made, moment, pauses) for moment in moments(count, made.undisturbed.steps, seed)]
    return 0 if all(ended) else 1


def _tell(made: Site, moment: Moment | None, pauses: Pauses) -> bool:
    """Says how a story ended; of one that did not end as it should, why, on stderr. One in which everything was stopped is told again, on
    another cluster: it says nothing of times, and Ray holds nodes for dead that were silent for so long."""
    while True:
        before, (told, about) = pauses.count, _told(made, moment)
        if pauses.count == before:
            break
        sys.stderr.write(f"{about}: everything was stopped meanwhile\n")
        made.renew()
    line = {"kind": about["kind"], "step": told.step, "seconds": round(told.seconds, 1), "release": told.release}
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()
    return bool(told.release)


def _told(made: Site, moment: Moment | None) -> tuple[Told, dict[str, Any]]:
    told, about = Told("", "", 0.0), asdict(moment or Moment("", "", 0.0))
    try:
        told = made.story(moment)
        if moment and not told.step:  # this machine is faster than the one whose moments these are
            told = made.story(replace(moment, after=0.0))
    except (AssertionError, ValueError, OSError, subprocess.SubprocessError, TailorbirdError) as error:
        sys.stderr.write(f"{about}: {error}\n")
    return told, about


if __name__ == "__main__":
    from support.cluster_story import main as main_by_name

    sys.exit(main_by_name(int(sys.argv[1]), int(sys.argv[2])))
