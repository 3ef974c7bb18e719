"""Language models behind endpoints: calls that are paid for once."""
