"""Questions to a bench that only shows patterns and returns frames, and the report of its answers."""

import copy
import warnings

import numpy as np
import pytest

from calibration import RecordedDevice, Recording, characterize, characterize_pairs, open_recording
from calibration.device import Wrapper
from calibration.storage.questions import find_questions, join_recordings, write_questions
from dfa.cli.main import main
from photonics import GaussianMedium, Lossy, presets

N_IN, N_OUT = 16, 32


class Dark(Wrapper):
    """A device without uniform light, as a bench."""

    has_uniform = False

    def measure(self, *arguments, **options):
        return self.device.measure(*arguments, **options)

    def dark(self, *arguments):
        return self.device.dark(*arguments)


def benches():
    """A data sheet, and the real bench: another medium and less light."""
    sheet = presets.lab_bench(N_IN, N_OUT, seed=1)
    return sheet, sheet.replace(medium=Lossy(GaussianMedium(N_IN, N_OUT, seed=5), 0.7))


def answer(bench, asked):
    """Plain code of a lab: show a pattern, take a frame."""
    frames = []
    for k in range(len(asked["patterns"])):
        bench.clock.frames = int(asked["frame_number"][k])
        phase, seconds = asked["reference_phase"][k], asked["exposure_s"][k]
        if asked["laser_on"][k]:
            beam = None if np.isnan(phase) else phase
            frames.append(bench.measure(asked["patterns"][k : k + 1], seconds, reference_phase=beam))
        else:
            frames.append(bench.dark(1, seconds))
    return np.concatenate(frames)


def test_a_bench_that_answers_questions_has_the_report_of_a_device(tmp_path):
    """Line by line the same numbers, bit for bit, with searched exposures, a recovery and a focus.

    Catches: questions that follow from simulated frames, phases or exposures that get lost in files, a round that
    starts at another frame. A wrong answer is refused.
    """
    sheet, bench = benches()
    options = {"matrix": "phase-retrieval", "exposure": "auto", "vectors": 8}
    other = sheet.replace(medium=Lossy(GaussianMedium(N_IN, N_OUT, seed=9), 0.4))
    other.exposure_s = sheet.exposure_s
    direct = copy.deepcopy(bench)
    direct.exposure_s = sheet.exposure_s
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # simulated frames
        wanted, rounds = characterize(Dark(direct), **options), []
        for number in range(20):
            answers = join_recordings(rounds) if rounds else None
            asked = find_questions(
                lambda opu: characterize(opu, **options), [copy.deepcopy(sheet), copy.deepcopy(other)], answers
            )
            if asked is None:
                break
            path = write_questions(tmp_path / f"{number}.{('npz', 'h5', 'mat')[number % 3]}", asked)
            np.save(tmp_path / f"{number}.npy", answer(bench, asked._asdict()))
            rounds.append(open_recording(tmp_path / f"{number}.npy", path))
        found = characterize(RecordedDevice(join_recordings(rounds)), **options)
    assert number < 12
    assert [line.name for line in found.lines] == [line.name for line in wanted.lines]
    assert {"focusing", "matrix"} <= {line.group for line in found.lines}
    for line, same in zip(found.lines, wanted.lines, strict=True):
        np.testing.assert_equal((line.measured, line.uncertainty), (same.measured, same.uncertainty), line.name)
    wrong = Recording.from_arrays(~rounds[0].patterns, rounds[0].frames, device=rounds[0].device)
    told = pytest.warns(UserWarning, match="frames do not belong to their patterns")
    with told, pytest.raises(ValueError, match="differs from the request at frame 0"):
        find_questions(lambda opu: characterize(opu), [copy.deepcopy(sheet), copy.deepcopy(other)], wrong)


def run(*arguments):
    """Exit code of ``opu calibrate``."""
    with pytest.raises(SystemExit) as end:
        main(["calibrate", *arguments])
    return end.value.code or 0


def test_command_line(tmp_path, monkeypatch):
    """Questions, answers, report; and masks of a lab in any order, whose report names what is missing.

    Catches: options that are not passed on, a question file that is not readable as patterns.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("calibration.reports.report.Report.html", lambda report: "")  # pictures take long
    sheet, bench = benches()
    sheet.to_toml(tmp_path / "sheet.toml")
    first = ["--device", "sheet.toml", "--questions", "q.npz"]
    assert run(*first) == 0
    with np.load("q.npz") as asked:
        np.savez("answers.npz", allow_pickle=False, frames=answer(bench, asked))
    given = ["--recorded", "answers.npz", "--patterns", "q.npz", "--quiet"]
    assert run(*given, "--questions", "none.npz", "--out", "report") in (0, 3)
    assert not (tmp_path / "none.npz").exists() and (tmp_path / "report" / "report.json").exists()
    assert run(*first) == 2  # the file exists
    bench.autoexpose(0.7)
    masks = np.random.default_rng(0).random((10 * N_IN, N_IN)) < 0.5
    np.savez(
        "lab.npz", allow_pickle=False, patterns=masks * 255, frames=bench.measure(masks[3:]).astype(np.int32),
        exposure_s=np.full(len(masks) - 3, bench.exposure_s), frame_number=np.arange(3, len(masks)) + 1,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert run("--device", "sheet.toml", "--recorded", "lab.npz", "--out", "pairs") in (0, 3)
    text = (tmp_path / "pairs" / "report.json").read_text()
    for part in ("correlation per row", "two dark frames or more are needed, got 0", "no frame shows pattern 0, 1, 2"):
        assert part in text
    report = characterize_pairs(open_recording("answers.npz", "q.npz"))
    assert {line.group for line in report.lines} >= {"camera", "speckle", "matrix"}
