"""Product-based networks (Qu et al. 2016): the first layer also sees products of the fields.

first layer = W_z z + W_p p + b, z the concatenated field vectors
IPNN   p = the inner products of every two fields
OPNN   p = the outer product of the sum of all fields with itself, [k, k] (eq. 14: the superposition)
PNN*   both

Products within a side end in its share of the first layer. For those between the sides its vectors (IPNN) or their sum
(OPNN) go into the row. A cross feature has a vector, times its value.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.ranking.deep import FirstLayerHalf, Mlp, Weights, first_of_head
from models.ranking.embedding import flat, row_sums
from models.ranking.inputs import RankerInputs
from models.ranking.lr import field_vectors
from models.ranking.options import RankerOptions
from models.ranking.pieces import Half, Ranker, Share, Term, assemble


class InnerHalf(Half):
    """Block: [share of the first layer | the vectors]."""

    pairs: Tensor

    def __init__(self, num_fields: int, dim: int, outputs: int, fan_in: int) -> None:
        super().__init__()
        self.width = num_fields * dim
        self.register_buffer("pairs", torch.triu_indices(num_fields, num_fields, 1), persistent=False)
        self.weights = Weights(self.pairs.shape[1], outputs, fan_in)

    def forward(self, fields: Tensor) -> tuple[Tensor, Tensor]:
        """fields [n, F, k] -> share of the first layer [n, outputs], block [n, width]."""
        products = fields.index_select(1, self.pairs[0]) * fields.index_select(1, self.pairs[1])
        return self.weights(row_sums(products)), flat(fields)


class InnerHead(nn.Module):
    """The inner products that need both sides or the cross features, in the order user-item, user-cross, item-cross,
    cross-cross."""

    pairs: Tensor

    def __init__(self, inputs: RankerInputs, dim: int, outputs: int, fan_in: int) -> None:
        super().__init__()
        users, items, cross = inputs.user_fields, inputs.item_fields, inputs.cross
        self.users, self.items, self.dim = users, items, dim
        self.cross = nn.Parameter(torch.randn(cross, dim) * 0.01)
        self.register_buffer("pairs", torch.triu_indices(cross, cross, 1), persistent=False)
        self.weights = Weights(users * items + (users + items) * cross + self.pairs.shape[1], outputs, fan_in)

    def forward(self, user: Tensor, item: Tensor, cross: Tensor, row_user: Tensor) -> Tensor:
        # users [B, U, k], items [n, I, k]
        users = user.reshape(user.shape[0], self.users, self.dim)
        items = item.reshape(item.shape[0], self.items, self.dim)
        products = []
        if self.users and self.items:
            products.append(users.index_select(0, row_user) @ items.transpose(1, 2))  # [n, U, I]
        if self.cross.shape[0]:
            values = cross.unsqueeze(1)  # [n, 1, c]
            products.append((users @ self.cross.T).index_select(0, row_user) * values)
            products.append((items @ self.cross.T) * values)
            first, second = self.pairs
            constant = (self.cross.index_select(0, first) * self.cross.index_select(0, second)).sum(-1)
            products.append((cross.index_select(1, first) * cross.index_select(1, second) * constant).unsqueeze(1))
        flat = [product.flatten(1) for product in products]
        share: Tensor = self.weights(torch.cat(flat, 1) if flat else cross)
        return share


class OuterHalf(Half):
    """Block: the sum of the vectors [n, k]."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.width = dim

    def forward(self, fields: Tensor) -> tuple[None, Tensor]:
        return None, fields.sum(1)


class OuterHead(nn.Module):
    def __init__(self, num_cross: int, dim: int, outputs: int, fan_in: int) -> None:
        super().__init__()
        self.cross = nn.Parameter(torch.randn(num_cross, dim) * 0.01)
        self.weights = Weights(dim * dim, outputs, fan_in)

    def forward(self, user: Tensor, item: Tensor, cross: Tensor, row_user: Tensor) -> Tensor:
        total = user.index_select(0, row_user) + item
        if self.cross.shape[0]:
            total = total + cross @ self.cross
        share: Tensor = self.weights((total.unsqueeze(2) * total.unsqueeze(1)).flatten(1))
        return share


class ProductHalf(Half):
    """Block: [share of the first layer | blocks of the products]."""

    def __init__(self, first: FirstLayerHalf, products: Sequence[InnerHalf | OuterHalf]) -> None:
        super().__init__()
        self.first, self.products = first, nn.ModuleList(products)
        self.width = first.width + sum(product.width for product in products)

    def forward(self, categorical: Tensor, numeric: Tensor, fields: Tensor) -> Share:
        first, blocks = self.first(categorical, numeric, fields).block, []
        for product in self.products:
            share, block = product(fields)
            first = first if share is None else first + share
            blocks.append(block)
        return Share(block=torch.cat([first, *blocks], 1))


class ProductHead(nn.Module):
    def __init__(
        self,
        inputs: RankerInputs,
        fan_in: int,
        options: RankerOptions,
        products: Sequence[nn.Module],
        widths: tuple[list[int], list[int]],
    ) -> None:
        """widths: of the parts of the user's block and of the item's."""
        super().__init__()
        self.first, self.bias = first_of_head(inputs.cross, fan_in, options)
        self.products, self.mlp = nn.ModuleList(products), Mlp(options)
        self.user_widths, self.item_widths = widths

    def forward(self, user: Tensor, item: Tensor, cross: Tensor, row_user: Tensor) -> Tensor:
        user_first, *user_blocks = torch.split(user, self.user_widths, 1)
        item_first, *item_blocks = torch.split(item, self.item_widths, 1)
        first = user_first.index_select(0, row_user) + item_first + self.first(cross) + self.bias
        for product, user_block, item_block in zip(self.products, user_blocks, item_blocks, strict=True):
            first = first + product(user_block, item_block, cross, row_user)
        score: Tensor = self.mlp(first)
        return score


def _pnn(inputs: RankerInputs, options: RankerOptions, *, inner: bool, outer: bool) -> Ranker:
    dim, outputs, count = options.dim, options.hidden[0], inputs.fields
    fan_in = (inputs.user_fields + inputs.item_fields) * dim + inputs.cross
    fan_in += inner * count * (count - 1) // 2 + outer * dim * dim
    halves = []
    for num_fields in (inputs.user_fields, inputs.item_fields):
        products: list[InnerHalf | OuterHalf] = [InnerHalf(num_fields, dim, outputs, fan_in)] if inner else []
        products += [OuterHalf(dim)] if outer else []
        halves.append(ProductHalf(FirstLayerHalf(num_fields, dim, fan_in, options), products))
    user, item = halves
    heads: list[nn.Module] = [InnerHead(inputs, dim, outputs, fan_in)] if inner else []
    heads += [OuterHead(inputs.cross, dim, outputs, fan_in)] if outer else []
    widths = _widths(user), _widths(item)
    term = Term(user, item, ProductHead(inputs, fan_in, options, heads, widths))
    return assemble(inputs, *field_vectors(inputs, dim), [term])


def _widths(half: ProductHalf) -> list[int]:
    products = [product for product in half.products if isinstance(product, InnerHalf | OuterHalf)]
    return [half.first.width, *(product.width for product in products)]


def ipnn(inputs: RankerInputs, options: RankerOptions) -> Ranker:
    return _pnn(inputs, options, inner=True, outer=False)


def opnn(inputs: RankerInputs, options: RankerOptions) -> Ranker:
    return _pnn(inputs, options, inner=False, outer=True)


def pnn(inputs: RankerInputs, options: RankerOptions) -> Ranker:
    return _pnn(inputs, options, inner=True, outer=True)
