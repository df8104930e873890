"""Models whose layers have a structure."""
