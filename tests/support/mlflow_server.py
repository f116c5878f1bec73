"""A tracking server on loopback that answers as MLflow's REST API 2.0 does, for the calls that tailorbird makes."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


class Server(ThreadingHTTPServer):
    """Remembers experiments and runs; refuses without the token, where there is one."""

    def __init__(self, token: str = "") -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.token = token
        self.experiments: dict[str, str] = {}
        self.runs: dict[str, dict[str, Any]] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, call: str, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        answers = {
            "experiments/get-by-name": self._experiment,
            "experiments/create": self._create_experiment,
            "runs/search": self._search,
            "runs/create": self._create,
            "runs/log-batch": self._log,
            "runs/update": self._update,
        }
        return answers[call](asked)

    def _experiment(self, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        known = self.experiments.get(asked["experiment_name"])
        return (200, {"experiment": {"experiment_id": known}}) if known else (404, {"error_code": "RESOURCE_DOES_NOT_EXIST"})

    def _create_experiment(self, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.experiments[asked["name"]] = made = str(len(self.experiments) + 1)
        return 200, {"experiment_id": made}

    def _search(self, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        wanted = re.fullmatch(r"tags\.`([^`]+)` = '([^']*)'", asked["filter"])
        assert wanted
        found = [r for r in self.runs.values() if r["tags"].get(wanted[1]) == wanted[2] and r["experiment"] in asked["experiment_ids"]]
        return 200, {"runs": [{"info": {"run_id": run["id"]}} for run in found]} if found else {}

    def _create(self, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        run = {"id": f"r{len(self.runs)}", "experiment": asked["experiment_id"], "name": asked["run_name"], "status": "RUNNING"}
        self.runs[run["id"]] = run | {"tags": {t["key"]: t["value"] for t in asked["tags"]}, "params": {}, "metrics": []}
        return 200, {"run": {"info": {"run_id": run["id"]}}}

    def _log(self, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        assert len(asked.get("metrics", [])) <= 1000
        assert len(asked.get("params", [])) <= 100
        run = self.runs[asked["run_id"]]
        run["params"] |= {p["key"]: p["value"] for p in asked.get("params", [])}
        run["metrics"] += [(m["key"], m["step"], m["value"]) for m in asked.get("metrics", [])]
        assert all(m["timestamp"] > 1e12 for m in asked.get("metrics", [])), "milliseconds"
        return 200, {}

    def _update(self, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.runs[asked["run_id"]]["status"] = asked["status"]
        return 200, {}


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self._answer({name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()})

    def do_POST(self) -> None:
        self._answer(json.loads(self.rfile.read(int(self.headers["content-length"]))))

    def _answer(self, asked: dict[str, Any]) -> None:
        call = urlsplit(self.path).path.removeprefix("/api/2.0/mlflow/")
        refused = self.server.token and self.headers["authorization"] != f"Bearer {self.server.token}"
        status, said = (401, {"error_code": "UNAUTHENTICATED"}) if refused else self.server.answer(call, asked)
        body = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@contextmanager
def mlflow_server(token: str = "") -> Iterator[Server]:
    with Server(token) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
