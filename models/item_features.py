"""What a model may know of an item besides its id: the features of the items table as tensors, and their embedding."""

from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.contract.schema import MultiFeature, TextFeature, VectorFeature
from models.data.dataset import Dataset
from models.layers import mean_of_values
from models.text import item_text_vectors

TEXT_DIM = 64


class ItemFeatures(NamedTuple):
    """codes: int64 [N, F], categorical features but the id, and their sizes.  multi: int64 [N, m] for each multi-valued
    feature, padded with 0, and their sizes.  dense: float32 [N, D], numbers, given vectors and the texts' vectors."""

    codes: Tensor
    sizes: list[int]
    multi: list[Tensor]
    multi_sizes: list[int]
    dense: Tensor

    @classmethod
    def of_categories(cls, codes: Tensor, sizes: list[int]) -> "ItemFeatures":
        """Nothing but categorical features."""
        return cls(codes, sizes, [], [], torch.zeros(len(codes), 0))

    @property
    def empty(self) -> bool:
        return not (self.sizes or self.multi or self.dense.shape[1])


def item_features(dataset: Dataset, text_dim: int = TEXT_DIM) -> ItemFeatures:
    """The id is left out even where it is a feature: a model that has an embedding of ids has it already."""
    schema = dataset.schema
    categorical = schema.categorical("item")
    places = [place for place, feature in enumerate(categorical) if not feature.is_id]
    multi = schema.of_items(MultiFeature)
    dense = [torch.from_numpy(np.array(dataset.item_numeric, np.float32))]
    dense += [scaled(dataset.item_vectors_given[feature.name]) for feature in schema.of_items(VectorFeature)]
    dense += [
        scaled(item_text_vectors(dataset, feature.name, text_dim).numpy()) for feature in schema.of_items(TextFeature)
    ]
    return ItemFeatures(
        codes=torch.from_numpy(np.array(dataset.item_categorical[:, places], np.int64)),
        sizes=[categorical[place].size for place in places],
        multi=[torch.from_numpy(np.array(dataset.item_multi[feature.name], np.int64)) for feature in multi],
        multi_sizes=[feature.size for feature in multi],
        dense=torch.cat(dense, 1),
    )


def scaled(vectors: NDArray[np.float32]) -> Tensor:
    """Vectors about their mean, with numbers of size about 1; a missing vector, all zeros, stays so.

    One scale for all dimensions: which of them tell more apart is kept.  float32 [N, D].
    """
    present = vectors.any(axis=1)
    values = vectors[present].astype(np.float64)
    centred = values - values.mean(axis=0) if len(values) else values
    spread = float(np.sqrt(np.square(centred).mean())) if centred.size else 0.0
    result = np.zeros(vectors.shape, np.float32)
    result[present] = centred / (spread or 1.0)
    return torch.from_numpy(result)


class ItemFeatureEncoder(nn.Module):
    """The sum of an item's feature embeddings; a multi-valued feature counts with the mean of its values' vectors."""

    def __init__(self, features: ItemFeatures, dim: int) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(size, dim) for size in features.sizes)
        self.multi_tables = nn.ModuleList(nn.Embedding(size, dim) for size in features.multi_sizes)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.05)
        self.dim, width = dim, features.dense.shape[1]
        self.from_dense = nn.Parameter(torch.randn(width, dim) * 0.05 / width**0.5) if width else None
        self.codes: Tensor
        self.dense: Tensor
        self.register_buffer("codes", features.codes, persistent=False)
        self.register_buffer("dense", features.dense, persistent=False)
        self.multi_names = [f"multi_{place}" for place in range(len(features.multi))]
        for name, codes in zip(self.multi_names, features.multi, strict=True):
            self.register_buffer(name, codes, persistent=False)

    def forward(self, items: Tensor) -> Tensor:
        """items int64 [...] -> [..., d]."""
        codes = self.codes[items]
        vectors = torch.zeros((*items.shape, self.dim), device=items.device)
        for place, table in enumerate(self.tables):
            vectors = vectors + table(codes[..., place])
        if self.from_dense is not None:
            vectors = vectors + self.dense[items] @ self.from_dense
        for name, table in zip(self.multi_names, self.multi_tables, strict=True):
            values = getattr(self, name)[items]  # [..., m]
            vectors = vectors + mean_of_values(values, table(values))
        return vectors


class ItemEmbedding(nn.Module):
    """Id embedding + the embeddings of the features. In training the id is dropped at times, so that features alone
    make a usable vector for an item nobody has touched.

    Out of training the vectors are a table, made when the model enters evaluation mode or weights are loaded: a
    request's history is looked up, and the exported graph holds neither texts nor given vectors.
    """

    table: Tensor

    def __init__(self, num_items: int, features: ItemFeatures, dim: int, id_dropout: float, id_std: float) -> None:
        super().__init__()
        self.ids = nn.Embedding(num_items, dim)
        self.features = ItemFeatureEncoder(features, dim)
        nn.init.normal_(self.ids.weight, std=id_std)
        self.id_dropout = 0.0 if features.empty else id_dropout
        self.register_buffer("table", torch.zeros(num_items, dim), persistent=False)
        self.register_load_state_dict_post_hook(lambda module, keys: module.refresh())  # type: ignore[no-untyped-call]

    def forward(self, items: Tensor) -> Tensor:
        """items int64 [...] -> vectors [..., d]."""
        return self.vectors(items) if self.training else self.table[items]

    def all_items(self) -> Tensor:
        """Vectors of the whole catalogue [N, d]."""
        return self.vectors(self._all()) if self.training else self.table

    def vectors(self, items: Tensor) -> Tensor:
        """The vectors as they are learned, [..., d]."""
        vectors = self.ids(items)
        if self.training and self.id_dropout:
            kept = torch.rand(items.shape, device=items.device) >= self.id_dropout
            vectors = vectors * kept.unsqueeze(-1)
        summed: Tensor = vectors + self.features(items)
        return summed

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.refresh()
        return self

    @torch.no_grad()
    def refresh(self) -> None:
        """Make the table anew, unless the vectors are being learned."""
        if not self.training:
            self.table = self.vectors(self._all())

    def _all(self) -> Tensor:
        return torch.arange(len(self.table), device=self.table.device)
