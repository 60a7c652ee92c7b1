"""Code that is edited while it runs: no result of the old code under the name of the new one."""

import importlib
import os
import subprocess
import sys

import pytest

from benchmarks.child import environment
from dfa import sweep
from dfa.sweeps.cluster.running import pickled_study
from dfa.sweeps.protocol import Code, compute_pickled, own_version
from dfa.sweeps.versions import model_version

STUDY = """
from rates import K
import rates

class Mine:
    def check(self, settings):
        pass

    def run(self, settings, seed):
        return {"value": K * settings["x"]}

    def describe(self):
        return {}

    def units(self):
        return {}
"""


def edit(path, text):
    """Write a file with a time that is not that of the last one."""
    time_ns = path.stat().st_mtime_ns + 10**10 if path.exists() else 10**18
    path.write_text(text)
    os.utime(path, ns=(time_ns, time_ns))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Folder with a study, where imports find it."""
    edit(tmp_path / "rates.py", "K = 2.0\n")
    edit(tmp_path / "mine.py", STUDY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    for name in ("mine", "rates"):
        sys.modules.pop(name, None)


def values(store):
    found = sweep(sys.modules["mine"].Mine(), {"x": [1.0]}, store=store, workers=0, progress=False)
    return found.value.item()


def test_an_edited_module_is_refused_until_it_is_reloaded(folder):
    """Catches: the old code's numbers under the new code's key, and words that count as code."""
    importlib.import_module("mine")
    assert values(folder / "x.db") == 2.0
    edit(folder / "rates.py", "K = 2.0  # words\n")
    assert values(folder / "x.db") == 2.0
    edit(folder / "rates.py", "K = 5.0\n")
    with pytest.raises(ValueError, match=r"^code must be that of its files, but rates changed after"):
        values(folder / "x.db")
    importlib.reload(sys.modules["rates"])
    importlib.reload(sys.modules["mine"])
    assert values(folder / "x.db") == 5.0
    edit(folder / "mine.py", STUDY.replace("K *", "K +"))
    with pytest.raises(ValueError, match="but mine changed after"):
        values(folder / "x.db")
    importlib.reload(sys.modules["mine"])
    assert values(folder / "x.db") == 6.0


@pytest.mark.parametrize("how", ["2", "2 --full"])
def test_autoreload_of_a_notebook_is_enough(folder, how):
    """With and without patching functions in place. Catches: a restart asked for where the code in memory is new."""
    pytest.importorskip("IPython")
    code = f"""
import os, warnings
warnings.simplefilter("ignore")
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
def cell(text):
    shell.run_cell(text).raise_error()
cell("%load_ext autoreload")
cell("%autoreload {how}")
cell("import mine; from dfa import sweep")
look = "print(sweep(mine.Mine(), {{'x': [1.0]}}, workers=0, progress=False).value.item())"
cell(look)
path = os.path.join({str(folder)!r}, "mine.py")
text = open(path).read()
open(path, "w").write(text.replace("K *", "7 + K *"))
os.utime(path, ns=(2 * 10**18, 2 * 10**18))
cell(look)
"""
    env = environment()
    env["PYTHONPATH"] = f"{folder}:{env['PYTHONPATH']}"
    env["IPYTHONDIR"] = str(folder / "ipython")
    run = subprocess.run([sys.executable, "-P", "-c", code], env=env, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr + run.stdout
    assert run.stdout.split()[-2:] == ["2.0", "9.0"]


def test_a_script_that_is_edited_while_it_runs_is_refused(folder):
    """Catches: a later sweep of the same run under the key of a script that has not run yet."""
    script = folder / "script.py"
    text = STUDY + (
        "import pathlib; from dfa.sweeps.versions import model_version as version\n"
        "version(Mine()); path = pathlib.Path(__file__)\n"
        "path.write_text(path.read_text().replace('K *', 'K +')); version(Mine())\n"
    )
    script.write_text(text)
    run = subprocess.run([sys.executable, script], env=environment(), capture_output=True, text=True, timeout=120)
    assert run.returncode == 1
    assert "but __main__ changed after this process had loaded it" in run.stderr.splitlines()[-1]


def test_a_worker_refuses_what_it_has_not_loaded(folder):
    """Catches: a worker that keeps the old module, and one whose file is another; a study that it cannot load."""
    study = importlib.import_module("mine").Mine()
    assert model_version(study)  # as the parent does
    pickled = pickled_study(study)
    code = Code(own_version(), {"rates": "other", "unknown_there": "other"})
    with pytest.raises(ConnectionError, match=r"^a worker has other code of rates than this process"):
        compute_pickled(pickled, {"x": 1.0}, 0, code)
    missing = pickled.replace(b"mine", b"mint")
    with pytest.raises(
        ValueError, match=r"^a worker cannot load the study \(ModuleNotFoundError: No module named 'mint'"
    ):
        compute_pickled(missing, {"x": 1.0}, 0, code)
