"""The content of a point's key: settings, description, version, packages, and the source of the study's class."""

import importlib
import linecache
import os
import re
import subprocess
import sys
import types

import numpy as np
import pytest

from benchmarks.child import environment
from dfa.sweeps import keys
from dfa.sweeps.cluster.running import pickle_study
from dfa.sweeps.cluster.worker import compute_in_worker, libraries, unpickle
from dfa.sweeps.keys import canonical_json, code_of, hash_packages, point_key

STUDY = """
from dataclasses import dataclass

@dataclass
class Base:
    offset: float = 1.0

    def rest(self):
        return self.offset

@dataclass
class Mine(Base):
    gain = 2.0

    def check(self, settings):
        pass

    def run(self, settings, seed):
        return {"value": self.gain * settings["x"] + self.rest()}

    def describe(self):
        return {}

    def units(self):
        return {}
"""
CHANGES = [("gain = 2.0", "gain = 3.0"), ("self.gain *", "self.gain +"), ("offset: float = 1.0", "offset: float = 2.0")]


def edit(path, text):
    """Write a file with a new modification time."""
    time_ns = path.stat().st_mtime_ns + 10**10 if path.exists() else 10**18
    path.write_text(text)
    os.utime(path, ns=(time_ns, time_ns))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Folder with the module ``mine``, where imports find it."""
    edit(tmp_path / "mine.py", STUDY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    sys.modules.pop("mine", None)


def in_notebook(text, known=True):
    """Return a study as in a notebook: in ``__main__`` without a file; Python finds the cell if `known`."""
    name = f"<cell {hash(text)} {known}>"
    if known:
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    main = types.ModuleType("__main__")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "__main__", main)
        exec(compile(text, name, "exec"), main.__dict__)
    return main.Mine()


def test_a_key_depends_on_the_content_only():
    """Catches: keys that depend on order, tuples or numpy types; seeds, settings or code that are not in the key."""
    key = point_key("{}", {"a": 1, "b": (1, 2)}, 0, "m")
    assert key == point_key("{}", {"b": [1, np.int64(2)], "a": np.int32(1)}, 0, "m")
    others = [("{}", {"a": 1}, 0, "m"), ("{}", {"a": 1, "b": (1, 2)}, 1, "m"), ("{}", {"a": 1, "b": (1, 2)}, 0, "n")]
    assert key not in {point_key(*other) for other in others}
    assert canonical_json({"x": True}, "x") != canonical_json({"x": 1}, "x")


def test_the_source_of_class_and_bases_changes_the_key():
    """In a notebook. Catches: results of the old version of a cell; a base class that is left out."""
    first = code_of(in_notebook(STUDY))
    assert code_of(in_notebook(STUDY + "\nprint\n")) == first
    found = {code_of(in_notebook(STUDY.replace(*change))) for change in CHANGES}
    assert len(found | {first}) == 1 + len(CHANGES)


def test_a_version_changes_the_key(folder):
    """Catches: a version that is not read from the class or from the object, or that replaces the source."""
    study = importlib.import_module("mine").Mine()
    found = {code_of(study)}
    for version in (1, 2, "2"):
        study.version = version
        found.add(code_of(study))
    assert len(found) == 4
    study.version = object()
    with pytest.raises(ValueError, match="version must consist of"):
        code_of(study)


def test_a_class_without_source_needs_a_version():
    """As typed into an interpreter. Catches: a key that does not change when the class is redefined."""
    study = in_notebook(STUDY, known=False)
    with pytest.raises(ValueError, match=r"^study must have an attribute version, .* no source of its class Mine$"):
        code_of(study)
    study.version = 3
    assert code_of(study) == code_of(study)


def test_an_edited_file_changes_the_key_when_it_is_loaded(folder):
    """Catches: results of the old code under the key of the new code."""
    mine = importlib.import_module("mine")
    first = code_of(mine.Mine())
    edit(folder / "mine.py", STUDY.replace(*CHANGES[0]))
    assert code_of(mine.Mine()) == first
    importlib.reload(mine)
    assert code_of(mine.Mine()) != first


def test_autoreload_of_a_notebook_changes_the_key(folder):
    """It changes the functions of a class in place. Catches: the old key for new code."""
    pytest.importorskip("IPython")
    code = f"""
import os, warnings
warnings.simplefilter("ignore")
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
def cell(text):
    shell.run_cell(text).raise_error()
cell("%load_ext autoreload")
cell("%autoreload 2")
cell("from mine import Mine; from dfa.sweeps.keys import code_of")
cell("print(code_of(Mine()).study, Mine().run({{'x': 1.0}}, 0)['value'])")
path = os.path.join({str(folder)!r}, "mine.py")
text = open(path).read()
open(path, "w").write(text.replace("self.gain *", "7 + self.gain *"))
os.utime(path, ns=(2 * 10**18, 2 * 10**18))
cell("print(code_of(Mine()).study, Mine().run({{'x': 1.0}}, 0)['value'])")
cell("class Own:\\n    def run(self, settings, seed): return 1")
cell("print(len(code_of(Own()).study))")
"""
    env = environment()
    env |= {"PYTHONPATH": f"{folder}:{env['PYTHONPATH']}", "IPYTHONDIR": str(folder / "ipython")}
    run = subprocess.run([sys.executable, "-P", "-c", code], env=env, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr + run.stdout
    first, value, second, changed, length = run.stdout.split()[-5:]
    assert first != second
    assert [float(value), float(changed), int(length)] == [3.0, 10.0, 64]


def test_every_file_of_the_packages_changes_the_key(tmp_path, monkeypatch):
    """Catches: a hash without files in subfolders, names of files or comments."""
    (tmp_path / "one" / "inner").mkdir(parents=True)
    for name in ("one/__init__.py", "one/inner/__init__.py", "one/inner/a.py"):
        (tmp_path / name).write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(keys, "PACKAGES", ("one",))
    found = [hash_packages()]
    (tmp_path / "one" / "inner" / "a.py").write_text("# words")
    found.append(hash_packages())
    (tmp_path / "one" / "inner" / "a.py").rename(tmp_path / "one" / "b.py")
    found.append(hash_packages())
    (tmp_path / "one" / "data.txt").write_text("not code")
    assert hash_packages() == found[-1]
    assert len(set(found)) == 3


def in_worker(pickled, code, points=(({"x": 1.0}, 0),), made_with=None):
    return compute_in_worker(pickled, points, code, made_with or libraries())


def test_a_worker_refuses_other_code(folder):
    """Catches: results of other packages or libraries, of another file of the study, or of a study that is missing."""
    study = importlib.import_module("mine").Mine()
    pickled, code = pickle_study(study), code_of(study)
    assert in_worker(pickled, code)[0].metrics == {"value": 3.0}
    with pytest.raises(ConnectionError, match=r"^a worker must have the same code of mine as this process"):
        in_worker(pickled, keys.Code(code.packages, "other"))
    with pytest.raises(ConnectionError, match=r"^a worker must have the same code of opu-sim as this process"):
        in_worker(pickled, keys.Code("other", code.study))
    there = libraries().replace(f"numpy {np.__version__}", "numpy 1.0, cupy 13.0")
    refused = f"the same libraries as this process, got numpy {np.__version__} instead of 1.0, cupy missing instead of"
    with pytest.raises(ConnectionError, match=re.escape(refused)):
        in_worker(pickled, code, made_with=there)
    missing = pickled.replace(b"mine", b"mint")
    with pytest.raises(ValueError, match=r"^a worker cannot load the study \(ModuleNotFoundError: No module named 'mi"):
        in_worker(missing, code)


def test_a_worker_begins_no_point_when_its_time_is_over(folder, monkeypatch):
    """Catches: long points that wait for each other in one worker."""
    study, points = importlib.import_module("mine").Mine(), [({"x": float(x)}, 0) for x in range(3)]
    for seconds, values in ((100.0, [1.0, 3.0, 5.0]), (0.0, [1.0])):
        monkeypatch.setattr("dfa.sweeps.cluster.worker.BATCH_S", seconds)
        found = in_worker(pickle_study(study), code_of(study), points)
        assert [outcome.metrics["value"] for outcome in found] == values


def test_ctrl_c_of_a_study_is_the_error_of_its_point(folder, monkeypatch):
    """Catches: a worker that ends, loses its earlier points, and computes the point again."""
    study = importlib.import_module("mine").Mine()

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(type(study), "run", stop)
    monkeypatch.setattr("dfa.sweeps.cluster.worker.check_study_code", lambda *_: None)
    unpickle.cache_clear()  # an earlier test has pickled a study with the same bytes
    (found,) = in_worker(pickle_study(study), code_of(study))
    assert found.error.startswith("KeyboardInterrupt")
    assert "in stop" in found.traceback
