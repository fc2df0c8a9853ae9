"""The whole pipeline: from images and wishes to trained networks, with everything in one resumable folder."""

from archgen.design.pipeline import Design, design, load
from archgen.design.request import BOUNDED, DesignRequest

__all__ = ["BOUNDED", "Design", "DesignRequest", "design", "load"]
