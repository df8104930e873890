"""Small tasks that tell token mixers apart, and language modelling."""
