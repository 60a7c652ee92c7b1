"""The command line, ``opu``. Heavy imports are inside the commands, so that ``--help`` is fast."""

import io
import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

from dfa.cli.calibrate import calibrate
from dfa.cli.device import device
from dfa.cli.doctor import doctor
from dfa.cli.installation import describe_version, extra_of
from dfa.cli.scaling import scaling
from dfa.cli.sweep import report, sweep
from dfa.cli.tolerance import tolerance
from dfa.cli.train import demo, train
from dfa.cli.twin import twin
from opu_sim import install_line

__all__ = ["main"]

app = typer.Typer(pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]})


def show_version(wanted: bool) -> None:
    """Print the version and end."""
    if wanted:
        typer.echo(describe_version())
        raise typer.Exit


@app.callback(epilog="First steps: opu doctor, then opu demo. The same in Python: help(photonics), help(dfa).")
def opu(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=show_version, is_eager=True)
    ] = False,
) -> None:
    """Simulate an optical co-processor and train neural networks through it."""


def bench(
    only: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Run this benchmark only; may be repeated.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="JSON file for the results. Default: runs/bench-<time>.json.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Use small sizes and give no verdicts, to see whether everything runs.")
    ] = False,
) -> None:
    """Measure the simulator's speed and memory on one core, as ratios to what the machine can do; takes minutes."""
    root = Path(__file__).parents[2]
    if not (root / "benchmarks" / "__main__.py").is_file():
        raise ValueError(
            "opu bench runs from a checkout of the repository: benchmarks/ is not in the installed package"
        )
    arguments = [*(f"--only={name}" for name in only or ()), *([f"--out={out}"] if out else [])]
    arguments += ["--quick"] if quick else []
    # A new process, because libraries read the number of threads when they are imported. -P ignores a folder called
    # benchmarks in the user's working directory.
    paths = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH", "")]))
    command = [sys.executable, "-P", "-m", "benchmarks", *arguments]
    raise typer.Exit(subprocess.run(command, env=os.environ | {"PYTHONPATH": paths}).returncode)


COMMANDS = {
    "demo": demo,
    "train": train,
    "calibrate": calibrate,
    "twin": twin,
    "sweep": sweep,
    "report": report,
    "tolerance": tolerance,
    "scaling": scaling,
    "device": device,
    "doctor": doctor,
    "bench": bench,
}
EXAMPLES = {
    "demo": ["opu demo", "opu demo --seeds 1 --out runs/demo", "opu demo --resume --out runs/demo"],
    "train": [
        "opu train --data mnist --method all --seeds 3",
        "opu train --device bench.toml --hidden 256,256 --epochs 10",
        "opu train --set camera.bit_depth=4 --set training.recalibrate_every=100",
        "opu train --data cora --method bp,optical --json > result.json",
    ],
    "calibrate": [
        "opu calibrate --device lab_bench --n-in 256 --n-out 1000",
        "opu calibrate --device bench.toml --method numerical-interferometry",
        "opu calibrate --recorded frames.h5",
        "opu calibrate --compare old.json new.json",
    ],
    "twin": ["opu twin --recorded bench.h5 --out bench.toml"],
    "sweep": ["opu sweep read_noise", "opu sweep study.toml --out runs/study", "opu sweep rin --workers 4 --quiet"],
    "report": ["opu report runs/study"],
    "tolerance": [
        "opu tolerance read_noise contrast --task digits",
        "opu tolerance --device bench.toml --out runs/tolerance --workers 2",
        "opu tolerance everything --set training.hidden=[256,256,256]",
    ],
    "scaling": [
        "opu scaling --set network.width=[1024,8192,65536]",
        "opu scaling --set device.frame_rate_hz=340 --set device.method=off-axis --figure scaling.png",
    ],
    "device": ["opu device lab_bench > bench.toml", "opu device bench.toml --set camera.bit_depth=10 > other.toml"],
    "doctor": ["opu doctor", "opu doctor --json"],
    "bench": ["opu bench --quick", "opu bench --only stored --only camera --out results.json"],
}
"""Lines at the end of each help."""
for name, command in COMMANDS.items():
    app.command(name, epilog="\n\n".join(["Examples:", *EXAMPLES[name]]))(command)


def main(argv: list[str] | None = None) -> None:
    """Run the command line. Bad input gives one line on standard error and exit code 2."""
    # torch's threads spin while they wait for each other. If the machine has other work, this makes small networks
    # several times slower. Shorter spinning costs a large network about 15 % on an idle machine.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    warnings.formatwarning = lambda message, *_, **__: f"opu: warning: {' '.join(str(message).split())}\n"
    logging.basicConfig(format="%(message)s")  # of the logs that show_progress turns on
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as standard error: a table must not fail for one sign
    arguments = argv or sys.argv[1:] or ["--help"]
    try:
        sys.exit(app(args=arguments, prog_name="opu", standalone_mode=False))
    except TyperException as error:
        problem = f"{error.format_message().rstrip('.')}; {usage(arguments[0])}"
    except ModuleNotFoundError as error:
        problem = f"{error.name} is not installed: {install_line(extra_of(error.name))}"
    except MemoryError as error:
        problem = f"not enough memory: {error}"
    except (ValueError, OSError) as error:
        problem = str(error)
    except RuntimeError as error:
        if "allocate" not in str(error):
            raise
        problem = f"not enough memory: {error}"  # torch raises no MemoryError
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    typer.echo(f"opu: {' '.join(problem.split())}", err=True)
    sys.exit(2)


def usage(command: str) -> str:
    """Return a hint where the allowed values are listed."""
    if command in COMMANDS:
        return f"opu {command} --help lists what is allowed"
    return f"commands are {', '.join(COMMANDS)}"


if __name__ == "__main__":
    main()
