"""Pretraining of the built-in reader on documentation: texts, lessons, encoded shards, training."""
