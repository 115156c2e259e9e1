"""Texts as vectors, without a trained language model: TF-IDF of words and pairs of words, and latent semantic analysis
(Deerwester et al. 1990)."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from zlib import crc32

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.contract.columns import BytesColumn
from models.data.dataset import Dataset
from models.svd import row_vectors, unit_rows

BUCKETS = 2**22  # grams are hashed, so that memory does not grow with the vocabulary
_WORD = re.compile(r"\w+")


def grams(text: str) -> list[str]:
    """Words, that is runs of letters and digits, in lower case, and each two that follow one another."""
    words = _WORD.findall(text.casefold())
    return words + [f"{first} {second}" for first, second in pairwise(words)]


def tfidf(rows: NDArray[np.int64], columns: NDArray[np.int64], num_rows: int) -> Tensor:
    """Sparse [num_rows, C], each row of length 1, or empty.

    rows, columns: int64 [n], one entry an occurrence. An entry weighs (1 + ln count) ln((1 + N) / (1 + rows with the
    column)) (Salton and Buckley 1988). A column of one row alone relates it to no other and is left out.
    """
    span = int(columns.max(initial=0)) + 1
    pairs, counts = np.unique(rows * span + columns, return_counts=True)
    rows, columns = np.divmod(pairs, span)
    _, place, frequency = np.unique(columns, return_inverse=True, return_counts=True)
    weights = (1.0 + np.log(counts)) * np.log((1.0 + num_rows) / (1.0 + frequency))[place]
    kept = (frequency[place] > 1) & (weights > 0)
    rows, place, weights = rows[kept], place[kept], weights[kept]
    lengths = np.sqrt(np.bincount(rows, weights**2, num_rows))
    indices = torch.from_numpy(np.stack([rows, place]))
    values = torch.from_numpy(weights / lengths[rows]).float()
    size = (num_rows, len(frequency))
    return torch.sparse_coo_tensor(indices, values, size, check_invariants=True).coalesce()


def text_vectors(texts: Iterable[str], dim: int) -> Tensor:
    """float32 [N, dim], of length 1, or near zero where a text shares no word with another."""
    found = [np.array([crc32(gram.encode()) % BUCKETS for gram in grams(text)], np.int64) for text in texts]
    rows = np.repeat(np.arange(len(found)), [len(columns) for columns in found])
    columns = np.concatenate([*found, np.empty(0, np.int64)])
    return unit_rows(row_vectors(tfidf(rows, columns, len(found)), dim))


def item_text_vectors(dataset: Dataset, name: str, dim: int) -> Tensor:
    """`text_vectors` of one text feature of the items, float32 [N, dim]; computed once in a process."""
    return _vectors(_Column(dataset.fingerprint, name, dim, dataset.item_text[name]))


@dataclass(frozen=True, slots=True)
class _Column:
    """What the vectors depend on: the column is the one of that name in the data of that fingerprint."""

    fingerprint: str
    name: str
    dim: int
    texts: BytesColumn = field(compare=False)


@lru_cache(maxsize=4)
def _vectors(column: _Column) -> Tensor:
    return text_vectors((column.texts[row].decode() for row in range(len(column.texts))), column.dim)
