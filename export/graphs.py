"""torch -> ONNX with dynamic batches, and the check that both compute the same.

The torch.export based exporter: the TorchScript one is deprecated in torch 2.13 and bakes data-dependent branches of
the trace into the graph.
"""

import contextlib
import inspect
import io
import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import nn

from export.stable import stabilise_sums
from export.vector_products import as_columns
from models.contract.manifest import Tensor
from models.contract.user_inputs import FEATURES, HISTORY

OPSET = 20
BATCH, ROWS = "batch", "rows"

Feed = Mapping[str, NDArray[np.int64] | NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class GraphIO:
    """Names of a graph's inputs, in the order of the module's arguments, with the dimension that varies first in
    each, and of its one output."""

    inputs: Mapping[str, str]
    output: str


USER_TOWER_IO = GraphIO(dict.fromkeys(HISTORY, BATCH), "user_vector")
FEATURE_TOWER_IO = GraphIO(dict.fromkeys((*HISTORY, *FEATURES), BATCH), "user_vector")  # with `user_features`
RANKING_USER_IO = GraphIO(dict.fromkeys(FEATURES, BATCH), "user")
HISTORY_RANKING_USER_IO = GraphIO(dict.fromkeys((*FEATURES, *HISTORY), BATCH), "user")  # of a ranker with a history
RANKING_HEAD_IO = GraphIO({"user": BATCH, "item_part": ROWS, "cross": ROWS, "row_user": ROWS}, "score")


def to_onnx(module: nn.Module, names: GraphIO, sample: Feed) -> bytes:
    """The module in evaluation mode as an ONNX graph with weights inside.

    sample: an input with at least 2 in every dimension that varies; torch.export fixes sizes of 0 and 1.
    """
    if small := [name for name in names.inputs if len(sample[name]) < 2]:
        raise ValueError(f"the sample for export needs at least 2 rows in {', '.join(small)}")
    dims = {dim: torch.export.Dim(dim) for dim in names.inputs.values()}
    shapes = _as_arguments(module, [{0: dims[dim]} for dim in names.inputs.values()])
    with _evaluating(module), _quiet():
        # Traced here rather than by torch.onnx.export, which falls back to fixed sizes without a word. Strict, since
        # only that keeps the `len` of a tensor dynamic.
        traced = torch.export.export(module, tuple(_tensors(names, sample)), dynamic_shapes=shapes, strict=True)
        program = torch.onnx.export(
            traced,
            (),
            input_names=list(names.inputs),
            output_names=[names.output],
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
            external_data=False,
        )
    assert program is not None
    model = program.model_proto
    _strip(model)
    stabilise_sums(model)
    as_columns(model)
    _name_dimensions(model, names)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def open_session(graph: bytes, folder: Path | None = None) -> ort.InferenceSession:
    """A session as serving runs it: one thread, no spinning.  folder: of the graph's file, where its tables are."""
    options = ort.SessionOptions()
    if folder is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # it warns of initializers that folding has made superfluous
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def run(session: ort.InferenceSession, feed: Feed) -> NDArray[np.float32]:
    """The session's one output."""
    output: NDArray[np.float32] = session.run(None, dict(feed))[0]
    return output


def parity(module: nn.Module, names: GraphIO, graph: bytes, feeds: Iterable[Feed]) -> float:
    """Largest absolute difference between the torch module and the graph over all feeds; NaN if any value is NaN."""
    session = open_session(graph)
    largest = 0.0
    with _evaluating(module), torch.inference_mode():
        for feed in feeds:
            expected = module(*_tensors(names, feed)).numpy()
            found = run(session, feed)
            if found.shape != expected.shape:
                raise ValueError(f"{names.output} is {found.shape} from ONNX and {expected.shape} from torch")
            largest = float(np.maximum(largest, np.abs(found - expected).max(initial=0.0)))  # keeps NaN
    return largest


def resized(names: GraphIO, sample: Feed, sizes: Mapping[str, int]) -> Feed:
    """The sample repeated or cut to the given sizes of its dimensions; row_user keeps pointing into the batch."""
    feed = {name: np.resize(sample[name], (sizes[dim], *sample[name].shape[1:])) for name, dim in names.inputs.items()}
    if "row_user" in feed:
        feed["row_user"] = feed["row_user"] % sizes[BATCH]
    return feed


def size_feeds(names: GraphIO, sample: Feed) -> list[Feed]:
    """The sample in every size that serving may use: 1 to 16 requests, 1 to 3,200 rows."""
    rows = (1, 200, 3200) if ROWS in names.inputs.values() else (0,)
    return [resized(names, sample, {BATCH: batch, ROWS: count}) for batch in (1, 3, 16) for count in rows]


def describe(graphs: Sequence[bytes]) -> list[Tensor]:
    """Inputs and outputs of the graphs, each name once, for the manifest."""
    found: dict[str, Tensor] = {}
    for raw in graphs:
        graph = onnx.load_model_from_string(raw).graph
        for value in [*graph.input, *graph.output]:
            kind = value.type.tensor_type
            dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
            shape: list[int | str] = [dim.dim_param or dim.dim_value for dim in kind.shape.dim]
            found.setdefault(value.name, Tensor(name=value.name, dtype=str(dtype), shape=shape))
    return list(found.values())


def _as_arguments(module: nn.Module, inputs: list[dict[int, Any]]) -> tuple[Any, ...]:
    """One entry for each argument of `forward`: what goes in by `*name` is one, of several."""
    kinds = [parameter.kind for parameter in inspect.signature(module.forward).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL not in kinds:
        return tuple(inputs)
    named = kinds.index(inspect.Parameter.VAR_POSITIONAL)
    rest = tuple(inputs[named:])
    return (*inputs[:named], rest) if rest else tuple(inputs)


def _tensors(names: GraphIO, feed: Feed) -> Iterator[torch.Tensor]:
    return (torch.from_numpy(np.array(feed[name])) for name in names.inputs)


@contextlib.contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode, and afterwards the mode that was there before."""
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences what the exporter says about its own code, and about torchvision, which nothing here uses."""
    registration = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = registration.level
    registration.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.filterwarnings("ignore", "`isinstance\\(treespec, LeafSpec\\)` is deprecated", FutureWarning)
            warnings.filterwarnings("ignore", "# The axis name: .* will not be used", UserWarning)
            yield
    finally:
        registration.setLevel(level)


def _name_dimensions(model: onnx.ModelProto, names: GraphIO) -> None:
    """Puts our names in place of the tracer's symbols."""
    firsts = {value.name: value.type.tensor_type.shape.dim[0] for value in model.graph.input}
    symbols = {firsts[name].dim_param: dim for name, dim in names.inputs.items()}
    for value in [*model.graph.input, *model.graph.output]:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = symbols[dim.dim_param]


def _strip(model: onnx.ModelProto) -> None:
    """Drops what the exporter notes about the source code: stack traces with paths of the machine it ran on."""
    model.doc_string = ""
    del model.metadata_props[:]
    graph = model.graph
    graph.doc_string = ""
    del graph.metadata_props[:]
    for part in [*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer]:
        part.doc_string = ""
        del part.metadata_props[:]
