"""Run one function in a fresh process, so that nothing else has used its memory."""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

__all__ = ["ROOT", "call_in_new_process"]

Result = TypeVar("Result")
ROOT = Path(__file__).parents[1]


def call_in_new_process(function: Callable[..., Result], *arguments: object) -> Result:
    """Call a function of a module in a new process. JSON must be able to represent arguments and result.

    Raises
    ------
    RuntimeError
        If the process fails.
    """
    module = function.__module__
    if module == "__main__" and (spec := sys.modules[module].__spec__):  # of ``python -m MODULE``
        module = spec.name
    command = [sys.executable, "-P", "-m", "benchmarks.child", module, function.__name__, json.dumps(arguments)]
    run = subprocess.run(command, capture_output=True, text=True, env=environment())
    if run.returncode:
        raise RuntimeError(f"{function.__name__}: {(run.stderr.strip().splitlines() or ['killed'])[-1]}")
    return json.loads(run.stdout.splitlines()[-1])


def environment() -> dict[str, str]:
    """Environment in which a process finds the packages of this checkout, from any folder."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return dict(os.environ) | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


if __name__ == "__main__":
    module, name, text = sys.argv[1:]
    print(json.dumps(getattr(importlib.import_module(module), name)(*json.loads(text))))
