"""Every byte of a bundle belongs to one part."""

from pathlib import Path

from export.sizes import bundle_size
from tests.tiny_bundle import write_tiny_bundle


def test_the_parts_of_a_bundle_add_up_to_its_files(tmp_path: Path) -> None:
    bundle = tmp_path / write_tiny_bundle(tmp_path)
    sizes = bundle_size(bundle)
    assert sum(sizes.values()) == sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file())
    assert sizes["item vectors"] == (bundle / "retrieval/item_vectors.npy").stat().st_size
    graphs = ("ranking/user.onnx", "ranking/head.onnx")
    assert sizes["ranking graphs"] == sum((bundle / name).stat().st_size for name in graphs)
    similarity, neighbours = bundle / "neighbours_similarity.npy", bundle / "neighbours.npy"
    assert sizes["neighbours"] == similarity.stat().st_size + neighbours.stat().st_size
    assert list(sizes.values()) == sorted(sizes.values(), reverse=True)
