"""A language model as a judge of answers, and people as judges of it."""
