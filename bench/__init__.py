"""What is measured beside others, by hand: each command prints one table."""
