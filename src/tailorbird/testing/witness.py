"""Witness of logs: cosigns what continues what it cosigned before, by the protocol of c2sp.org/tlog-witness."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tailorbird.crypto.cosignatures import cosign, read_add_checkpoint, witness_key
from tailorbird.crypto.ed25519 import public_text
from tailorbird.crypto.merkle import EMPTY_ROOT, verify_consistency
from tailorbird.crypto.signed_notes import check_note, read_note
from tailorbird.domain.errors import Corrupt, InvalidInput
from tailorbird.domain.event import Checkpoint
from tailorbird.ports.clock import Clock
from tailorbird.ports.witness import WitnessAnswer


class MemoryWitness:
    """Implements ``Witness``. ``logs`` are the public keys (base64) that it trusts, by origin; what it cosigned ends with the process."""

    def __init__(self, name: str, logs: Mapping[str, str], clock: Clock) -> None:
        self._key = Ed25519PrivateKey.generate()
        self._name = name
        self._logs = dict(logs)
        self._clock = clock
        self._lock = threading.Lock()
        #: The newest checkpoint that was cosigned, by origin.
        self.newest: dict[str, Checkpoint] = {}
        self.key = witness_key(name, public_text(self._key))

    def trust(self, origin: str, public: str) -> None:
        """Trusts another key for a log from now on."""
        self._logs[origin] = public

    def add_checkpoint(self, body: bytes) -> WitnessAnswer:
        """The cosignature line of a checkpoint that continues the newest one; what the protocol says of another."""
        try:
            asked = read_add_checkpoint(body)
            checkpoint = read_note(asked.note, self._clock.now())
        except (InvalidInput, Corrupt):
            return WitnessAnswer(400)
        if checkpoint.origin not in self._logs:
            return WitnessAnswer(404)
        try:
            check_note(checkpoint, self._logs[checkpoint.origin])
        except Corrupt:
            return WitnessAnswer(403)
        if asked.old > checkpoint.size:
            return WitnessAnswer(400)
        with self._lock:
            return self._continued(asked.old, asked.proof, checkpoint)

    def _continued(self, old: int, proof: tuple[str, ...], checkpoint: Checkpoint) -> WitnessAnswer:
        newest = self.newest.get(checkpoint.origin)
        size, root = (newest.size, bytes.fromhex(newest.root)) if newest else (0, EMPTY_ROOT)
        if old != size:
            return WitnessAnswer(409, f"{size}\n", size)
        if old == checkpoint.size and root.hex() != checkpoint.root:
            return WitnessAnswer(409)
        hashes = [bytes.fromhex(hashed) for hashed in proof]
        if not verify_consistency(old, root, checkpoint.size, bytes.fromhex(checkpoint.root), hashes):
            return WitnessAnswer(422)
        self.newest[checkpoint.origin] = checkpoint
        return WitnessAnswer(200, cosign(checkpoint.note, self._name, self._key, self._clock.now()))


@contextmanager
def served(witness: MemoryWitness) -> Iterator[str]:
    """The submission prefix under which ``witness`` answers on loopback, until the block ends; a GET of it gives its newest checkpoints."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            """``add-checkpoint``."""
            if self.path != "/add-checkpoint":
                self._answer(WitnessAnswer(404))
                return
            self._answer(witness.add_checkpoint(self.rfile.read(int(self.headers.get("content-length", 0)))))

        def do_GET(self) -> None:
            """The newest checkpoint of each log."""
            self._answer(WitnessAnswer(200, "".join(f"{checkpoint.model_dump_json()}\n" for checkpoint in witness.newest.values())))

        def _answer(self, answer: WitnessAnswer) -> None:
            body = answer.text.encode()
            self.send_response(answer.status)
            self.send_header("content-type", "text/plain" if answer.size is None else "text/x.tlog.size")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
