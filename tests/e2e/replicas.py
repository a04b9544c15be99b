"""The chart's installation with several replicas, which come and go: processes behind a balancer.

A replica has the Deployment's arguments, its mounts and a token of its service account, so that what the chart says is
what is tested. The Service leads to localhost, perhaps by way of a Balancer.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from charts.generate import CHART
from tests.cluster_fixture import ControlPlane, control_plane
from tests.e2e.guarded import has_helm
from tests.loopback import eventually, free_ports
from tests.mounted import Mount
from webhook.cluster.client import Cluster
from webhook.errors import ForestallError

SYSTEM = "forestall-system"
FORESTALL = Path(sys.executable).with_name("forestall")
HOOKS = "mutatingwebhookconfiguration,validatingwebhookconfiguration"
_READY_EVERY = 0.5
_ENDING_SECONDS = 30.0


def get(plane: ControlPlane, kind: str, name: str) -> Any:
    """An object in Forestall's namespace."""
    return json.loads(plane.kubectl("get", kind, name, f"--namespace={SYSTEM}", "--output=json"))


def lead_service_to(plane: ControlPlane, port: int) -> None:
    """Helm puts the chart's own Service back at every upgrade."""
    spec = {"type": "ExternalName", "externalName": "localhost", "ports": [{"name": "local", "port": port}]}
    patch = json.dumps([{"op": "replace", "path": "/spec", "value": spec}])
    plane.kubectl("patch", "service", "forestall", f"--namespace={SYSTEM}", "--type=json", f"--patch={patch}")


class ReplicaPod:
    """One container of a Deployment's pod. `port` is free for it, which only a server uses; `further` are more
    arguments."""

    def __init__(
        self, plane: ControlPlane, folder: Path, deployment: str, *further: str, container: str = "forestall"
    ) -> None:
        spec = get(plane, "deployment", deployment)["spec"]["template"]["spec"]
        self._declared = next(declared for declared in spec["containers"] if declared["name"] == container)
        token = plane.kubectl("create", "token", spec["serviceAccountName"], f"--namespace={SYSTEM}").strip()
        self.port, self.metrics_port = free_ports(2)
        self.log_file = folder / "log"
        self._cluster = Cluster.from_kubeconfig(plane.kubeconfig)
        self._volumes = {volume["name"]: volume for volume in spec["volumes"]}
        self._mounts = {
            mount["name"]: Mount(folder / Path(mount["mountPath"]).name)
            for mount in self._declared["volumeMounts"]
            if mount["mountPath"].startswith("/etc/forestall/")
        }
        arguments = self._declared["args"]
        ports = {"serve": [f"--port={self.port}"], "controller": ["--console-port=0"], "auditor": []}
        self._command = [
            *(str(FORESTALL), *(argument.replace("/etc/forestall", str(folder)) for argument in arguments)),
            f"--kubeconfig={plane.write_kubeconfig(folder.name, token)}",
            f"--metrics-port={self.metrics_port}",
            *ports[arguments[0]],
            *further,
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def mount(self, volume: str) -> bool:
        """What the kubelet does with a ConfigMap or Secret; whether all that it now holds is in the folder."""
        data = self._read(self._volumes[volume])
        mount = self._mounts[volume]
        if data is not None:
            mount.sync(data)
        return data is not None and mount.data == data

    def _read(self, volume: Any) -> dict[str, bytes] | None:
        path = f"/api/v1/namespaces/{SYSTEM}"
        if secret := volume.get("secret"):
            obj = self._cluster.get(f"{path}/secrets/{secret['secretName']}")
            wanted = [item["key"] for item in secret["items"]]
            data = (obj or {}).get("data") or {}
            return {key: base64.b64decode(data[key]) for key in wanted} if data.keys() >= set(wanted) else None
        obj = self._cluster.get(f"{path}/configmaps/{volume['configMap']['name']}")
        return {key: text.encode() for key, text in ((obj or {}).get("data") or {}).items()} if obj else None

    def start(self) -> None:
        with self.log_file.open("ab") as log:
            # A session of its own, so that a server's workers can be told together.
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def end(self) -> None:
        """As the kubelet ends it; it has to go by itself, and in good order."""
        assert self._process
        process, self._process = self._process, None
        process.terminate()
        assert process.wait(_ENDING_SECONDS) == 0, self.log_file.read_text()[-2000:]

    def kill(self) -> None:
        """As if its node had lost power."""
        assert self._process
        process, self._process = self._process, None
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)

    @contextmanager
    def running(self) -> Iterator[None]:
        """With its configuration mounted, until the end, if it hasn't ended before."""
        eventually(lambda: self.mount("config"))
        self.start()
        try:
            yield
        finally:
            if self._process:
                self.end()

    def is_ready(self) -> bool:
        try:
            return self.get("/readyz") == "ok\n"
        except OSError:
            return False

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}{path}", timeout=5) as answer:
            return str(answer.read().decode())

    def log(self) -> list[dict[str, Any]]:
        lines = self.log_file.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]


class Replicated:
    """The chart, installed with these values; its replicas are there to be started."""

    def __init__(
        self, plane: ControlPlane, folder: Path, values: Sequence[str] = (), *, servers: int = 1, controllers: int = 1
    ) -> None:
        self.plane = plane
        self.cluster = Cluster.from_kubeconfig(plane.kubeconfig)
        self._values = values
        self._helm("install", "--create-namespace")
        self.servers = [ReplicaPod(plane, folder / f"server-{index}", "forestall") for index in range(servers)]
        endpoints = "--endpoints=" + ",".join(f"127.0.0.1:{server.port}" for server in self.servers)
        self.controllers = [
            ReplicaPod(plane, folder / f"controller-{index}", "forestall-controller", endpoints)
            for index in range(controllers)
        ]
        self.auditors = [
            ReplicaPod(plane, folder / f"auditor-{index}", "forestall-controller", container="auditor")
            for index in range(controllers)
        ]

    def _helm(self, command: str, *arguments: str) -> str:
        done = subprocess.run(
            [self.plane.assets / "helm", command, "forestall", CHART, f"--namespace={SYSTEM}", *arguments]
            + [f"--set={value}" for value in self._values],
            env=self.plane.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def configure(self, *values: str, controllers_first: bool = False) -> None:
        """What `helm upgrade` with these values does, the Service aside; each kubelet brings it in its own time."""
        further = [f"--set={value}" for value in values]
        rendered = self._helm("template", "--show-only=templates/configmap.yaml", *further)
        self.plane.kubectl("apply", "--server-side", "--force-conflicts", "--filename=-", input=rendered)
        replicas = [*self.servers, *self.controllers, *self.auditors]
        for replica in reversed(replicas) if controllers_first else replicas:
            eventually(lambda replica=replica: replica.mount("config"))
            time.sleep(2)  # as long as the leader takes to follow
        time.sleep(2)


@contextmanager
def installed(folder: Path, *values: str, servers: int = 1, controllers: int = 1) -> Iterator[Replicated]:
    """A control plane that asks Forestall; skips the test, with the reason, where none can be started."""
    if not has_helm():
        pytest.skip("KUBEBUILDER_ASSETS lacks helm")
    (folder / "plane").mkdir()
    with control_plane(folder / "plane") as plane, ExitStack() as stack:
        made = Replicated(plane, folder, values, servers=servers, controllers=controllers)
        lead_service_to(plane, stack.enter_context(Balancer(made.servers)).port)
        for replica in (*made.servers, *made.controllers, *made.auditors):
            stack.enter_context(replica.running())
        stack.enter_context(Kubelet(made.servers))
        eventually(lambda: plane.try_kubectl("get", HOOKS, "forestall").returncode == 0)
        eventually(lambda: all(server.is_ready() for server in made.servers))
        time.sleep(2)  # until the Service and the API server know
        yield made


class Kubelet(threading.Thread):
    """Brings the certificate to the servers as it changes, to each in its own time."""

    def __init__(self, servers: Sequence[ReplicaPod]) -> None:
        super().__init__(name="kubelet", daemon=True)
        self._servers = servers
        self._stopped = threading.Event()

    def __enter__(self) -> Kubelet:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self.join()

    def run(self) -> None:
        while not self._stopped.wait(0.2):
            for server in self._servers:
                with contextlib.suppress(ForestallError):  # no API server: nothing to bring
                    server.mount("tls")


class Balancer(threading.Thread):
    """One port for several servers, as a Service is: a new connection goes to one that is ready, each in turn.

    Connections that are there stay where they are, and whether a server is ready is known half a second late.
    """

    def __init__(self, servers: Sequence[ReplicaPod]) -> None:
        super().__init__(name="balancer", daemon=True)
        self.port = 0
        self._servers = servers
        self._ready: list[ReplicaPod] = []
        self._turn = 0
        self._listening = threading.Event()
        self._loop = asyncio.new_event_loop()

    def __enter__(self) -> Balancer:
        self.start()
        assert self._listening.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self.join()

    def run(self) -> None:
        with contextlib.closing(self._loop):
            self._loop.run_until_complete(self._balance())

    async def _balance(self) -> None:
        self._ended = asyncio.Event()
        listener = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        self.port = listener.sockets[0].getsockname()[1]
        self._listening.set()
        looking = asyncio.create_task(self._look())
        await self._ended.wait()
        listener.close()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in (looking, *others):
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _look(self) -> None:
        while True:
            ready = await asyncio.gather(*(asyncio.to_thread(server.is_ready) for server in self._servers))
            self._ready = [server for server, is_ready in zip(self._servers, ready, strict=True) if is_ready]
            await asyncio.sleep(_READY_EVERY)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError), contextlib.closing(writer):
            if not self._ready:
                return
            self._turn += 1
            server = self._ready[self._turn % len(self._ready)]
            onward_reader, onward = await asyncio.open_connection("127.0.0.1", server.port)
            with contextlib.closing(onward):
                await asyncio.gather(_pump(reader, onward), _pump(onward_reader, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until one side ends, which ends the other."""
    with contextlib.suppress(OSError):
        while data := await reader.read(2**16):
            writer.write(data)
            await writer.drain()
    writer.close()
