"""Data parallelism: one axis of devices, the batch spread along it.

One process drives all devices; nothing here starts or coordinates several.
"""

from __future__ import annotations

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def data_mesh() -> Mesh:
  """Returns all devices along the axis `data`."""
  return jax.make_mesh(
    (jax.device_count(),),
    ("data",),
    axis_types=(jax.sharding.AxisType.Auto,),
  )


def replicated(mesh: Mesh) -> NamedSharding:
  """Everything on every device: parameters, and data that fits."""
  return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh, axis: int) -> NamedSharding:
  """The dimension `axis` is the batch, an equal share on each device."""
  return NamedSharding(mesh, PartitionSpec(*[None] * axis, "data"))
