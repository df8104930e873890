"""One study a file: `get_config(variant)` returns its `ConfigDict`."""
