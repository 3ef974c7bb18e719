"""The report: one self-contained page made from what the other stages wrote."""
