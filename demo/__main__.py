"""`python -m demo`: the real server, real reviews over TLS, and what a person at kubectl would see.

There is no cluster. In place of the API server this program asks /mutate, applies the patch and asks /validate; in
place of kubectl it prints the answer.
"""

from __future__ import annotations

import argparse
import base64
import copy
import difflib
import http.client
import json
import os
import ssl
import subprocess
import sys
import textwrap
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import click
import jsonpatch
import yaml

from webhook.files.manifests import read_file
from webhook.objects.pods import WORKLOADS
from webhook.policy import Object

HERE = Path(__file__).resolve().parent
PORT = 8443
METRICS_PORT = 8080

STORIES = {
    "elastalert.yaml": "An alerter without a memory limit took node after node. Here it gets one.",
    "prometheus-too-small.yaml": "A Prometheus of 2Gi/3Gi was killed for three days. Here it never starts like that.",
    "prometheus-one-zone.yaml": "A disk in one zone, nodes in three: Pending after the next node replacement.",
    "prometheus-mended.yaml": "The same Prometheus, mended as the two messages say.",
    "cart.yaml": "No limits, but the namespace's LimitRange gives them: nothing to say.",
    "invoices.yaml": "A namespace that is only warned for now.",
    "hub.yaml": "A rolling update whose new pod waits for the volume that the old one holds.",
    "prometheus-emptydir.yaml": "Metrics that go with their pod: the newer policies warn, until you let them deny.",
    "scraped.yaml": "A Service that nobody scrapes, for one capital letter.",
}

_PLURALS = {(kind.group, kind.kind): kind.resource for kind in WORKLOADS}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command")
    serving = commands.add_parser("serve", help="keep the demo's server running")
    serving.add_argument("--port", type=int, default=PORT)
    serving.add_argument("--metrics-port", type=int, default=METRICS_PORT)
    trying = commands.add_parser("try", help="send files of your own to the running server")
    trying.add_argument("files", nargs="+", metavar="FILE")
    trying.add_argument("--port", type=int, default=PORT)
    arguments = parser.parse_args(argv)
    if arguments.command == "serve":
        return serve(arguments.port, arguments.metrics_port)
    try:
        return try_files(arguments.files, arguments.port) if arguments.command == "try" else tell()
    except BrokenPipeError:
        # A pipe that is closed early (`| head`) is no error. Python flushes once more at its end, which would fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def tell() -> int:
    """Tell all stories with a server of their own, which is stopped at the end."""
    with running_server() as port:
        say(
            f"Forestall is up on port {port}. The cluster it sees is demo/cluster.yaml: three zones, disks of one zone."
        )
        for file, story in STORIES.items():
            say(f"\n# {story}", bold=True)
            say(f"$ kubectl apply -f demo/{file}", fg="cyan")
            for manifest in read_file(str(HERE / file))[0]:
                apply(port, f"demo/{file}", manifest.object)
    say("\nThat was the real server, over TLS. To try files of your own: make serve", bold=True)
    return 0


def serve(port: int, metrics_port: int) -> int:
    """Replace this process by the server, which runs until Ctrl+C."""
    suffix = "" if port == PORT else f" --port {port}"
    say(f"It counts at http://127.0.0.1:{metrics_port}/metrics. Each review is a line below. In another terminal:\n")
    say(f"    .venv/bin/python -m demo try{suffix} demo/elastalert.yaml\n", bold=True)
    sys.stdout.flush()
    command = _serve_command(port, metrics_port)
    os.execv(command[0], command)  # noqa: S606 - our own server


def try_files(files: Sequence[str], port: int) -> int:
    """Send each object in the files; the exit code is 1 if one was denied, 2 if one could not be read or sent."""
    denied, failed = False, False
    for file in files:
        say(f"$ kubectl apply -f {file}", fg="cyan")
        manifests, errors = read_file(file)
        for error in errors:
            say(f"error: {error}", fg="red")
        failed |= bool(errors)
        for manifest in manifests:
            try:
                denied |= not apply(port, file, manifest.object)
            except ConnectionRefusedError as error:
                say(f"no server on port {port} ({error}): start it with make serve", fg="red")
                return 2
    return 2 if failed else int(denied)


# The server


def _serve_command(port: int, metrics_port: int) -> list[str]:
    forestall = Path(sys.executable).with_name("forestall")
    command = [
        str(forestall),
        "serve",
        "--self-signed",
        "--bind",
        "127.0.0.1",
        "--port",
        str(port),
        "--metrics-port",
        str(metrics_port),
    ]
    return [*command, "--facts", str(HERE / "cluster.yaml"), "--config", str(HERE / "forestall.yaml")]


@contextmanager
def running_server() -> Iterator[int]:
    """Start a server on free ports, yield its port for reviews, and stop it at the end."""
    with subprocess.Popen(_serve_command(0, 0), stdout=subprocess.PIPE, text=True) as server:
        try:
            started = _wait_for(server, "serving")
            if started is None:
                raise SystemExit("the server did not start: forestall serve says why")
            _wait_until_ready(started["metrics_port"])
            yield int(started["port"])
        finally:
            # The first SIGTERM gives clients time to go to another server; here a second one ends it at once.
            server.terminate()
            _wait_for(server, "draining")
            server.terminate()
            server.communicate()


def _wait_for(server: subprocess.Popen[str], event: str) -> dict[str, Any] | None:
    """Read the server's log up to the event, and return its entry; None if the server ends before."""
    records = map(json.loads, server.stdout or ())
    return next((record for record in records if record.get("event") == event), None)


def _wait_until_ready(port: int) -> None:
    for _ in range(100):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", "/readyz")
        if connection.getresponse().status == http.client.OK:
            return
        time.sleep(0.05)
    raise SystemExit("the server does not become ready")


# The API server


class Admission(NamedTuple):
    """The answers of /mutate and /validate together, and the object that would be stored."""

    allowed: bool
    message: str
    warnings: list[str]
    object: Object


def review(port: int, obj: Object) -> Admission:
    """Ask as the API server does when the object is created: /mutate, apply its patch, /validate the result."""
    mutated = _post(port, "/mutate", obj)
    if "patch" in mutated:
        patch = json.loads(base64.b64decode(mutated["patch"]))
        obj = jsonpatch.apply_patch(copy.deepcopy(obj), patch)
    validated = _post(port, "/validate", obj)
    warnings = [*mutated.get("warnings", ()), *validated.get("warnings", ())]
    message = validated.get("status", {}).get("message", "")
    return Admission(validated["allowed"], message, list(dict.fromkeys(warnings)), obj)


def _post(port: int, path: str, obj: Object) -> dict[str, Any]:
    # The certificate was made for this run by the server itself, on this machine: there is nothing to verify it with.
    context = ssl._create_unverified_context()  # noqa: S323, SLF001
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=context)
    connection.request("POST", path, json.dumps(_admission_review(obj)), {"Content-Type": "application/json"})
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    if response.status != http.client.OK:
        raise SystemExit(f"{path}: {response.status} {text}")
    answer: dict[str, Any] = json.loads(text)["response"]
    return answer


def _admission_review(obj: Object) -> Object:
    group, _, version = obj["apiVersion"].rpartition("/")
    kind, metadata = obj["kind"], obj.get("metadata") or {}
    plural = _PLURALS.get((group, kind), f"{kind.lower()}s")
    request = {
        "uid": str(uuid.uuid4()),
        "kind": {"group": group, "version": version, "kind": kind},
        "resource": {"group": group, "version": version, "resource": plural},
        "name": metadata.get("name", ""),
        "namespace": metadata.get("namespace", "default"),
        "operation": "CREATE",
        "userInfo": {"username": "developer", "groups": ["system:authenticated"]},
        "object": obj,
        "dryRun": False,
    }
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


# kubectl


def apply(port: int, file: str, obj: Object) -> bool:
    """Print what `kubectl apply` would print, and what a patch changed. Returns whether the object was admitted."""
    answer = review(port, obj)
    for warning in answer.warnings:
        say(f"Warning: {warning}", fg="yellow")
    if answer.allowed:
        say(f"{_resource(obj)} created", fg="green")
        show_difference(obj, answer.object)
    else:
        say(
            f'Error from server (Forbidden): error when creating "{file}": '
            f'admission webhook "validate.forestall.dev" denied the request: {answer.message.rstrip()}',
            fg="red",
        )
    return answer.allowed


def _resource(obj: Object) -> str:
    group = obj["apiVersion"].rpartition("/")[0]
    kind = f"{obj['kind'].lower()}.{group}".rstrip(".")
    return f"{kind}/{(obj.get('metadata') or {}).get('name', '')}"


def show_difference(before: Object, after: Object) -> None:
    """Print the lines of YAML that a patch added or changed, with three lines around them."""
    old, new = (yaml.safe_dump(obj, sort_keys=False).splitlines() for obj in (before, after))
    changes = list(difflib.unified_diff(old, new, n=3, lineterm=""))[3:]
    if changes:
        say("what is stored, compared with the file:")
    for line in changes:
        say(textwrap.indent(line, "    "), fg={"+": "green", "-": "red"}.get(line[:1]))


def say(text: str, fg: str | None = None, *, bold: bool = False) -> None:
    """Print the text, in colours on a terminal unless NO_COLOR is set (no-color.org)."""
    click.secho(text, fg=fg, bold=bold, color=False if os.environ.get("NO_COLOR") else None)


if __name__ == "__main__":
    sys.exit(main())
