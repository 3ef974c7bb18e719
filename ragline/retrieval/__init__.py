"""Encoders, indexes, search, mining and training of the retriever."""
