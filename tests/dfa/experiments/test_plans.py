"""Plans: errors for bad settings, defaults of the network, and devices."""

import dataclasses
import inspect
import json
import re

import pytest
from pydantic import TypeAdapter

from dfa.cli.train import train
from dfa.data import digits
from dfa.experiments import Plan, compare_methods, run_one, runs
from dfa.experiments.networks import NETWORKS
from photonics import OPU, presets

SMALL = Plan(hidden=(16,), epochs=1, samples=64)


@pytest.fixture(scope="module")
def data():
    return digits()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data": "imagenet"}, "data must be one of digits, .*, tiny-shakespeare, got 'imagenet'"),
        ({"network": "gcn"}, "network must be one of mlp, cnn, norm-cnn for digits, got 'gcn'"),
        ({"hidden": (8, 1.5)}, "hidden must be one or more positive whole numbers"),
        ({"network": "cnn", "hidden": 8}, "hidden must have channels of one or more convolutions, then units"),
        ({"data": "tiny-shakespeare", "hidden": (6,)}, "hidden must be one width for all blocks, divisible by 4 heads"),
        ({"steps": 10}, "steps must be left out for mlp, got 10"),
        ({"data": "cora", "batch_size": 3}, "batch_size must be left out for gcn, got 3"),
        ({"dropout": 0.1}, "dropout must be left out for mlp"),
        ({"data": "cora", "dropout": 1.0}, "dropout must be less than 1, got 1.0"),
        ({"epochs": 2.0}, "epochs must be a valid integer, got 2.0"),
        ({"samples": 0}, "samples must be greater than or equal to 1, got 0"),
        ({"learning_rate": float("inf")}, "learning_rate must be a finite number, got inf"),
        ({"diffuse": 1}, "diffuse must be True or False, got 1"),
        ({"through": "batch"}, "through must be 'norm' or None, got 'batch'"),
        ({"spread": "all"}, "spread must be one of each, channels, features, got 'all'"),
        ({"encoder": {"threshold": 1.0}}, "encoder must be an instance of Ternary"),
        ({"device": "nope"}, "preset must be one of"),
        ({"device": {}}, "medium is missing"),
        ({"device_changes": {"camera.bit_depth": 40}}, "bit_depth must be less than or equal to 16, got 40"),
        ({"calibration": {"method": "magic"}}, "calibration: method must be one of anchor"),
        ({"epoch": 3}, "epoch is not a parameter"),
    ],
)
def test_a_bad_setting_is_refused_in_one_line(settings, message):
    """Catches: a bad value that the fields accept."""
    with pytest.raises(ValueError, match=f"^Plan: .*{message}") as refused:
        Plan(**settings)
    assert "\n" not in str(refused.value)


def test_every_setting_is_described():
    """Catches: a field without description or range in the JSON Schema, a plan that JSON cannot represent."""
    schema = TypeAdapter(Plan).json_schema()
    assert schema["properties"].keys() == {field.name for field in dataclasses.fields(Plan)}
    assert all(entry["description"] for entry in schema["properties"].values())
    assert schema["properties"]["heads"]["minimum"] == 1
    assert TypeAdapter(Plan).validate_json(json.dumps(dataclasses.asdict(SMALL))) == SMALL


def test_defaults_of_the_networks_are_in_every_text():
    """Of the plan and of ``opu train --help``, which loads no network. Catches: a default that only the code knows."""
    schema = TypeAdapter(Plan).json_schema()["properties"]
    for name in ("hidden", "epochs", "steps", "batch_size", "learning_rate", "hidden_rate"):
        option = inspect.signature(train).parameters[name].annotation.__metadata__[0]
        for text in (option.help, schema[name]["description"]):
            stated = {float(number) for number in re.findall(r"\d+(?:\.\d+)?", text)}
            for kind, network in NETWORKS.items():
                value = getattr(network, name)
                wanted = value if isinstance(value, tuple) else [] if value is None else [value]
                assert stated >= set(wanted), (name, kind, text)


def test_a_described_device_is_that_of_its_file(data, tmp_path):
    """Catches: a description that is treated as a preset, with another size, exposure or seed."""
    text = 'exposure_s = 2e-4\n[medium]\ntype = "GaussianMedium"\nn_in = 24\nn_out = 64\n'
    (tmp_path / "bench.toml").write_text(text)
    file = str(tmp_path / "bench.toml")
    plans = [dataclasses.replace(SMALL, device=device) for device in (file, OPU.from_toml(file).to_dict())]
    assert run_one("optical", 3, plans[0], data) == run_one("optical", 3, plans[1], data)
    with pytest.raises(ValueError, match="inputs must be left out for a device from a file or a description"):
        dataclasses.replace(plans[1], inputs=30)
    small = dataclasses.replace(SMALL, device=presets.lab_bench(8, 100).to_dict())
    with pytest.raises(ValueError, match="device must have more than 10 inputs and at least 34 pixels") as refused:
        compare_methods(small, data, ["bp", "optical"], [0], progress=False)
    named = dict(re.findall(r"--set (\S+)=(\d+)", str(refused.value)))  # what the error tells to write
    larger = dataclasses.replace(small, device_changes={name: int(value) for name, value in named.items()})
    assert run_one("optical", 3, larger, data).frames > 0
    sensor = dataclasses.replace(small, device_changes={"imaging.sensor": [10, 10]})
    with pytest.raises(ValueError, match="choose a device with 20 inputs and 100 pixels"):
        run_one("optical", 3, sensor, data)
    with pytest.raises(ValueError, match="got 5 inputs and 34 pixels: leave out training"):
        run_one("optical", 3, dataclasses.replace(SMALL, inputs=5), data)


def test_a_device_is_built_once_for_each_run(data, monkeypatch):
    """The first run uses the device that was calibrated for the check. Catches: another device or seed."""
    built = []
    build = runs.build_feedback
    monkeypatch.setattr(runs, "build_feedback", lambda *arguments: built.append(arguments) or build(*arguments))
    found = compare_methods(SMALL, data, ["bp", "optical"], [4, 5], progress=False)
    assert [seed for method, _, _, seed in built if method == "optical"] == [4, 5]
    assert found[2] == run_one("optical", 4, SMALL, data)
