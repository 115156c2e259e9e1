"""Texts as vectors, and the decomposition behind them."""

import numpy as np
import pytest
import torch

from models.svd import row_vectors
from models.text import grams, text_vectors, tfidf


def test_grams_are_words_and_neighbouring_pairs() -> None:
    assert grams("Über-Nacht: 2 Äpfel!") == ["über", "nacht", "2", "äpfel", "über nacht", "nacht 2", "2 äpfel"]
    assert grams("  ?!") == []


def test_weights_worked_by_hand() -> None:
    """Rows 0 and 1 share column 0, rows 0 and 2 column 7, which row 2 has twice; column 3 is row 1's alone; row 3 is
    empty. Both shared columns weigh ln(5/3), so row 0 has equal parts and the others have one entry."""
    rows, columns = np.array([0, 0, 1, 1, 2, 2]), np.array([7, 0, 0, 3, 7, 7])
    matrix = tfidf(rows, columns, 4).to_dense()
    half = 0.5**0.5
    expected = [[half, 0, half], [1, 0, 0], [0, 0, 1], [0, 0, 0]]
    torch.testing.assert_close(matrix, torch.tensor(expected))


def test_a_frequent_and_a_repeated_column_weigh_by_the_formula() -> None:
    """Column 0 is in all three rows but the fourth, column 1 in two, twice in row 1."""
    rows, columns = np.array([0, 1, 2, 0, 1, 1]), np.array([0, 0, 0, 1, 1, 1])
    first, second = np.log(5 / 4), np.log(5 / 3)
    row = np.array([first, (1 + np.log(2)) * second])
    np.testing.assert_allclose(tfidf(rows, columns, 4).to_dense()[1].numpy(), row / np.linalg.norm(row), rtol=1e-6)


def test_a_column_of_every_row_tells_nothing() -> None:
    matrix = tfidf(np.array([0, 1, 2, 0, 1]), np.array([5, 5, 5, 6, 6]), 3)
    assert matrix.to_dense().tolist() == [[0, 1], [0, 1], [0, 0]]


@pytest.mark.parametrize("sparse", [True, False])
def test_row_vectors_are_those_of_the_singular_value_decomposition(sparse: bool) -> None:
    rng = np.random.default_rng(0)
    dense = (rng.normal(size=(80, 50)) * (rng.random((80, 50)) < 0.2)).astype(np.float32)
    matrix = torch.from_numpy(dense)
    found = row_vectors(matrix.to_sparse_coo() if sparse else matrix, 6).numpy()
    left, values, _ = np.linalg.svd(dense.astype(np.float64), full_matrices=False)
    expected = left[:, :6] * values[:6]
    expected *= np.sign(np.take_along_axis(expected, np.abs(expected).argmax(0)[None], 0))
    np.testing.assert_allclose(found, expected, atol=2e-2)
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=2e-2)


def test_a_smaller_rank_is_padded_with_zeros_and_inner_products_stay() -> None:
    matrix = torch.tensor([[3.0, 0.0], [0.0, 2.0], [3.0, 2.0]])
    found = row_vectors(matrix, 5)
    assert found.shape == (3, 5)
    assert found.abs().max(0).values[2:].max() < 1e-3
    torch.testing.assert_close(found @ found.T, matrix @ matrix.T, atol=1e-4, rtol=0)


def test_texts_of_one_topic_are_near_though_they_share_no_word() -> None:
    """Two topics of five words; a text has two of them, chosen so that texts 0 and 1 have none in common."""
    red, blue = ["rust", "rose", "ruby", "wine", "fire"], ["sea", "sky", "ice", "ink", "navy"]
    texts = [f"{words[a]}. {words[b]}" for words in (red, blue) for a in range(5) for b in range(5) if a != b]
    texts += ["rust rose", "ruby wine", "sea sky", "unheard"]
    found = text_vectors(texts, 2)
    assert found.dtype == torch.float32
    one, other, far, alone = found[-4:]
    assert float(one @ other) > 0.99
    assert abs(float(one @ far)) < 0.01
    assert alone.abs().max() < 1e-4
    torch.testing.assert_close(found[:-1].norm(dim=1), torch.ones(len(texts) - 1))
    assert torch.equal(found, text_vectors(texts, 2))


def test_no_text_at_all_is_all_zero() -> None:
    assert text_vectors(["", ""], 3).tolist() == [[0, 0, 0], [0, 0, 0]]
