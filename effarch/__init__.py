"""Pareto-optimal deep learning models in JAX: find, train, ship.

The folders follow the areas of *Efficient Deep Learning: A Survey*
(arXiv:2106.08962): `architectures`, `learning`, `automation`,
`infrastructure`, and `strategies`, where they meet.
"""

__version__ = "0.1.0"
