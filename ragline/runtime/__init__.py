"""Params, the stage runner, the environment: the only settings-aware code."""
