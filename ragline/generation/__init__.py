"""Prompts, readers and training of the generator."""
