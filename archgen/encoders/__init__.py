"""Encoders: architectures and graphs to embeddings."""

from archgen.encoders.graph_transformer import GraphTransformer
from archgen.encoders.paths import PathEncoder

__all__ = ["GraphTransformer", "PathEncoder"]
