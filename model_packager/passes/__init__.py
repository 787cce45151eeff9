"""Passes: each takes a model and changes it in one way; verbs by name."""
