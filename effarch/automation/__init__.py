"""Trials: one config, trained and shipped; and what chooses the configs."""
