"""Strategies of the survey's guide."""
