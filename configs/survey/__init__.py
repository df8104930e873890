"""The survey's own experiments, a file each: `get_config(variant)` returns its `ConfigDict`."""
