"""The survey's own experiments, a file each."""
