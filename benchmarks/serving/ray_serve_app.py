"""What Ray Serve adds to a request: ``ray_serve_app.py COUNT``, by an interpreter that has ``ray[serve]``, within a network namespace.

A deployment with one replica answers at once, a request to a server without Ray does the same beside it. Prints JSON: milliseconds at the
median and the 99th percentile that Serve takes more, one request at a time, and requests a second, 16 at a time, with and without.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from statistics import median, quantiles
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

SERVE, PLAIN, PATH = 18899, 18898, "/v1/chat/completions"
BODY = json.dumps({"model": "acme/routing", "messages": [{"role": "user", "content": "I lost my card and need another one"}]}).encode()


async def answer(request: Request) -> JSONResponse:
    """An answer at once."""
    return JSONResponse({"choices": [{"message": {"role": "assistant", "content": "lost_card"}}], "model": (await request.json())["model"]})


def main(count: int) -> None:
    """Measures and prints."""
    import ray
    from ray import serve

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": SERVE})

    @serve.deployment(num_replicas=1, max_ongoing_requests=256, ray_actor_options={"num_cpus": 0.5})
    class Answers:
        async def __call__(self, request: Request) -> JSONResponse:
            return await answer(request)

    serve.run(Answers.bind(), route_prefix="/")
    plain = subprocess.Popen([sys.executable, __file__, "plain"])
    time.sleep(3)
    try:
        found: dict[str, Any] = {"sequential": [_sequential(count) for _ in range(3)]}
        found["requests/s, 16 at a time"] = {"serve": _crowd(SERVE, count), "plain": _crowd(PLAIN, count)}
    finally:
        plain.kill()
        plain.wait()
        serve.shutdown()
        ray.shutdown()
    print(json.dumps(found))


def _sequential(count: int) -> dict[str, float]:
    served, plain = HTTPConnection("127.0.0.1", SERVE), HTTPConnection("127.0.0.1", PLAIN)
    pairs = [(_timed(served), _timed(plain)) for _ in range(count + 100)][100:]
    way = median(one for _, one in pairs)
    took = [one for one, _ in pairs]
    return {"median": round(median(took) - way, 3), "p99": round(quantiles(took, n=100)[98] - way, 3), "way": round(way, 3)}


def _timed(connection: HTTPConnection) -> float:
    started = time.perf_counter()
    connection.request("POST", PATH, BODY, {"content-type": "application/json"})
    response = connection.getresponse()
    response.read()
    assert response.status == 200
    return 1000 * (time.perf_counter() - started)


def _crowd(port: int, count: int) -> float:
    def ask(_: int) -> None:
        connection = HTTPConnection("127.0.0.1", port)
        for _ in range(count // 16):
            _timed(connection)

    started = time.perf_counter()
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(ask, range(16)))
    return round(16 * (count // 16) / (time.perf_counter() - started), 1)


if __name__ == "__main__":
    if sys.argv[1] == "plain":
        application = Starlette(routes=[Route(PATH, answer, methods=["POST"])])
        asyncio.run(uvicorn.Server(uvicorn.Config(application, host="127.0.0.1", port=PLAIN, log_level="error")).serve())
    else:
        main(int(sys.argv[1]))
