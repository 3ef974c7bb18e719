"""From documents to questions with gold answers."""
