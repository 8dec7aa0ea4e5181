"""Whether this machine computes in bfloat16, or only stores it.

A CPU without AVX-512 has no kernels for it: a product of matrices then takes eight times as long
as in float32, which neither autocast nor Muon should choose there. Weights are float32 anyway.
"""

import torch
from torch import Tensor
from torch.optim import _muon


def has_bfloat16() -> bool:
    """A GPU, or a CPU for which oneDNN has bfloat16 kernels."""
    return torch.cuda.is_available() or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def muon_as_fits() -> None:
    """Let torch's Muon, which knows bfloat16 alone, compute in float32 where that is quicker."""
    if not has_bfloat16():
        _muon._zeropower_via_newtonschulz = orthogonal


def orthogonal(
    grad: Tensor, ns_coefficients: tuple[float, float, float], ns_steps: int, eps: float
) -> Tensor:
    """[m, n] with singular values near 1, by Newton-Schulz steps as torch takes them, in float32.

    Args:
        grad: [m, n].
        ns_coefficients: of the quintic: X becomes aX + (bG + cGG)X with G = XXᵀ.
        ns_steps: at least 1.
        eps: the least norm that `grad` is divided by.
    """
    a, b, c = ns_coefficients
    tall = grad.size(0) > grad.size(1)
    found = (grad.T if tall else grad).float()
    found = found / found.norm().clamp(min=eps)
    for _ in range(ns_steps):
        gram = found @ found.T
        found = torch.addmm(found, torch.addmm(gram, gram, gram, beta=b, alpha=c), found, beta=a)
    return found.T if tall else found
