"""The package's metadata; `pyproject.toml` configures tools only."""

import pathlib
import re

from setuptools import find_packages, setup

here = pathlib.Path(__file__).parent
version = re.search(
  r'^__version__ = "(.+)"$',
  (here / "effarch" / "__init__.py").read_text(),
  re.MULTILINE,
)

test = [
  "beartype",
  "hypothesis",
  "ipykernel",
  "nbclient",
  "nbformat",
  "onnx",
  "onnxruntime",
  "pytest",
  "pytest-xdist",
]

setup(
  name="effarch",
  version=version[1],
  description="Pareto-optimal deep learning models in JAX: find, train, ship",
  long_description=(here / "README.md").read_text(),
  long_description_content_type="text/markdown",
  python_requires=">=3.11",
  packages=find_packages(include=["effarch", "effarch.*"]),
  package_data={"effarch.strategies": ["report.html"]},
  install_requires=[
    "absl-py",
    "ai-edge-litert>=2.3,<3",
    "chex",
    "filelock",
    "flax>=0.12",
    "jax>=0.10",
    "jaxtyping",
    "litert-converter>=0.5,<0.6",
    "matplotlib",
    "ml-collections>=1.1",
    "numpy>=2",
    "optax",
    "orbax-checkpoint>=0.11.36",
    "pillow",
    "plotly>=6",
    "pooch",
    "rich",
    "scikit-learn",
    "scipy",
    "tensorboardX",
  ],
  extras_require={
    "cuda": ["jax[cuda]>=0.10"],
    "tpu": ["jax[tpu]>=0.10"],
    "onnx": ["onnx>=1.18", "onnxruntime>=1.20"],
    "test": test,
    # Linters are pinned: a new release would find new faults in old code.
    "dev": [
      *test,
      "nbstripout",
      "playwright",
      "pre-commit",
      "pyright==1.1.414",
      "ruff==0.17.6",
    ],
  },
)
