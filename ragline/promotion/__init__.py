"""Champion against challenger: the gate, the versions that are served, and the way back."""
