"""Coverage sees what jaxtyping rewrites: its finder comes first, before `archgen` is imported."""

import sys

sys.meta_path.sort(key=lambda finder: not type(finder).__module__.startswith("slipcover"))
