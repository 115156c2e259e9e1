"""The one part that is compiled; everything else about the package stands in pyproject.toml.

Optional: where there is no C compiler the installation goes on without it, and NumPy does the same, slower.
"""

import numpy as np
from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "models.contract.kernels.compiled",
            ["models/contract/kernels/compiled.pyx"],
            include_dirs=[np.get_include()],
            define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
            # without it a compiler may fuse a product and a sum on Arm: other bits than NumPy's
            extra_compile_args=["-O3", "-g0", "-ffp-contract=off"],
            optional=True,
        )
    ]
)
