"""Encoders: architectures and graphs to embeddings."""

from archgen.encoders.autoencoder import AutoEncoder
from archgen.encoders.condition import ConditionEmbedding
from archgen.encoders.dag_transformer import DAGTransformer
from archgen.encoders.data_set import DataSetEncoder
from archgen.encoders.distances import DistanceEncoder
from archgen.encoders.graph_transformer import GraphTransformer
from archgen.encoders.paths import PathEncoder
from archgen.encoders.weisfeiler_lehman import WeisfeilerLehmanEncoder

__all__ = [
    "AutoEncoder",
    "ConditionEmbedding",
    "DAGTransformer",
    "DataSetEncoder",
    "DistanceEncoder",
    "GraphTransformer",
    "PathEncoder",
    "WeisfeilerLehmanEncoder",
]
