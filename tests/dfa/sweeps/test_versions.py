"""What counts as the code behind a study: nothing that decides a result may be left out, no words may count."""

import ast
import json
import linecache
import subprocess
import sys
import types

import pytest

from benchmarks.child import environment
from benchmarks.sweeps import Logged
from dfa.robustness import TrainingStudy
from dfa.sweeps.imports import bare, reachable
from dfa.sweeps.versions import model_version, project_version

STUDY = '''
import functools
import numpy as np
import helpers
from helpers import unused
from calibration import metrics
GAIN = 2.0
TABLE = {"a": [1, 2]}
WEIGHTS = np.arange(3)
CASES = {"one", "two", "three"}

def scaled(x):
    """Words."""
    return GAIN * x

def other(x):
    return x

class Base:
    offset = 1.0

    def rest(self):
        return helpers.add(self.offset, 1)

class Mine(Base):
    """Words."""

    def run(self, settings, seed):
        return {"value": sum(scaled(x) for x in WEIGHTS) + self.rest() + TABLE["a"][0] + self.cached(3) + len(CASES)}

    @staticmethod
    @functools.lru_cache
    def cached(x):
        return x + 1  # words
'''
HELPERS = """
def add(a, b):
    return a + b

unused = 1
"""


def test_code_counts_and_words_do_not():
    """Catches: results thrown away for a docstring, or kept over a change of physics."""
    text = 'def f(x):\n    """Old."""\n    return x + 1  # why\n'
    assert bare(ast.parse(text)) == bare(ast.parse("def f(x):\n    return (x + 1)\n"))
    assert bare(ast.parse(text)) != bare(ast.parse(text.replace("1", "2")))


def test_what_is_imported_late_counts():
    """Catches: modules that are named in a table, and packages whose names are imported on first use."""
    used = reachable(["dfa.feedback.optical"])
    assert {"photonics.parts.camera", "photonics.random", "calibration.projections.measuring", "dfa"} <= used
    assert not {"dfa.cli.main", "dfa.sweeps.sweeping", "dfa.experiments.page"} & used
    assert {"calibration.recovery.popoff", "calibration.recovery.phase_retrieval"} <= reachable(
        ["calibration.recovery.transmission"]
    )
    assert len(model_version(Logged("", 0.0))) == len(project_version()) == 16


def test_all_that_a_training_loads_counts():
    """Run one and look. Catches: a module that decides a result and is not in the version."""
    code = (
        "import json, sys; from dfa.experiments.plans import Plan; from dfa.robustness import TrainingStudy\n"
        "plan = Plan(data='digits', hidden=(8,), epochs=1, samples=200)\n"
        "TrainingStudy(plan).run({'camera.read_noise_e': 1.0}, 0)\n"
        "print(json.dumps(list(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-P", "-c", code], env=environment(), capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    found = {name for name in json.loads(run.stdout.splitlines()[-1]) if name.split(".")[0] in PROJECT}
    assert len(found) > 50
    assert found <= reachable([TrainingStudy.__module__])


PROJECT = {"photonics", "calibration", "dfa"}


def in_a_file(folder, text):
    (folder / "mine.py").write_text(text)
    code = "import mine; from dfa.sweeps.versions import model_version; print(model_version(mine.Mine()))"
    env = environment()
    env["PYTHONPATH"] = f"{folder}:{env['PYTHONPATH']}"
    return subprocess.run(
        [sys.executable, "-P", "-c", code], env=env, capture_output=True, text=True, check=True
    ).stdout


def typed(folder, text, known=True):
    """As in a notebook: in ``__main__``, which has no file, with or without Python knowing the text."""
    name = f"<cell {hash(text)}>"
    if known:
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    main = types.ModuleType("__main__")
    exec(compile(text, name, "exec"), main.__dict__)
    return model_version(main.Mine())


@pytest.fixture
def helpers(tmp_path, monkeypatch):
    """Folder with a module of the user's, where imports find it."""
    (tmp_path / "helpers.py").write_text(HELPERS)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("helpers", None)


CHANGES = [
    ("x + 1  # words", "x + 2  # words"),
    ("return GAIN * x", "return GAIN + x"),
    ("GAIN = 2.0", "GAIN = 3.0"),
    ("[1, 2]", "[1, 3]"),
    ("np.arange(3)", "np.arange(4)"),
    ("offset = 1.0", "offset = 2.0"),
    ('"three"', '"four"'),
    ("(self.offset, 1)", "(self.offset, 2)"),
]
WORDS = [("Words.", "Others."), ("# words", "# others"), ("def other(x):\n    return x", "def other(x):\n    return 3")]


def without_text(folder, text):
    return typed(folder, text, known=False)


@pytest.mark.parametrize("version", [typed, without_text])
def test_a_study_in_a_notebook_is_known_by_its_code(helpers, version):
    """Catches: results of the cell as it was before it was changed."""
    first = version(helpers, STUDY)
    assert version(helpers, STUDY) == first
    for old, new in CHANGES:
        assert old in STUDY
        assert version(helpers, STUDY.replace(old, new)) != first, new
    for old, new in WORDS if version is typed else WORDS[1:]:
        assert version(helpers, STUDY.replace(old, new)) == first, new
    (helpers / "helpers.py").write_text(HELPERS.replace("a + b", "a - b"))
    sys.modules.pop("helpers")  # loaded again
    assert version(helpers, STUDY) != first


SETUP = """
import functools, math, numpy as np
from helpers import add, unused
from helpers import add as taken

class Held:
    def __init__(self, *held):
        self.held = held

class Other:
    def act(self): return 1

def named(x): return x
def made(k): return lambda x: k * x
def over(k, x): return k * x
pair = [lambda x: x + 1, lambda x: x + 2]

class Mine:
    def __init__(self, held=None): self.held = held
    def run(self, settings, seed): return {"value": taken(CHOICE, 1)}

CHOICE = None
mine = Mine()
"""
HELD = [
    "lambda x: x + 1",
    "lambda x: x + 100",
    "pair[0]",
    "pair[1]",
    "[pair[0], pair[1]]",
    "[pair[1], pair[0]]",
    "{'f': made(1)}",
    "{'f': made(2)}",
    "[made(1), made(2)]",
    "[made(2), made(1)]",
    "functools.partial(over, 1)",
    "functools.partial(over, 2)",
    "functools.partial(over, 1, 1)",
    "functools.partial(over, x=1)",
    "functools.partial(made(1), 1)",
    "[named, over]",
    "[over, named]",
    "{made(1)}",
    "{made(2), 'a', 'b'}",
    "np.sin",
    "np.cos",
    "math.sin",
    "Other",
    "Other()",
    "add",
    "None",
]


def version_of(held, setup=SETUP, known=True):
    """Version of a study that holds something in an attribute."""
    return typed(None, f"{setup}\nclass Mine(Mine): pass\nMine = functools.partial(Mine, {held})\n", known)


@pytest.mark.parametrize("known", [True, False])
def test_functions_that_are_held_count(helpers, known):
    """In attributes of the study and in values that it uses, wherever they are.

    Catches: results of another function, of other arguments of a partial, of functions in another order.
    """
    for place in ("self", "CHOICE"):
        found = {}
        for held in HELD:
            setup, given = (SETUP, held) if place == "self" else (SETUP.replace("E = None", f"E = {held}"), "None")
            found[held] = version_of(given, setup, known)
            assert version_of(given, setup, known) == found[held]
        assert len(set(found.values())) == len(HELD), (place, found)


def test_what_a_name_is_imported_from_counts(helpers):
    """Catches: another function of the same module by the same name."""
    (helpers / "helpers.py").write_text(HELPERS + "def sub(a, b): return a - b\n")
    assert version_of("None") != version_of("None", SETUP.replace("add as taken", "sub as taken"))


def test_a_study_in_a_file_is_known_by_its_code(helpers):
    """Catches: a version that differs between processes, by the order of a set, or from that in a notebook."""
    first = in_a_file(helpers, STUDY)
    assert in_a_file(helpers, STUDY.replace("Words.", "Others.") + "\nprint\n") == first
    assert typed(helpers, STUDY) == first.strip()
