"""`forestall audit` as a command: its outputs, exit codes, and what it says of what it could not see."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jsonschema
import pytest

from tests.builders import ROOT, container, every_policy, kubeconfig, sized, workload
from tests.fake_api import FakeApi, Request
from tests.observing.living import killed, owned, pod, running
from webhook.cli import main
from webhook.messages import incident
from webhook.policy import Object

DENY = every_policy(memory_limits="mode: deny")
RUNS = "all of them keep running and can be changed."
LOST = "(a deletion and re-creation, `kubectl replace --force`, a disaster recovery would lose them)"
EXEMPTION = "{policy: memory-limits, match: {namespaces: [shop], names: [%s]}, owner: sre, reason: moving, until: %s}"


@pytest.fixture
def api(api: FakeApi) -> FakeApi:
    """The API server, which serves workloads and ConfigMaps and holds none yet."""
    api.objects["deployments"] = []
    api.objects["configmaps"] = []
    return api


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(api: FakeApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command against the API with a configuration; exit code, standard output and error."""

    def run(*arguments: str, text: str = DENY) -> tuple[int, str, str]:
        (tmp_path / "config.yaml").write_text(text)
        given = [] if "--config" in arguments or not text else ["--config", str(tmp_path / "config.yaml")]
        code = main(["audit", "--kubeconfig", api.kubeconfig(tmp_path), *given, *arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def deployment(name: str = "web", team: str = "", limit: str | None = None, namespace: str = "shop") -> Object:
    obj = workload("Deployment", container(**sized(limit, limit)), name=name)
    obj["metadata"] |= {"namespace": namespace, "uid": f"u-{name}"} | ({"labels": {"team": team}} if team else {})
    return obj


def forbidden(resource: str) -> Callable[[Request], None]:
    def answer(request: Request) -> None:
        message = f'{resource} is forbidden: User "jane" cannot list resource "{resource}" at the cluster scope'
        request.status(403, message)

    return answer


def summary(out: str) -> list[str]:
    """The lines behind the findings."""
    lines = out.splitlines()
    begin = next(number for number, line in enumerate(lines) if " judged: " in line)
    return lines[begin:]


def test_text(api: FakeApi, run: Run) -> None:
    api.objects["deployments"] = [deployment(), deployment("small", limit="1Gi"), deployment("api", "payments")]
    code, out, err = run("--group-by", "team")
    assert (code, err) == (1, "")
    assert [line for line in out.splitlines() if line.startswith(("==", "Deployment"))] == [
        *("== namespace shop: 1 denied", "Deployment shop/web"),
        *("== payments: 1 denied", "Deployment shop/api"),
    ]
    assert "  denied    memory-limits: container 'web' has no memory limit" in out
    assert "in the cluster" not in out
    assert summary(out)[0] == "3 workloads with 3 containers judged: 2 denied"
    assert summary(out)[1].endswith("config.yaml, mode deny")
    assert summary(out)[2:] == [
        *("by policy", "  memory-limits  2 denied"),
        *("by team", "  namespace shop  1 denied", "  payments        1 denied"),
        f"2 of 3 workloads could not be created again {LOST}; {RUNS}",
        "",
    ]


@pytest.mark.parametrize(
    ("text", "arguments", "sentence"),
    [
        pytest.param(
            f"mode: audit\n{DENY}",
            (),
            "Everything that was judged could be created again: mode audit refuses nothing; --as-if deny tells what "
            "enforcing would.",
            id="audit-only",
        ),
        pytest.param(
            f"mode: audit\n{DENY}",
            ("--as-if", "deny"),
            f"1 of 1 workload could not be created again {LOST}; {RUNS}",
            id="as-if-deny",
        ),
        pytest.param(
            f"ratchet: false\n{DENY}",
            (),
            f"1 of 1 workload could not be created again {LOST}; all of them keep running but, with ratchet: false, "
            "can't be changed as they are.",
            id="without-the-ratchet",
        ),
        pytest.param(
            every_policy(),
            (),
            "Everything that was judged could be created again: mode deny refuses none of it.",
            id="nothing-is-on",
        ),
    ],
)
def test_what_it_means(api: FakeApi, run: Run, text: str, arguments: tuple[str, ...], sentence: str) -> None:
    api.objects["deployments"] = [deployment()]
    assert summary(run(*arguments, text=text)[1])[-2] == sentence


@pytest.mark.parametrize(
    ("names", "until", "mode", "said"),
    [
        pytest.param("web", "2099-01-01", "deny", "covers 1 violation", id="in-use"),
        pytest.param("gone", "2099-01-01", "deny", "would pass now: delete this exemption", id="nothing-violates"),
        pytest.param(
            "web", "2099-01-01", "warn", "covers 1 violation that would pass now: delete this exemption", id="warned-of"
        ),
        pytest.param(
            "web", "2020-01-01", "deny", "has expired and no longer counts: delete this exemption", id="expired"
        ),
    ],
)
def test_exemptions(api: FakeApi, run: Run, names: str, until: str, mode: str, said: str) -> None:
    api.objects["deployments"] = [deployment()]
    text = f"{every_policy(memory_limits=f'mode: {mode}')}\nexemptions: [{EXEMPTION % (names, until)}]"
    _, out, _ = run(text=text)
    assert f"exemptions[0] (memory-limits, owner sre, until {until}): {said}" in out.splitlines()


def test_of_an_exemption_nothing_is_said_that_was_not_seen(api: FakeApi, run: Run) -> None:
    text = f"{DENY}\nexemptions: [{EXEMPTION % ('web', '2099-01-01')}]"
    api.objects["namespaces"] = [{"metadata": {"name": "other"}}]
    _, out, _ = run("--namespace", "other", text=text)
    assert "exemptions[0] (memory-limits, owner sre, until 2099-01-01): covers nothing of what was seen" in out


@pytest.mark.parametrize(
    ("limit", "text", "arguments", "code"),
    [
        pytest.param("1Gi", DENY, (), 0, id="in-order"),
        pytest.param(None, DENY, (), 1, id="denied"),
        pytest.param(None, every_policy(memory_limits="mode: warn"), (), 0, id="warned"),
        pytest.param(None, every_policy(memory_limits="mode: warn"), ("--strict",), 1, id="warned-strict"),
        pytest.param(
            None,
            f"{DENY}\nexemptions: [{EXEMPTION % ('web', '2099-01-01')}]",
            ("--strict",),
            0,
            id="exempted-strict",
        ),
    ],
)
def test_exit_codes(
    api: FakeApi, run: Run, limit: str | None, text: str, arguments: tuple[str, ...], code: int
) -> None:
    api.objects["deployments"] = [deployment(limit=limit)]
    assert run(*arguments, text=text)[0] == code


GRANT = (
    "grant it: kubectl create clusterrole forestall-audit --verb=get,list --resource=deployments.apps,nodes && "
    "kubectl create clusterrolebinding forestall-audit --clusterrole=forestall-audit --user=jane"
)


@pytest.mark.parametrize(("arguments", "code"), [((), 0), (("--strict",), 2)], ids=["told", "strict"])
def test_missing_rights_are_said_once(api: FakeApi, run: Run, arguments: tuple[str, ...], code: int) -> None:
    api.objects["pods"] = [workload("Pod", container(**sized("1Gi", "1Gi")))]
    api.script("list", "deployments", forbidden("deployments.apps"))
    api.script("list", "nodes", forbidden("nodes"))
    found, out, _ = run(*arguments)
    assert found == code
    assert [line for line in out.splitlines() if "not seen" in line] == [
        f"not seen for want of a right: deployments.apps, nodes; {GRANT}"
    ]


def test_a_right_that_is_missing_in_one_namespace(api: FakeApi, run: Run) -> None:
    """The other namespace is judged, and the line grants no more than is missing."""
    api.objects["deployments"] = [deployment()]
    api.script("list", "deployments", Request.behave, forbidden("deployments.apps"))
    api.objects["namespaces"] = [{"metadata": {"name": name}} for name in ("shop", "web")]
    _, out, _ = run("--namespace=shop", "--namespace=web")
    assert "  denied    memory-limits: container 'web' has no memory limit" in out
    (line,) = (line for line in out.splitlines() if "not seen" in line)
    assert line == (
        "not seen for want of a right: deployments.apps in namespace web; grant it: "
        "kubectl create role forestall-audit --namespace=web --verb=get,list --resource=deployments.apps && "
        "kubectl create rolebinding forestall-audit --namespace=web --role=forestall-audit --user=jane"
    )


def test_a_namespace_that_is_not_there_is_no_success(api: FakeApi, run: Run) -> None:
    api.objects["namespaces"] = [{"metadata": {"name": "shop"}}]
    assert run("--namespace=shop", "--namespace=shpo") == (2, "", "forestall: there is no namespace shpo (404)\n")


def test_whoever_may_not_read_namespaces_is_told_what_is_in_theirs(api: FakeApi, run: Run) -> None:
    api.objects["deployments"] = [deployment()]
    api.script("get", "namespaces", forbidden("namespaces"))
    code, out, _ = run("--namespace=shop")
    assert (code, "container 'web' has no memory limit" in out) == (1, True)


@pytest.mark.parametrize("name", ["", "Shop", "../x", "a b"])
def test_what_can_be_no_namespace_is_refused(run: Run, name: str) -> None:
    code, out, err = run(f"--namespace={name}")
    assert (code, out) == (2, "")
    assert err.endswith(f"Invalid value for '--namespace' / '-n': {name!r} can be no namespace's name\n")


def test_programs_output_stays_clean(api: FakeApi, run: Run) -> None:
    api.objects["pods"] = [workload("Pod", container(**sized("1Gi", "1Gi")))]
    api.script("list", "deployments", forbidden("deployments.apps"))
    api.script("list", "nodes", forbidden("nodes"))
    _, out, err = run("--output=json")
    assert json.loads(out)["clusters"][0]["unseen"] == [
        f"not seen for want of a right: deployments.apps, nodes; {GRANT}"
    ]
    assert err == f"note: not seen for want of a right: deployments.apps, nodes; {GRANT}\n"


def test_without_any_right(api: FakeApi, run: Run) -> None:
    for plural in list(api.objects):
        api.script("list", plural, forbidden(plural))
    code, out, _ = run()
    assert code == 2
    assert "--resource=deployments.apps,limitranges,nodes " in out
    assert "could be created again" not in out


@pytest.mark.parametrize(
    ("stored", "text", "said"),
    [
        pytest.param(
            None, "", "the defaults, as there is no ConfigMap forestall-system/forestall-config, mode deny", id="none"
        ),
        pytest.param("mode: audit", "", "ConfigMap forestall-system/forestall-config, mode audit", id="in-force"),
        pytest.param("mode: audit", DENY, "config.yaml, mode deny", id="given"),
    ],
)
def test_which_configuration(api: FakeApi, run: Run, stored: str | None, text: str, said: str) -> None:
    if stored:
        metadata = {"name": "forestall-config", "namespace": "forestall-system"}
        api.objects["configmaps"] = [{"metadata": metadata, "data": {"config.yaml": stored}}]
    assert summary(run(text=text)[1])[1].endswith(said)


def test_a_team_by_configuration_and_namespace(api: FakeApi, run: Run) -> None:
    api.objects["deployments"] = [deployment(), deployment("api", "payments"), deployment("x", namespace="other")]
    api.objects["namespaces"] = [{"metadata": {"name": "shop", "labels": {"team": "shopping"}}}]
    _, out, _ = run("--output=json", text=f"{DENY}\nteamLabel: team")
    teams = {(result["name"], result["team"]) for result in json.loads(out)["results"]}
    assert teams == {("web", "shopping"), ("api", "payments"), ("x", "namespace other")}


def test_json_is_as_its_schema_says(api: FakeApi, run: Run) -> None:
    api.objects["deployments"] = [deployment(), deployment("old")]
    _, out, _ = run("--output=json", text=f"{DENY}\nexemptions: [{EXEMPTION % ('old', '2099-01-01')}]")
    document = json.loads(out)
    jsonschema.validate(document, json.loads((ROOT / "docs" / "audit.schema.json").read_text()))
    (cluster,) = document["clusters"]
    assert (cluster["workloads"], cluster["refusedWorkloads"]) == (2, 1)
    assert cluster["teams"] == {"namespace shop": {"denied": 1, "exempted": 1}}
    assert [(result["name"], result["outcome"]) for result in document["results"]] == [
        *(("web", "denied"), ("old", "exempted")),
    ]
    assert document["results"][0] | {"message": "", "fix": {}, "incident": ""} == {
        "cluster": "",
        "team": "namespace shop",
        "madeBy": None,
        "uses": None,
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "namespace": "shop",
        "name": "web",
        "policy": "memory-limits",
        "mode": "deny",
        "outcome": "denied",
        "container": "web",
        "path": "spec.template.spec.containers[0].resources.limits.memory",
        "message": "",
        "fix": {},
        "advice": None,
        "hint": None,
        "incident": "",
    }


def test_use_against_size(api: FakeApi, run: Run) -> None:
    """Recorded from metrics-server: PodMetrics as it lists them."""
    api.groups = (*api.groups, "metrics.k8s.io")
    metadata = {"name": "web", "namespace": "shop", "creationTimestamp": "2026-11-27T12:00:00Z"}
    used = [{"name": "web", "usage": {"cpu": "1269371n", "memory": "798720Ki"}}]
    metrics = {"metadata": metadata, "timestamp": "2026-11-27T11:59:48Z", "window": "15.0s", "containers": used}
    pod = workload("Pod")
    # The fake API knows a list by its last word.
    api.script("list", "pods", lambda request: request.send(200, {"metadata": {}, "items": [metrics]}))
    api.objects["pods"] = [pod]
    text = every_policy(memory_limits="mode: patch")
    _, out, _ = run(text=text)
    assert "uses 780Mi, would be given 512Mi: killed" in out
    assert summary(out)[-2] == "The requests that would be patched in reserve 256Mi memory more on the nodes, in all."


def test_csv(api: FakeApi, run: Run) -> None:
    api.objects["deployments"] = [deployment()]
    (row,) = csv.DictReader(io.StringIO(run("--output=csv")[1]))
    resources = "spec.template.spec.containers[0].resources"
    assert row == {
        "cluster": "",
        "team": "namespace shop",
        "namespace": "shop",
        "kind": "Deployment",
        "name": "web",
        "policy": "memory-limits",
        "outcome": "denied",
        "mode": "deny",
        "container": "web",
        "path": f"{resources}.limits.memory",
        "message": "container 'web' has no memory limit: set limits.memory to 512Mi",
        "set": f"{resources}.limits.memory: 512Mi; {resources}.requests.memory: 256Mi",
        "how": "",
        "uses": "",
        "incident": incident("memory-limits"),
    }


@pytest.mark.parametrize("sign", ["=", "+", "-", "@"])
def test_csv_holds_no_formula(api: FakeApi, run: Run, sign: str) -> None:
    api.objects["deployments"] = [deployment(team=f"{sign}1")]
    (row,) = csv.DictReader(io.StringIO(run("--output=csv", "--group-by=team")[1]))
    assert row["team"] == f"'{sign}1"


def test_sarif_says_the_objects_address(api: FakeApi, run: Run) -> None:
    api.objects["deployments"] = [deployment()]
    (document,) = json.loads(run("--output=sarif")[1])["runs"]
    (result,) = document["results"]
    (location,) = result["locations"]
    assert location["physicalLocation"] == {"artifactLocation": {"uri": "apis/apps/v1/namespaces/shop/deployments/web"}}
    assert (result["ruleId"], result["level"]) == ("memory-limits", "error")
    assert document["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == "memory-limits"


def test_contexts(api: FakeApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each is named; one that can't be reached costs itself alone."""
    api.objects["deployments"] = [deployment(limit="1Gi")]
    file = json.loads(kubeconfig({"server": api.url}, name="one"))
    away = json.loads(kubeconfig({"server": "http://127.0.0.1:1"}, name="away"))
    for part in ("clusters", "users", "contexts"):
        file[part] += away[part]
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(file))
    code = main(["audit", f"--kubeconfig={path}", "--context=one", "--context=away"])
    said = capsys.readouterr()
    assert code == 2
    assert said.out.startswith("Cluster one\n")
    assert said.err.startswith("forestall: context away: GET /")


def test_a_cluster_that_does_not_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(kubeconfig({"server": "http://127.0.0.1:1"}))
    assert main(["audit", f"--kubeconfig={path}"]) == 2
    assert capsys.readouterr().err.startswith("forestall: GET /")


def test_it_waits_as_a_busy_server_says(api: FakeApi, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr("webhook.audit.patient.time.sleep", waited.append)
    api.objects["deployments"] = [deployment()]
    api.script(
        "list",
        "deployments",
        lambda request: request.status(429, "too many requests", Retry_After="7"),
        lambda request: request.status(429, "too many requests"),
    )
    assert summary(run()[1])[0] == "1 workload with 1 container judged: 1 denied"
    assert waited == [7.0, 1.0]


def test_a_server_that_stays_busy_is_not_waited_for_without_end(
    api: FakeApi, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webhook.audit.patient.time.sleep", lambda _seconds: None)
    api.script("list", "deployments", *[lambda request: request.status(429, "too many requests")] * 20)
    code, out, _ = run("--strict")
    assert (code, api.count("list", "deployments")) == (2, 10)
    assert "not seen: deployments.apps: too many requests (429)" in out.splitlines()


def test_a_token_that_expires_is_asked_for_once_more(api: FakeApi, run: Run) -> None:
    api.objects["deployments"] = [deployment()]
    api.script("list", "deployments", lambda request: request.status(401, "Unauthorized"))
    assert summary(run()[1])[0] == "1 workload with 1 container judged: 1 denied"


def test_a_group_that_vanishes_in_the_middle(api: FakeApi, run: Run) -> None:
    api.objects["deployments"] = [deployment(f"web-{number}") for number in range(600)]
    api.script("list", "deployments", Request.behave, lambda request: request.status(404, "not found"))
    code, out, _ = run("--strict")
    assert code == 2
    assert summary(out)[0] == "500 workloads with 500 containers judged: 500 denied"
    assert "not seen: deployments.apps: not found (404)" in out.splitlines()


def test_a_list_that_expires_goes_on(api: FakeApi, run: Run) -> None:
    api.objects["deployments"] = [deployment(f"web-{number:03}") for number in range(600)]
    api.script("list", "deployments", Request.behave, lambda request: request.status(410, "expired"))
    assert summary(run()[1])[0] == "600 workloads with 600 containers judged: 600 denied"


def test_objects_that_cannot_be_read_are_named(api: FakeApi, run: Run) -> None:
    api.objects["deployments"] = [workload(containers="nonsense"), deployment("other")]
    code, out, _ = run("--strict")
    assert code == 2
    assert (
        "Deployment shop/web can't be read: spec.template.spec.containers is a string ('nonsense'), not a list"
        in out.splitlines()
    )


def test_findings_beyond_memory_are_on_disk(api: FakeApi, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webhook.audit.spill.IN_MEMORY", 1000)
    api.objects["deployments"] = [deployment(f"web-{number:03}") for number in range(20)]
    results = json.loads(run("--output=json")[1])["results"]
    assert [result["name"] for result in results] == [f"web-{number:03}" for number in range(20)]


PROGRAM = (sys.executable, "-c", "from webhook.cli import main; raise SystemExit(main())")
ODD = {"metadata": {"name": "one"}, "spec": {"taints": "nonsense"}}


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["check", "--cluster", "bare.yaml"], id="check"),
        pytest.param(["audit"], id="audit"),
    ],
)
def test_standard_output_holds_nothing_but_the_output(api: FakeApi, tmp_path: Path, arguments: list[str]) -> None:
    """In a process of its own: the log's settings are the process's."""
    api.objects["nodes"] = [ODD]
    api.objects["deployments"] = [deployment()]
    (tmp_path / "bare.yaml").write_text(json.dumps(workload("Pod")))
    command = [*PROGRAM, *arguments, "--kubeconfig", api.kubeconfig(tmp_path)]
    done = subprocess.run([*command, "--output=json"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert json.loads(done.stdout)["results"], done.stderr
    assert "Node one can't be read: " in done.stderr


def broken(api: FakeApi) -> str:
    """An ElastAlert that was OOM-killed a moment ago; when."""
    at = datetime.now(UTC) - timedelta(minutes=1)
    image = container("elastalert", "jertel/elastalert2:2.20.0", **sized("1Gi", "1Gi"))
    status = running("elastalert", elastalert=killed(f"{at:%Y-%m-%dT%H:%M:%SZ}", 3))
    api.objects["pods"] = [pod("elastalert-0", image, metadata=owned("StatefulSet", "elastalert"), status=status)]
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def test_what_is_broken_now_stands_first(api: FakeApi, run: Run) -> None:
    at = broken(api)
    api.objects["deployments"] = [deployment()]
    _, out, _ = run()
    head, _, rest = out.partition("== namespace shop")
    assert "Deployment shop/web" in rest
    assert " ".join(head.split()) == (
        "== broken now: 1 warning StatefulSet shop/elastalert warning memory-limits: container 'elastalert' was "
        f"OOM-killed at its limit 1Gi, last in pod elastalert-0 at {at}, 3 restarts: raise limits.memory above 1Gi, or "
        "have ElastAlert hold less: use_count_query: true in its rules, and a lower max_query_size run "
        "kubectl -n shop set resources statefulset/elastalert -c elastalert --limits=memory=2Gi "
        "kubectl -n shop logs elastalert-0 -c elastalert --previous why NU.nl 2019: ElastAlert pods without memory "
        "limits took node after node (forestall explain memory-limits)"
    )


@pytest.mark.parametrize(("arguments", "code"), [((), 0), (("--strict",), 1)], ids=["told", "strict"])
def test_what_is_broken_counts_where_all_counts(api: FakeApi, run: Run, arguments: tuple[str, ...], code: int) -> None:
    broken(api)
    assert run(*arguments)[0] == code


def test_what_is_broken_for_programs(api: FakeApi, run: Run) -> None:
    broken(api)
    api.objects["deployments"] = [deployment()]
    document = json.loads(run("--output=json")[1])
    jsonschema.validate(document, json.loads((ROOT / "docs" / "audit.schema.json").read_text()))
    (observation,) = document["observations"]
    assert observation | {"message": "", "run": [], "incident": ""} == {
        "cluster": "",
        "policy": "memory-limits",
        "severity": "warning",
        "kind": "StatefulSet",
        "namespace": "shop",
        "name": "elastalert",
        "subject": "elastalert",
        "message": "",
        "since": None,
        "value": 3,
        "run": [],
        "hint": None,
        "incident": "",
    }
    first, second = csv.DictReader(io.StringIO(run("--output=csv")[1]))
    told = first["name"], first["policy"], first["outcome"], first["container"], first["message"], second["outcome"]
    assert told == (
        *("elastalert", "memory-limits", "broken now: warning", "elastalert", observation["message"]),
        "denied",
    )
    first, second = json.loads(run("--output=sarif")[1])["runs"][0]["results"]
    assert (first["ruleId"], first["level"], second["properties"]["outcome"]) == ("memory-limits", "warning", "denied")
    (location,) = first["locations"]
    address = "apis/apps/v1/namespaces/shop/statefulsets/elastalert"
    assert location["physicalLocation"]["artifactLocation"]["uri"] == address


def test_on_the_page_it_stands_first_too(api: FakeApi, run: Run) -> None:
    broken(api)
    api.objects["deployments"] = [deployment()]
    code, page, _ = run("--output=html")
    assert code == 1
    assert (
        page.index("Broken now") < page.index("OOM-killed at its limit 1Gi") < page.index("could not be created again")
    )
    assert page.index("could not be created again") < page.index('<td data-value="0" class="denied">denied')


def test_a_page_of_several_clusters_says_which(
    api: FakeApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    api.objects["deployments"] = [deployment()]
    file = json.loads(kubeconfig({"server": api.url}, name="one"))
    other = json.loads(kubeconfig({"server": api.url}, name="<two>"))
    for part in ("clusters", "users", "contexts"):
        file[part] += other[part]
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(file))
    main(["audit", f"--kubeconfig={path}", "--context=one", "--context=<two>", "--as-if=deny", "--output=html"])
    page = capsys.readouterr().out
    assert re.findall("<h2>(Cluster.*)</h2>", page) == ["Cluster one", "Cluster &lt;two&gt;"]
    assert re.findall("<td>(one|&lt;two&gt;)", page) == ["one", "&lt;two&gt;"]


@pytest.mark.parametrize("is_watched", [True, False])
def test_a_bar_while_a_person_watches(api: FakeApi, tmp_path: Path, is_watched: bool) -> None:
    """In a process of its own, whose standard error is a terminal, or a file."""
    api.objects["deployments"] = [deployment()]
    reader, writer = os.openpty() if is_watched else os.pipe()
    command = [*PROGRAM, "audit", "--kubeconfig", api.kubeconfig(tmp_path), "--output=json"]
    environment = os.environ | {"TERM": "xterm", "FORCE_COLOR": "1"}
    told = b""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=writer, env=environment) as audit:
        os.close(writer)
        with contextlib.suppress(OSError):  # so a terminal ends that nobody writes to any more
            while chunk := os.read(reader, 1 << 16):
                told += chunk
        out, _ = audit.communicate()
    os.close(reader)
    assert [result["name"] for result in json.loads(out)["results"]] == ["web"]
    assert (b"objects so far" in told) == is_watched


def test_without_a_right_to_pods_the_rest_is_told(api: FakeApi, run: Run) -> None:
    api.objects["deployments"] = [deployment()]
    api.objects["pods"] = []
    api.script("list", "pods", *[forbidden("pods")] * 2)
    _, out, _ = run()
    assert "== broken now" not in out
    assert [line.partition(";")[0] for line in out.splitlines() if "not seen" in line] == [
        "not seen for want of a right: pods"
    ]
    assert "  denied    memory-limits: container 'web' has no memory limit" in out


def test_objects_that_are_admitted_unchecked(api: FakeApi, run: Run) -> None:
    gap = {"stages": ["validate"], "began": "2026-11-21T11:00:00Z", "reason": "no answer"}
    metadata = {"name": "forestall-state", "namespace": "forestall-system"}
    record = {"gaps": [gap], "forgotten": 0, "lost": False}
    api.objects["configmaps"] = [{"metadata": metadata, "data": {"gaps": json.dumps(record)}}]
    (seen,) = json.loads(run("--output=json")[1])["observations"]
    assert (seen["policy"], seen["severity"], seen["since"], seen["run"]) == (
        *("admitted-unchecked", "error", "2026-11-21T11:00:00Z"),
        ["forestall doctor"],
    )
    (result,) = json.loads(run("--output=sarif")[1])["runs"][0]["results"]
    address = "apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/forestall"
    assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == address
