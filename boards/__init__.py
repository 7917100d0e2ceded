"""Boards and cores as data."""
