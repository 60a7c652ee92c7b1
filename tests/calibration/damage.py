"""Damage to HDF5 files, for tests that read them: each function returns one that takes the open file."""


def replace(name, change):
    """Another array in place of one."""

    def damage(file):
        values = change(file[name][()])
        del file[name]
        file[name] = values

    return damage


def spoil(name, place, value, summed=True):
    """Another value at a place; without the checksum if the array is not to be `summed`."""

    def damage(file):
        file[name][place] = value
        if not summed:
            del file[name].attrs["crc32"]

    return damage


def attribute(name, value):
    """Another value of an attribute."""
    return lambda file: file.attrs.__setitem__(name, value)
