"""What every table must hold before the next stage may read it, checked with Great Expectations."""
