"""Ragline: question answering over your own documents, trained, measured and retrained like software is built."""

__version__ = "0.1.0"
