"""What the Python clients have in common: cases by name, run on each path, one line of JSON each: {path, name, why?}."""
import concurrent.futures
import hashlib
import json
import sys
import time
import traceback

MIB = 1024 * 1024
_cases = []


def case(name, only=lambda path: True):
    """Registers a case; `only` says on which paths it makes sense."""
    def register(function):
        _cases.append((name, only, function))
        return function
    return register


def pattern(n):
    return bytes((i * 31 + (i >> 8) * 7) & 255 for i in range(n))


def sha(data):
    return hashlib.sha256(data).hexdigest()


def same(found, expected, what=""):
    assert found == expected, f"{what}: {found!r:.300} is not {expected!r:.300}"


def until(what, condition, limit=8.0):
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.01)


def _run(path, name, function):
    found = {"path": path["name"], "name": name}
    try:
        function(path)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        found["why"] = f"{type(error).__name__}: {error} (line {last.lineno})"
    # One write: the cases are threads.
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()


def main(parallel=8):
    """Runs every case on every path of the plan, the only argument; a path may leave cases out (`without`)."""
    plan = json.loads(sys.argv[1])
    with concurrent.futures.ThreadPoolExecutor(parallel) as pool:
        for path in plan:
            for name, only, function in _cases:
                if only(path) and name not in path.get("without", []):
                    pool.submit(_run, path, name, function)
