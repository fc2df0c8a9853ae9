"""The whole pipeline: from images and wishes to trained networks, with everything in one resumable folder."""

from archgen.design.pipeline import Design
from archgen.design.reporting import damaged, report
from archgen.design.request import EFFORTS, DesignRequest
from archgen.design.run import design, load

__all__ = ["EFFORTS", "Design", "DesignRequest", "damaged", "design", "load", "report"]
