"""Asks a real API server what it makes of generated quantities, and writes tests/data/quantities.tsv.

    kubectl --kubeconfig KUBECONFIG proxy --port 8001 &
    python tests/oracle/quantities.py http://127.0.0.1:8001 > tests/data/quantities.tsv

Nothing is stored: each input is posted as a Pod with dryRun=All, in three places. Columns, tab-separated:

    input   as JSON, a string or a number
    memory  the API server's own spelling of the amount as a memory request: it defaults a pod's request to the sum of
            its containers', which has the amount written anew, rounded up to milli as in every list of resources.
            REFUSED if no quantity. Negative amounts parse, and validation's message quotes them.
    exact   its spelling as emptyDir.sizeLimit, which isn't rounded to milli; empty where it repeats the input,
            which says nothing, or where validation refused the pod
"""

import json
import random
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator

Value = str | int | float

SUFFIXES = ["", *"numkMGTPE", *(f"{prefix}i" for prefix in "KMGTPE")]
WRONG_SUFFIXES = ["K", "g", "t", "MB", "GB", "KB", "Kb", "mi", "MI", "ki", "Gib", "GiB", "iM", "B", "mm", "i", "MiMi"]
EXPONENTS = [
    "e3",
    "E3",
    "e+3",
    "e-3",
    "E-3",
    "e0",
    "e03",
    "e-9",
    "e-10",
    "e9",
    "e18",
    "e19",
    "e30",
    "e",
    "e+",
    "E+",
    "e-",
]
EXPONENTS += ["e3.5", "e3Mi", "e3m", "ee3", "Ee3", "e+-3", "e 3", "e4294967296", "e4294967297", "e-4294967297"]
EXPONENTS += ["e18446744073709551616", "e99999999999999999999"]
NUMBERS = [
    "",
    "0",
    "1",
    "8",
    "10",
    "012",
    "00",
    "512",
    "1000",
    "1024",
    "1536",
    "128974848",
    "9007199254740993",
    ".",
    "5.",
]
NUMBERS += [".5", "0.5", "0.1", "0.3", "1.5", "00.50", "1.0000000001", "0.0000000001", "0.1234567891", "999.9999999999"]
NUMBERS += ["9223372036854775807", "9223372036854775808", "12345678901234567890", "999999999999999999.999999999"]
NUMBERS += ["8388607.99999999999999", "7.99999999999999999999", "8.00000000000000000001", "1.2.3", "..5"]
ODD = [
    "+",
    "-",
    "+-1",
    "--1",
    "++1",
    "- 1",
    "1-",
    "0x10",
    "1_000",
    "1,5",
    "1,000Mi",
    "1 Gi",
    " 1Gi",
    "1Gi ",
    "\u00a01Gi\u2003",
]
ODD += [
    "\u20281Gi",
    "\x851Gi",
    "\u200b1Gi",
    "\ufeff1Gi",
    "\t1Gi",
    "1Gi\n",
    "\x1c1Gi",
    " ",
    "\u0663Gi",
    "\uff11Gi",
    "½",
    "nan",
]
ODD += [
    "inf",
    "Infinity",
    "true",
    "null",
    "1GiMi",
    '"1"',
    "\\u0031",
    "\x00",
    "1Gi\x00",
    "K",
    "Ki1",
    "max",
    "1/2",
    "50%",
]
ODD += ["9" * 100, "9" * 100 + "Ki", "0" * 100 + "1Ki", "1." + "0" * 100 + "1", "." + "0" * 50 + "1Ei"]
ODD += ["1e101", "1e308", "1e309", "1e400", "1e5000", "-1e400", "1.5e400", "1e-400", "-1e-5000", "9" * 400 + "Ki"]
ODD += ["9" * 400, "0." + "0" * 400 + "1", "1" + "0" * 400 + "e-400"]
JSON_NUMBERS: list[Value] = [
    0,
    1,
    -1,
    512,
    2**53 + 1,
    2**63 - 1,
    2**63,
    0.0,
    -0.0,
    0.1,
    0.3,
    1.5,
    1e-7,
    1e-10,
    1e16,
    1e22,
    1e30,
    10**400,
]
ALPHABET = "0123456789..+-eEinumkKMGTP "


def inputs() -> Iterator[Value]:
    yield from JSON_NUMBERS
    yield from ODD
    for number in NUMBERS:
        for tail in (*SUFFIXES, *EXPONENTS):
            yield number + tail
        for sign in "+-":
            yield from (sign + number + tail for tail in ("", "m", "Gi", "e3"))
    yield from (number + tail for number in ("1", ".5") for tail in WRONG_SUFFIXES)
    dice = random.Random(3)
    for _ in range(1200):
        text = dice.choice(["", "", "", "+", "-"]) + str(dice.randrange(10 ** dice.randrange(1, 22)))
        text += dice.choice(["", "", f".{dice.randrange(10 ** dice.randrange(1, 14))}"])
        text += dice.choice([*SUFFIXES, f"e{dice.randrange(-15, 25)}", f"E{dice.randrange(-15, 25)}"])
        yield text
        yield mutated(text, dice)


def mutated(text: str, dice: random.Random) -> str:
    for _ in range(dice.randrange(1, 3)):
        at = dice.randrange(len(text) + 1)
        text = text[:at] + dice.choice(["", dice.choice(ALPHABET)]) + text[at + dice.randrange(2) :]
    return text


def is_harmless(value: Value) -> bool:
    """Not an exponent that would make the API server write out a number of millions of digits."""
    exponent = re.search(r"[eE]([+-]?[0-9]+)$", str(value))
    return exponent is None or (int(exponent[1]) + 2**31) % 2**32 - 2**31 in range(-6000, 6000)


def ask(server: str, value: Value) -> tuple[str, str]:
    containers = [
        {"name": name, "image": name, "resources": {"requests": {"memory": amount}}}
        for name, amount in (("a", "0"), ("b", value))
    ]
    spec = {
        "automountServiceAccountToken": False,
        "resources": {"limits": {"memory": "1e6000"}},
        "containers": containers,
        "volumes": [{"name": "v", "emptyDir": {"sizeLimit": value}}],
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "quantity"}, "spec": spec}
    # Like kubectl, leave all but control characters as they are: the API server doesn't unescape quantities.
    body = json.dumps(pod, ensure_ascii=False).encode()
    request = urllib.request.Request(
        f"{server}/api/v1/namespaces/default/pods?dryRun=All", body, {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            admitted = json.load(response)["spec"]
    except urllib.error.HTTPError as error:
        message = json.load(error)["message"]
        if error.code == 400 and "quantit" in message:
            return "REFUSED", ""
        quoted = re.search(r'spec\.resources\.requests\[memory\]: Invalid value: "([^"]*)": must be greater', message)
        if quoted is None:
            raise RuntimeError(f"{value!r}: {message}") from error
        return quoted[1], ""
    exact = admitted["volumes"][0]["emptyDir"]["sizeLimit"]
    return admitted["resources"]["requests"]["memory"], "" if exact == str(value) else exact


def main() -> None:
    for value in filter(is_harmless, {json.dumps(value): value for value in inputs()}.values()):
        print(json.dumps(value), *ask(sys.argv[1], value), sep="\t")


if __name__ == "__main__":
    main()
