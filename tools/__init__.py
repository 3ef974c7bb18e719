"""What people run while working on Ragline; nothing here runs in the pipeline."""
