"""The model of a training step: its limits, its bytes, and its predictions of stored measurements."""

import itertools
import json
from dataclasses import replace

import pytest

from benchmarks import scaling as benchmark
from calibration.projections.methods import METHODS as PROJECTIONS
from dfa import scaling
from dfa.costs import METHODS, Chips, Device, Links, Network, step
from dfa.costs.parts import probe
from photonics import presets
from tests.command import opu, refused
from tests.pages import ROOT

FREE = Chips(call_s=0, half_size=0, learner_s=0, memory_bytes_per_s=1e30, flops_per_s=1e12, value_bytes=4)
INSTANT = Device(pixel_bytes=0)


def test_limits_of_a_step():
    """Arithmetic alone, with three products for each block by backpropagation, two by DFA, and frames by light.

    Catches: a product too many or too few, frames that are not those of the method.
    """
    network = Network(width=1000, depth=5, inputs=500, classes=100, batch=64)
    bp, dfa, optical = (step(network, FREE, Links(), INSTANT, method) for method in METHODS)
    unit = 2 * 64 / 1e12
    assert network.parameters == 500_000 + 4_000_000 + 100_000
    assert bp.seconds == pytest.approx(unit * (3 * 4_600_000 - 500_000), rel=1e-6)
    assert dfa.seconds == pytest.approx(unit * (2 * 4_600_000 + 100 * 5000), rel=1e-6)
    assert optical.seconds == pytest.approx(unit * 2 * 4_600_000 + 64 * probe("anchor")[0] / 2000, rel=1e-6)
    assert optical.device_joules == pytest.approx(30 * optical.seconds)


def test_light_overtakes_where_a_frame_replaces_more_operations_than_chips_make():
    """On one chip light crosses backpropagation where ``2 N = frames F / rate``, N weights behind the first block.

    Catches: a crossing that is interpolated on the wrong side, or at the wrong place.
    """
    network = Network(width=1000, depth=20, inputs=1, classes=1)
    widths = [round(2000 * 1.1**k) for k in range(16)]
    found = scaling(network, FREE, device=INSTANT, over={"network.width": widths})
    crossing = found.crossing()
    assert crossing is not None
    assert 2 * 19 * crossing**2 == pytest.approx(probe("anchor")[0] / 2 * 1e12 / 2000, rel=0.02)
    assert scaling(network, FREE, device=INSTANT, over={"network.width": widths[:2]}).crossing() is None


def test_ranks():
    """Bytes are those of `dfa.LayerParallel`, and ranks work together in DFA.

    Micro-batches fill the pipeline. One device for all ranks sends signals.

    Catches: a link that is counted twice or not at all, a bubble that micro-batches do not shorten.
    """
    network, links = Network(width=512, depth=7, batch=256), Links(ranks=4, bytes_per_s=1e7, latency_s=0)
    bp, dfa, optical = (step(network, FREE, links, INSTANT, method) for method in METHODS)
    tensor = 3 * (4 * 256 * 512 + 28)
    assert bp.link_bytes == 2 * tensor
    assert dfa.link_bytes == optical.link_bytes == tensor + 3 * (256 * 10 // 4 + 28)
    assert bp.links_s == pytest.approx(2 * tensor / 1e7)
    alone = step(network, FREE, Links(), INSTANT, "dfa")
    assert dfa.forward_s == pytest.approx(alone.forward_s)
    assert dfa.backward_s < 0.35 * alone.backward_s
    shared = step(network, FREE, links, replace(INSTANT, count=1), "optical")
    assert shared.link_bytes > optical.link_bytes + 4 * 256 * 512 * 5
    assert optical.devices == 4 and shared.devices == 1
    filled = step(replace(network, micro_batches=16), FREE, links, INSTANT, "bp")
    assert filled.seconds < 0.45 * bp.seconds
    crowded = step(network, replace(FREE, count=2), links, INSTANT, "dfa")
    assert crowded.backward_s == pytest.approx(2 * dfa.backward_s)


def test_many_ranks_cost_no_more_time_than_few():
    """Ranks with as many blocks are counted, not listed. Catches: minutes for 1e7 ranks; a rank or block too many."""
    for blocks, ranks in ((2, 1), (2, 2), (9, 3), (17, 5), (23, 23), (60, 7)):
        ends = [blocks * rank // ranks for rank in range(ranks + 1)]
        sizes = sorted(high - low for low, high in itertools.pairwise(ends))
        shares = Network(depth=blocks - 1).shares(ranks)
        found = [share.first + share.hidden + share.last for share, count in shares for _ in range(count)]
        assert sorted(found) == sizes
        assert (found[0], found[-1]) == (ends[1], blocks - ends[-2])
        assert shares[0][0].first and shares[-1][0].last
    many = Network(depth=3 * 10**7 - 1, width=64)
    found = step(many, FREE, Links(ranks=10**7), replace(INSTANT, count=10**6), "optical")
    assert found.backward_s < 1e-6 * step(many, FREE, Links(), INSTANT, "optical").backward_s
    signals = 27 * 10**6 * 256 * 64 * 4  # three blocks on each of the 9e6 ranks without a device
    codes, headers = (10**6 - 1) * 640, (10**7 - 1) * 28
    assert found.link_bytes == pytest.approx((10**7 - 1) * (256 * 64 * 4 + 28) + signals + codes + headers, rel=1e-12)


@pytest.mark.parametrize("method", PROJECTIONS)
def test_frames_are_those_of_the_projection_method(method):
    """Every method answers; methods that show entries one at a time need more frames for more classes."""
    few, many = (Device(method=method).frames(Network(classes=n, batch=10)) for n in (2, 100))
    assert few >= 20
    assert (many == 50 * few) if method == "reference-pairs" else (many == few)
    assert Device(method=method, shown=0.5).frames(Network(classes=2, batch=10)) == few / 2


def test_a_device_of_the_simulator():
    device = Device.of(presets.lighton_aurora(1000, 500), "off-axis", count=2)
    assert (device.frame_rate_hz, device.power_w, device.pixels) == (pytest.approx(2000), 30.0, 500)
    assert device.needed(Network(width=100, depth=20), 1) == 2  # 1000 outputs each, as the values are complex
    with pytest.raises(ValueError, match=r"^device.count must be at least 4 for 4000 hidden units, got 2"):
        device.needed(Network(width=200, depth=20), 1)
    with pytest.raises(ValueError, match=r"^device.inputs must be at least network.classes \(2000\), got 1000"):
        device.needed(Network(classes=2000), 1)


def test_measured_steps():
    """28 steps of docs/howto/scaling.md: their predictions are those of the model now, and 23 are within 20 %.

    Catches: a change of the model without a new measurement, bytes that the code counts otherwise.
    """
    stored = json.loads((ROOT / "docs/scaling_measured.json").read_text("utf-8"))
    chips, ratios = Chips(**stored["chips"]), []
    for row in stored["points"]:
        seconds = row.pop("predicted_s")
        parts = {
            "network": Network(**row["network"]),
            "links": Links(**row["links"]),
            "device": Device(**row["device"]),
        }
        point = benchmark.Point(**row | parts)
        assert benchmark.predict(point, chips) == pytest.approx(seconds, rel=1e-6), point
        ratios.append(seconds / point.measured_s)
        if point.sent and point.wire:
            rule = "bp" if point.rule == "bp" else "dfa"
            assert point.sent == pytest.approx(step(**parts, chips=chips, method=rule).link_bytes, rel=1e-4)
            assert point.sent < point.wire < 1.011 * point.sent
    assert len(ratios) == 28
    assert sum(abs(ratio - 1) <= 0.2 for ratio in ratios) == 27


def test_bad_input_is_one_line(capfd, tmp_path):
    assert "links.ranks must be at most the 9 blocks" in refused(capfd, "scaling", "--set", "links.ranks=20")
    assert "a parameter must be one of network.width" in refused(capfd, "scaling", "--set", "network.wide=20")
    assert "entries must be at most matrices (1), got 3" in refused(capfd, "scaling", "--set", "network.entries=3")
    assert "micro_batches must be at most batch (256)" in refused(
        capfd, "scaling", "--set", "network.micro_batches=999"
    )
    assert "method must be one of anchor" in refused(capfd, "scaling", "--set", "device.method=magic")
    assert "frame_rate_hz must be less than or equal to 500000000000000" in refused(
        capfd, "scaling", "--set", "device.frame_rate_hz=1e30"
    )
    assert "over must have 1 to" in refused(capfd, "scaling", "--set", "network.width=[]")
    large = "network.width=" + "9" * 400
    assert "width must be less than or equal to 9007199254740992" in refused(capfd, "scaling", "--set", large)
    assert "must give finite times and energies" in refused(capfd, "scaling", "--set", "chips.flops_per_s=1e-320")
    assert "figure must be a .png or .svg" in refused(capfd, "scaling", "--figure", tmp_path / "x.gif")
    with pytest.raises(ValueError, match=r"^one parameter must vary, got none"):
        scaling().crossing()


def test_command(capfd, tmp_path):
    """Catches: a figure that is not written, JSON that lacks the parts."""
    assert opu("scaling", "--set", "network.width=[64,4096]", "--figure", tmp_path / "x.svg", "--json") == 0
    found = json.loads(capfd.readouterr().out)
    assert [point["settings"] for point in found["points"]] == [{"network.width": 64}, {"network.width": 4096}]
    assert found["parts"]["device"]["method"] == "anchor"
    assert (tmp_path / "x.svg").stat().st_size > 10_000
    assert opu("scaling") == 0
    assert "forward" in capfd.readouterr().out
