"""The one place that decides which form of the kernels runs: the compiled one where it was built, else NumPy's.

Both give the same bits. Without a C compiler at installation, requests take several times the processor time.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models.contract.kernels import plain as kernels

    COMPILED: bool
else:
    try:
        from models.contract.kernels import compiled as kernels

        COMPILED = True
    except ImportError:
        from models.contract.kernels import plain as kernels

        COMPILED = False

ADVICE = "install a C compiler (gcc), then install again: make install, or pip install -e ."

__all__ = ["ADVICE", "COMPILED", "kernels"]
