"""Models by name.

A model is built from `input_shape` and `num_classes`, which the data gives,
and its own arguments; it maps `B *input_shape` to logits `B K`.
"""

from effarch.architectures.models.survey_cnn import SurveyCNN

MODELS = {
  "survey_cnn": SurveyCNN,
}
