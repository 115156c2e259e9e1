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
from models.ranking.pieces import Affine, Half, Ranker, Share, Term, TermHead, assemble


class InnerHalf(nn.Module):
    """The side's products and its vectors."""

    pairs: Tensor

    def __init__(self, num_fields: int, dim: int, outputs: int, fan_in: int) -> None:
        super().__init__()
        self.width = num_fields * dim
        self.register_buffer("pairs", torch.triu_indices(num_fields, num_fields, 1), persistent=False)
        self.weights = Weights(self.pairs.shape[1], outputs, fan_in)

    def forward(self, fields: Tensor) -> tuple[Tensor, Tensor]:
        """fields [n, F, k] -> share of the first layer [n, outputs], vectors [n, width]."""
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


class OuterHalf(nn.Module):
    """The sum of the vectors."""

    def forward(self, fields: Tensor) -> Tensor:
        """fields [n, F, k] -> [n, k]."""
        return fields.sum(1)


class OuterHead(nn.Module):
    def __init__(self, num_cross: int, dim: int, outputs: int, fan_in: int) -> None:
        super().__init__()
        self.cross = nn.Parameter(torch.randn(num_cross, dim) * 0.01)
        self.weights = Weights(dim * dim, outputs, fan_in)

    def forward(self, total: Tensor) -> Tensor:
        """total: the sum over all fields [n, k] -> share of the first layer [n, outputs]."""
        share: Tensor = self.weights((total.unsqueeze(2) * total.unsqueeze(1)).flatten(1))
        return share


class ProductHalf(Half):
    """Addend: [share of the first layer | the sum of the vectors, for OPNN].  Block: the vectors, for IPNN."""

    def __init__(self, first: FirstLayerHalf, products: Sequence[InnerHalf | OuterHalf], dim: int) -> None:
        super().__init__()
        self.first, self.products = first, nn.ModuleList(products)
        self.addends = first.addends + sum(dim for product in products if isinstance(product, OuterHalf))
        self.width = sum(product.width for product in products if isinstance(product, InnerHalf))

    def forward(self, categorical: Tensor, numeric: Tensor, fields: Tensor) -> Share:
        first, sums, block = self.first(categorical, numeric, fields).addend, [], None
        for product in self.products:
            if isinstance(product, OuterHalf):
                sums.append(product(fields))
            else:
                share, block = product(fields)
                first = first + share
        return Share(addend=torch.cat([first, *sums], 1), block=block)


class ProductHead(TermHead):
    def __init__(
        self, inputs: RankerInputs, fan_in: int, options: RankerOptions, products: Sequence[InnerHead | OuterHead]
    ) -> None:
        super().__init__()
        self.first, self.bias = first_of_head(inputs.cross, fan_in, options)
        self.products, self.mlp = nn.ModuleList(products), Mlp(options)

    def affine(self) -> Affine:
        weights = [self.first.weight.T, *(product.cross for product in self.products if isinstance(product, OuterHead))]
        bias = [self.bias, *(self.bias.new_zeros(part.shape[1]) for part in weights[1:])]
        return Affine(torch.cat(weights, 1), torch.cat(bias))

    def forward(self, total: Tensor, user: Tensor, item: Tensor, cross: Tensor, row_user: Tensor) -> Tensor:
        outputs = len(self.bias)
        first, fields = total[:, :outputs], total[:, outputs:]
        for product in self.products:
            share = product(fields) if isinstance(product, OuterHead) else product(user, item, cross, row_user)
            first = first + share
        score: Tensor = self.mlp(first)
        return score


def _pnn(inputs: RankerInputs, options: RankerOptions, *, inner: bool, outer: bool) -> Ranker:
    dim, outputs, count = options.dim, options.hidden[0], inputs.fields
    fan_in = (inputs.user_fields + inputs.item_fields) * dim + inputs.cross
    fan_in += inner * count * (count - 1) // 2 + outer * dim * dim
    halves = []
    for num_fields in (inputs.user_fields, inputs.item_fields):
        products: list[InnerHalf | OuterHalf] = [InnerHalf(num_fields, dim, outputs, fan_in)] if inner else []
        products += [OuterHalf()] if outer else []
        halves.append(ProductHalf(FirstLayerHalf(num_fields, dim, fan_in, options), products, dim))
    heads: list[InnerHead | OuterHead] = [InnerHead(inputs, dim, outputs, fan_in)] if inner else []
    heads += [OuterHead(inputs.cross, dim, outputs, fan_in)] if outer else []
    term = Term(halves[0], halves[1], ProductHead(inputs, fan_in, options, heads))
    return assemble(inputs, *field_vectors(inputs, dim), [term])


def ipnn(inputs: RankerInputs, options: RankerOptions) -> Ranker:
    return _pnn(inputs, options, inner=True, outer=False)


def opnn(inputs: RankerInputs, options: RankerOptions) -> Ranker:
    return _pnn(inputs, options, inner=False, outer=True)


def pnn(inputs: RankerInputs, options: RankerOptions) -> Ranker:
    return _pnn(inputs, options, inner=True, outer=True)
