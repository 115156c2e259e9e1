"""SASRec over sets of equal times: what a user vector may depend on, and what it does not."""

import numpy as np
import pytest
import torch
from torch import Tensor

from models.contract.history import EMPTY, History, tower_input
from models.item_features import ItemFeatures
from models.retrieval import sasrec
from models.retrieval.sasrec import BIAS_STEP, MAX_DISTANCE, NEVER, Block, ItemEncoder, ItemInputs, SasRec, SasRecConfig

NUM_ITEMS, DIM = 30, 16


def make_model(layers: int = 2, length: int = 8, seed: int = 0) -> SasRec:
    """All weights random, those that start at zero too, so that nothing is hidden by a zero."""
    torch.manual_seed(seed)
    codes = torch.randint(0, 4, (NUM_ITEMS, 2))
    model = SasRec(
        ItemInputs(ItemFeatures.of_categories(codes, [4, 4]), torch.linspace(-1, 1, NUM_ITEMS)),
        SasRecConfig(DIM, layers, 2, length, 0.3, 0.3),
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def ask(model: SasRec, items: list[int], ordinals: list[int], moments: list[int]) -> Tensor:
    """User vectors [q, d]; items without padding."""
    with torch.inference_mode():
        return model.user_vectors(torch.tensor([items]) + 1, torch.tensor([ordinals]), torch.tensor([moments]))[0]


# Items 3 and 9 in the oldest set, then 4, 5 and 6, then 7, then 8 and 2.
ITEMS, SETS = [3, 9, 4, 5, 6, 7, 8, 2], [4, 4, 3, 3, 3, 2, 1, 1]


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("place", range(8))
def test_a_moment_sees_strictly_earlier_sets_and_nothing_else(layers: int, place: int) -> None:
    """An item is changed: vectors asked at its own set's moment or earlier stay to the last bit, later ones move."""
    model = make_model(layers)
    moments = [0, 1, 2, 3, 4]
    before = ask(model, ITEMS, SETS, moments)
    changed = list(ITEMS)
    changed[place] = 20
    after = ask(model, changed, SETS, moments)
    for moment, one, other in zip(moments, before, after, strict=True):
        assert torch.equal(one, other) == (moment >= SETS[place]), moment


@pytest.mark.parametrize("layers", [1, 2])
def test_a_moment_of_a_history_is_the_history_up_to_it(layers: int) -> None:
    """Asking at set m is the same as cutting the history before that set: training asks what serving will."""
    model = make_model(layers)
    for moment in (1, 2, 3):
        earlier = [place for place, ordinal in enumerate(SETS) if ordinal > moment]
        cut = ask(model, [ITEMS[p] for p in earlier], [SETS[p] - moment for p in earlier], [0])
        torch.testing.assert_close(ask(model, ITEMS, SETS, [moment]), cut, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layers", [1, 2])
def test_with_single_items_the_model_is_causal(layers: int) -> None:
    """One item a set: the vector at each moment is that of the prefix, whatever follows."""
    model = make_model(layers)
    items = [5, 1, 5, 9, 7]
    vectors = ask(model, items, [5, 4, 3, 2, 1], [4, 3, 2, 1, 0])
    for n in range(1, 6):
        prefix = ask(model, items[:n], list(range(n, 0, -1)), [0])[0]
        torch.testing.assert_close(vectors[n - 1], prefix, rtol=1e-5, atol=1e-6)
    assert len({tuple(vector.tolist()) for vector in vectors}) == 5


def test_order_matters_between_sets_and_not_inside_them() -> None:
    model = make_model()
    turned = [9, 3, 6, 4, 5, 7, 2, 8]
    torch.testing.assert_close(ask(model, turned, SETS, [0, 2]), ask(model, ITEMS, SETS, [0, 2]), rtol=1e-5, atol=1e-6)
    swapped = [7, 9, 4, 5, 6, 3, 8, 2]  # 3 and 7 change places over sets
    assert (ask(model, swapped, SETS, [0]) - ask(model, ITEMS, SETS, [0])).abs().max() > 1e-2


def test_padding_changes_nothing() -> None:
    """The same history in 8 places and in 20, and beside a longer one in the batch."""
    model = make_model()
    history = History(np.array(ITEMS), np.array([1, 1, 2, 2, 2, 3, 4, 4]))
    rows = [tower_input(history, 8), tower_input(history, 20)]
    with torch.inference_mode():
        short, padded = (model(torch.tensor(items)[None], torch.tensor(sets)[None]) for items, sets in rows)
        other = torch.randint(1, NUM_ITEMS, (1, 20))
        both = model(
            torch.cat([torch.tensor(rows[1][0])[None], other]),
            torch.cat([torch.tensor(rows[1][1])[None], torch.arange(20, 0, -1)[None]]),
        )
    torch.testing.assert_close(padded, short, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(both[:1], short, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layers", [1, 2])
def test_an_empty_history_has_a_vector(layers: int) -> None:
    """Finite, of length, and the same however long the padding; the first set of a user is asked for from it."""
    model = make_model(layers)
    items, sets = (torch.tensor(array)[None] for array in tower_input(EMPTY, 8))
    with torch.inference_mode():
        empty = model(items, sets)
        longer = model(*(torch.tensor(array)[None] for array in tower_input(EMPTY, 3)))
    assert torch.isfinite(empty).all()
    assert empty[:, :-1].norm() > 0.1
    torch.testing.assert_close(empty, longer, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ask(model, ITEMS, SETS, [4]), empty, rtol=1e-5, atol=1e-6)


def test_no_history_at_all_has_no_vector() -> None:
    """A process of several may have nothing of a small batch, and goes along with the others."""
    nobody = torch.zeros(0, 8, dtype=torch.int64)
    vectors = make_model().train().user_vectors(nobody, nobody, torch.zeros(0, 3, dtype=torch.int64))
    vectors.sum().backward()
    assert vectors.shape == (0, 3, DIM)


def test_gradients_of_an_empty_history_are_finite() -> None:
    model = make_model().train()
    model(torch.zeros(2, 8, dtype=torch.int64), torch.zeros(2, 8, dtype=torch.int64)).square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_sets_beyond_the_largest_distance_share_its_bias() -> None:
    """Two items that far away may change places; one nearer may not."""
    length = MAX_DISTANCE + 10
    model = make_model(1, length)
    sets = list(range(length, 0, -1))
    items = [n % NUM_ITEMS for n in range(length)]

    def swapped(one: int, other: int) -> Tensor:
        turned = list(items)
        turned[one], turned[other] = turned[other], turned[one]
        return ask(model, turned, sets, [0])

    before = ask(model, items, sets, [0])
    torch.testing.assert_close(swapped(1, 8), before, rtol=1e-5, atol=1e-6)
    assert (swapped(1, 15) - before).abs().max() > 1e-4


def test_the_bias_of_every_key_is_that_of_its_distance() -> None:
    """Key by key, in a history of more sets than there are distances: two items a set of each third, padding before."""
    length = MAX_DISTANCE + 30
    ordinals = np.zeros(length, np.int64)
    filled = np.repeat(np.arange(1, length), np.where(np.arange(1, length) % 3, 1, 2))[: length - 4]
    ordinals[4:] = filled[::-1]
    block = make_model(2, length).blocks[0]
    assert isinstance(block, Block)
    table = BIAS_STEP * block.attention.distance_bias.detach().numpy()  # [1 + MAX_DISTANCE, h]

    def of(query: int, key: int, own: bool) -> list[float]:
        distance = min(key - query, MAX_DISTANCE)
        return list(table[distance].tolist()) if distance > 0 or own else [NEVER] * 2

    sets, moments = torch.from_numpy(ordinals)[None], torch.tensor([[0, 1, 40]])
    with torch.inference_mode():
        own = block.attention._bias(sasrec._own(sasrec._kinds(sets, sets)))[:, 0].permute(1, 2, 0)
        asked = block.attention._bias(sasrec._kinds(moments, sets))[:, 0].permute(1, 2, 0)  # [q, 1 + L, h]
    places = range(length)
    assert own[:, 0].tolist() == [[0.0, 0.0]] * length
    assert own[:, 1:].tolist() == [[of(ordinals[q], ordinals[k], q == k) for k in places] for q in places]
    assert asked[:, 0].tolist() == [[0.0, 0.0]] * 3
    assert asked[:, 1:].tolist() == [[of(m, ordinals[k], False) for k in places] for m in (0, 1, 40)]


def test_out_of_training_a_history_is_looked_up_as_it_is_learned() -> None:
    """Without dropout: the same vectors in both modes, after the norm of the items has moved; and of loaded weights."""
    torch.manual_seed(0)
    inputs = ItemInputs(ItemFeatures.of_categories(torch.randint(0, 4, (NUM_ITEMS, 2)), [4, 4]), torch.rand(NUM_ITEMS))
    config = SasRecConfig(DIM, 2, 2, 8, 0.0, 0.0)
    model, other = SasRec(inputs, config), SasRec(inputs, config).eval()
    before = ask(model.eval(), ITEMS, SETS, [0])
    model.train()
    with torch.no_grad():
        model.content_norm.weight += torch.rand(DIM)
        model.content_norm.bias += torch.rand(DIM)
    learned = ask(model, [-1, *ITEMS], [0, *SETS], [0, 2])
    found = ask(model.eval(), [-1, *ITEMS], [0, *SETS], [0, 2])
    torch.testing.assert_close(found, learned, rtol=1e-5, atol=1e-6)
    assert (found[:1] - before).abs().max() > 1e-2
    other.load_state_dict(model.state_dict())
    assert torch.equal(ask(other, [-1, *ITEMS], [0, *SETS], [0, 2]), found)


def test_an_item_vector_is_its_id_and_features_and_ends_with_its_popularity() -> None:
    model = make_model()
    weights = {name: value.numpy() for name, value in model.items.state_dict().items()}
    codes = model.items.features.codes.numpy()
    expected = weights["ids.weight"] + sum(weights[f"features.tables.{f}.weight"][codes[:, f]] for f in range(2))
    expected[:, -1] = weights["popularity_weight"] * np.linspace(-1, 1, NUM_ITEMS)
    with torch.inference_mode():
        found = model.item_vectors().numpy()
        some = model.items(torch.tensor([[3, 4], [5, 5]]))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert some.shape == (2, 2, DIM)
    np.testing.assert_array_equal(some[1, 0].numpy(), found[5])


def test_out_of_training_the_item_vectors_follow_the_weights() -> None:
    """After a step, when evaluation begins; and when other weights are loaded."""
    model, other = make_model(), make_model()
    before = model.item_vectors().clone()
    model.train()
    with torch.no_grad():
        model.items.features.tables[1].weight += 1.0
    trained = model.items(torch.arange(NUM_ITEMS)).detach()
    after = model.eval().item_vectors()
    torch.testing.assert_close(after[:, :-1], before[:, :-1] + 1.0)
    torch.testing.assert_close(after[:, -1], trained[:, -1])
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.item_vectors(), after)
    assert not after.requires_grad


def test_an_untrained_user_adds_popularity_as_it_is() -> None:
    """The user vector ends with 1, so a score is content plus the learned multiple of log-popularity."""
    model = make_model()
    assert ask(model, ITEMS, SETS, [0, 1, 4])[:, -1].tolist() == [1, 1, 1]


def test_a_dropped_id_leaves_the_features() -> None:
    """In training only, and only where there are features to stand for the item."""
    torch.manual_seed(0)
    codes = torch.randint(0, 4, (NUM_ITEMS, 2))
    config = SasRecConfig(DIM, 1, 2, 8, 0.0, 0.5)
    encoder = ItemEncoder(ItemInputs(ItemFeatures.of_categories(codes, [4, 4]), torch.zeros(NUM_ITEMS)), config)
    features = encoder(torch.arange(NUM_ITEMS)).detach()
    whole = encoder.eval()(torch.arange(NUM_ITEMS)).detach()
    without_id = whole - encoder.ids.weight.detach()
    without_id[:, -1] = 0
    dropped = [torch.allclose(row, bare) for row, bare in zip(features, without_id, strict=True)]
    kept = [torch.allclose(row, full) for row, full in zip(features, whole, strict=True)]
    assert [a != b for a, b in zip(dropped, kept, strict=True)] == [True] * NUM_ITEMS
    assert 5 < sum(dropped) < 25
    bare = ItemEncoder(ItemInputs(ItemFeatures.of_categories(codes[:, :0], []), torch.zeros(NUM_ITEMS)), config).train()
    assert torch.equal(bare(torch.arange(NUM_ITEMS))[:, :-1], bare.ids.weight[:, :-1])
