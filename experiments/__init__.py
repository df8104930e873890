"""Commands: `python -m experiments.<train | measure | export | ...>`."""
