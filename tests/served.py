"""A real server process for tests, and a client that shows what goes over the wire."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.builders import ROOT, workload
from tests.loopback import eventually
from webhook.certs import make_self_signed

FACTS = "apiVersion: v1\nkind: LimitRange\nmetadata: {name: none, namespace: shop}\n"
PATIENCE = 20.0


def review(uid: str = "1", **changes: Any) -> bytes:
    """An AdmissionReview that creates a Deployment without a memory limit."""
    request = {
        "uid": uid,
        "kind": {"group": "apps", "version": "v1", "kind": "Deployment"},
        "operation": "CREATE",
        "namespace": "shop",
        "name": "web",
        "userInfo": {"username": "ann", "groups": ["dev"]},
        "object": workload(),
        "oldObject": None,
        "dryRun": False,
    }
    return json.dumps(
        {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {**request, **changes}}
    ).encode()


def post(body: bytes, path: str = "/validate?timeout=5s", headers: str = "") -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def response(self) -> Any:
        return self.json["response"]


class Client:
    """One TLS connection, spoken to in bytes."""

    def __init__(self, port: int, alpn: list[str] | None = None, address: str = "127.0.0.1") -> None:
        """`address` is the client's own: all of 127.0.0.0/8 is this machine's."""
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if alpn:
            context.set_alpn_protocols(alpn)
        self.socket = context.wrap_socket(socket.create_connection(("127.0.0.1", port), PATIENCE, (address, 0)))
        self._file = self.socket.makefile("rb")

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self) -> Answer | None:
        """The next answer; None if the server closes instead."""
        try:
            first = self._file.readline()
        except ConnectionResetError:
            return None
        if not first:
            return None
        status = int(first.split()[1])
        headers = {}
        while (line := self._file.readline().strip()) != b"":
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        return Answer(status, headers, self._file.read(int(headers.get("content-length", 0))))

    def ask(self, data: bytes) -> Answer:
        self.send(data)
        answer = self.receive()
        assert answer is not None, "closed without an answer"
        return answer


class Server:
    """`forestall serve` in a process of its own.

    `patch` is Python to run in it before it serves, `ready` the status of /readyz that is waited for. A change of its
    configuration counts at once, since there is no other server. `stdout` is a descriptor for its output, which then
    has to reach the file `log` some other way.
    """

    def __init__(
        self, folder: Path, patch: str = "", ready: int = 200, stdout: int | None = None, **settings: Any
    ) -> None:
        self.folder = folder
        self.cert, self.key, self.config = folder / "tls.crt", folder / "tls.key", folder / "config.yaml"
        facts = folder / "facts.yaml"
        facts.write_text(FACTS)
        self.write_certificate(*make_self_signed())
        self.config.write_text("mode: deny\n")
        given = {
            "config": self.config,
            "facts": facts,
            "tls_cert": self.cert,
            "tls_key": self.key,
            "bind": "127.0.0.1",
            "port": 0,
            "metrics_port": 0,
            "drain_delay": 0.5,
            **settings,
        }
        program = (
            "import sys; from pathlib import Path, PosixPath; "
            "from webhook import installation; installation.SETTLING = 0; "
            "from webhook import log as logs, reloading; from webhook.server import judge, serve as server, workers; "
            f"exec({patch!r}); sys.exit(server.serve(server.ServerSettings(**{given!r})))"
        )
        self._log = folder / "log"
        with self._log.open("ab") as log:
            command = [sys.executable, "-c", program]
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=log if stdout is None else stdout, stderr=log)
        try:
            serving = eventually(lambda: self.logged("serving") or self.process.poll() is not None)
            assert serving is not True, self._log.read_text()
            self.port, self.metrics_port = serving[0]["port"], serving[0]["metrics_port"]
            eventually(lambda: self.get("/readyz")[0] == ready)
        except BaseException:
            self.end()
            raise

    def write_certificate(self, chain: bytes, key: bytes) -> None:
        self.cert.write_bytes(chain)
        self.key.write_bytes(key)

    def configure(self, text: str) -> None:
        """Bring this configuration there as a whole, as a kubelet does: half a file may be a valid one."""
        new = self.config.with_suffix(".new")
        new.write_text(text)
        new.replace(self.config)

    def client(self, **kwargs: Any) -> Client:
        return Client(self.port, **kwargs)

    def ask(self, data: bytes) -> Answer:
        with self.client() as client:
            return client.ask(data)

    def get(self, path: str) -> tuple[int, str]:
        """GET from the metrics port: status and body; status 0 where no server listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}{path}", timeout=PATIENCE) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def metric(self, start: str) -> float:
        """The sum of the samples whose line begins with `start`."""
        lines = [line for line in self.get("/metrics")[1].splitlines() if re.match(re.escape(start) + r"[ {,}]", line)]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def log(self) -> list[dict[str, Any]]:
        lines = self._log.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]

    def logged(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.log() if line["event"] == event]

    def children(self) -> list[int]:
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def end(self) -> int:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGTERM)
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


@contextlib.contextmanager
def served(
    folder: Path, patch: str = "", ready: int = 200, stdout: int | None = None, **settings: Any
) -> Iterator[Server]:
    server = Server(folder, patch, ready, stdout, **settings)
    try:
        yield server
    finally:
        server.end()
