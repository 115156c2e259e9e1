"""The Transformer's layers against numbers worked by hand."""

import torch
from torch import Tensor

from models.layers import FeedForward, attention, join_heads, split_heads

X = torch.tensor([[1.0, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]], dtype=torch.float64)
W_Q = torch.tensor([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6], [0.7, 0.8]], dtype=torch.float64)


def projected(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return x @ W_Q, x @ (W_Q + 0.8), x @ (W_Q + 1.6)


def assert_close(found: Tensor, expected: list[list[float]], tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(found, torch.tensor(expected, dtype=found.dtype), rtol=0, atol=tolerance)


def test_attention_by_hand() -> None:
    """Rows of X sum to 10, 26 and 42: keys are the queries plus 0.8 and values plus 1.6 of that.

    The first query with the keys: 5 * 13 + 6 * 14 = 149, 5 * 32.2 + 6 * 34.8 = 369.8 and 5 * 51.4 + 6 * 55.6 = 590.6.
    Over sqrt(2) these are 156 apart, so the last value is the answer to every query, up to exp(-156).
    """
    queries, keys, values = projected(X)
    assert_close(queries, [[5, 6], [11.4, 14], [17.8, 22]])
    assert_close(keys, [[13, 14], [32.2, 34.8], [51.4, 55.6]])
    assert_close(values, [[21, 22], [53, 55.6], [85, 89.2]])
    assert_close(queries @ keys.T, [[149, 369.8, 590.6], [344.2, 854.28, 1364.36], [539.4, 1338.76, 2138.12]], 1e-9)
    assert_close(attention(queries, keys, values), [[85, 89.2]] * 3)


def test_attention_by_hand_where_the_softmax_does_not_saturate() -> None:
    """With X / 10 the products are a hundredth: 1.49, 3.698 and 5.906 for the first query, in equal steps of 2.208.

    exp(-2.208 / sqrt(2)) = 0.209865, and its square is 0.044043: the weights of the first query are 0.044043, 0.209865
    and 1 over their sum 1.253908, so its first output is 2.1 * 0.035125 + 5.3 * 0.167369 + 8.5 * 0.797507 = 7.739622.
    The steps of the other queries are 5.1008 and 7.9936.
    """
    queries, keys, values = projected(X / 10)
    assert_close(queries @ keys.T, [[1.49, 3.698, 5.906], [3.442, 8.5428, 13.6436], [5.394, 13.3876, 21.3812]])
    expected = [[7.739622, 8.121603], [8.410927, 8.826473], [8.488731, 8.908168]]
    assert_close(attention(queries, keys, values), expected, 5e-7)


def test_a_bias_is_added_to_the_scaled_products() -> None:
    """Equal products and values 1 and 5: a bias of log 3 on the second weighs it 3/4; a very negative one forbids."""
    queries, keys, values = torch.ones(2, 1), torch.ones(2, 1), torch.tensor([[1.0], [5.0]])
    bias = torch.tensor([[1.0, 3.0], [1.0, 0.0]]).log().clamp(min=-1e4)
    assert_close(attention(queries, keys, values, bias), [[(1 + 3 * 5) / 4], [1.0]], 1e-6)


def test_each_head_attends_within_its_own_dimensions() -> None:
    """Two heads of two dimensions are two attentions side by side, and joining undoes splitting."""
    torch.manual_seed(0)
    queries, keys, values = torch.randn(3, 4, 5, 4)  # [B, n, d] each, B = 4
    mixed = join_heads(attention(*(split_heads(x, 2) for x in (queries, keys, values))))
    for head in (slice(0, 2), slice(2, 4)):
        alone = attention(queries[..., head], keys[..., head], values[..., head])
        torch.testing.assert_close(mixed[..., head], alone, rtol=1e-6, atol=1e-6)
    assert torch.equal(join_heads(split_heads(queries, 2)), queries)


def test_feed_forward_by_hand() -> None:
    """x = (1, 2): hidden (1 + 4 + 0.5, 3 - 8 - 1) = (5.5, -6) becomes (5.5, 0), and out 5.5 * (2, -1) + (0.25, 1)."""
    layer = FeedForward(2, 2, 0.5).eval()
    weights = {
        "up.weight": [[1.0, 2.0], [3.0, -4.0]],
        "up.bias": [0.5, -1.0],
        "down.weight": [[2.0, 7.0], [-1.0, 9.0]],
        "down.bias": [0.25, 1.0],
    }
    layer.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
    assert_close(layer(torch.tensor([[1.0, 2.0]])), [[11.25, -4.5]])


def test_dropout_of_the_feed_forward_layer_hides_hidden_units_in_training_only() -> None:
    """One hidden unit at 1/2: it is dropped, leaving the bias, or doubled."""
    layer = FeedForward(1, 1, 0.5)
    layer.load_state_dict({"up.weight": torch.ones(1, 1), "up.bias": torch.zeros(1)}, strict=False)
    layer.load_state_dict({"down.weight": torch.ones(1, 1), "down.bias": torch.full((1,), 0.25)}, strict=False)
    torch.manual_seed(0)
    found = {layer(torch.tensor([3.0])).item() for _ in range(30)}
    assert found == {0.25, 6.25}
    assert layer.eval()(torch.tensor([3.0])).item() == 3.25
