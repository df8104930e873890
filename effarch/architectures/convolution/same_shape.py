"""What blocks ask that add their input to their output."""

from __future__ import annotations

from effarch.architectures.convolution.window import Sizes, sizes


def keeps_shape(in_features: int, out_features: int, strides: Sizes) -> bool:
  """Returns whether outputs have the shape of the inputs.

  Args:
    in_features: channels of the inputs.
    out_features: channels of the outputs.
    strides: steps from one output to the next, one for both axes or one each.
  """
  steps = sizes("strides", strides, 2)
  return in_features == out_features and set(steps) == {1}


def check_same_shape(
  block: str, in_features: int, out_features: int, strides: Sizes
) -> None:
  """Sees to it that outputs have the shape of the inputs.

  Args:
    block: its name, for the error.
    in_features: channels of the inputs.
    out_features: channels of the outputs.
    strides: steps from one output to the next, one for both axes or one each.

  Raises:
    ValueError: they have not.
  """
  if in_features != out_features:
    raise ValueError(
      f"out_features: {out_features} is not in_features, {in_features}, which "
      f"{block} keeps; change channels by a convolution before it"
    )
  if not keeps_shape(in_features, out_features, strides):
    raise ValueError(
      f"strides: {strides!r} is not 1, and {block} keeps places; stride in a "
      "convolution before it"
    )
