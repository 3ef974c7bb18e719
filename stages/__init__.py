"""One thin file a DVC stage: read, call, write. Run them as `python -m stages.<name>`."""

from ragline.runtime.environment import apply_defaults

apply_defaults()
