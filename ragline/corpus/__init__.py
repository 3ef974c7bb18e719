"""From sources to documents, near-duplicate clusters, splits and passages."""
