"""Counts what comes back from a device to the host."""

import json

import array_api_strict
import numpy as np

STRICT = type(array_api_strict.ones(1))
"""Class of the arrays of the fake device, which numpy cannot read."""


class Transfers(list):
    """Sizes of what was copied to the host, in entries on the fake device and in bytes on a GPU."""

    @property
    def arrays(self):
        """Those that are more than a number, or than a complex number of 16 bytes."""
        return [one for one in self if one > 16]


def count_strict(monkeypatch):
    """Count the copies from the fake device, also those of DLPack by numpy."""
    found = Transfers()

    def counted(method):
        def count(self, *arguments, **options):
            found.append(16 * self.size)
            return method(self, *arguments, **options)

        return count

    for name in ("to_device", "__float__", "__int__", "__bool__", "__complex__", "__index__"):
        monkeypatch.setattr(STRICT, name, counted(getattr(STRICT, name)))
    read = np.from_dlpack

    def count_dlpack(array, **options):
        found.extend([16 * array.size] if isinstance(array, STRICT) else [])
        return read(array, **options)

    monkeypatch.setattr(np, "from_dlpack", count_dlpack)
    return found


def count_gpu(act, path):
    """Run `act` and count the copies from the GPU of every library, as CUDA's profiler sees them."""
    import torch

    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profiler:
        act()
        torch.cuda.synchronize()
    profiler.export_chrome_trace(str(path))
    events = json.loads(path.read_text())["traceEvents"]
    return Transfers(e["args"]["bytes"] for e in events if "DtoH" in e.get("name", "") and "bytes" in e.get("args", {}))
